"""Training experts: tasks, REINFORCE with a KL term to the base model, next-token training.

    expert = train_expert(model, ExampleTask.from_jsonl("puzzles.jsonl"))
    expert.save("puzzles")

The tasks import in no time; torch is loaded when `train_expert` is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from t2agent.reward import contains, exact
from t2agent.train.options import TrainOptions
from t2agent.train.task import Example, ExampleTask, Task

if TYPE_CHECKING:
    from t2agent.train.record import attach_record
    from t2agent.train.trainer import train_expert

__all__ = [
    "Example",
    "ExampleTask",
    "Task",
    "TrainOptions",
    "attach_record",
    "contains",
    "exact",
    "train_expert",
]

_LAZY = {"attach_record": "record", "train_expert": "trainer"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
