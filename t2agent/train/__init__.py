"""Training experts: tasks, REINFORCE with a KL term to the base model, next-token training.

    expert = train_expert(model, ExampleTask.from_jsonl("puzzles.jsonl"))
    expert.save("puzzles")

    train_expert(model, load_task("gsm8k"))            # a task of the paper, of `REAL_TASKS`
    train_adapter(model, load_task("gsm8k"), rank=8)   # what SVF is compared with, by PEFT

The tasks import in no time; torch is loaded when a function that trains is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from t2agent.tasks.examples import ExampleTask
from t2agent.tasks.paper import REAL_TASKS, load_task
from t2agent.tasks.rewards.texts import contains, exact
from t2agent.tasks.task import Example, Task
from t2agent.train.options import TrainOptions

if TYPE_CHECKING:
    from t2agent.train.metrics import attach_record
    from t2agent.train.module import AdaptedModule
    from t2agent.train.peft import load_adapter, train_adapter
    from t2agent.train.trainer import train_expert

__all__ = [
    "REAL_TASKS",
    "AdaptedModule",
    "Example",
    "ExampleTask",
    "Task",
    "TrainOptions",
    "attach_record",
    "contains",
    "exact",
    "load_adapter",
    "load_task",
    "train_adapter",
    "train_expert",
]

_LAZY = {
    "AdaptedModule": "module",
    "attach_record": "metrics",
    "load_adapter": "peft",
    "train_adapter": "peft",
    "train_expert": "trainer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
