"""Where a command's examples come from: a file, or a task by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from t2agent.train import Task

TASK_HELP = (
    'Examples, {"prompt": ..., "answer": ...} a line, or the name of a task: one of '
    "t2-nano's (math, code, reasoning, ...) or of the paper's (gsm8k, mbpp, arc_easy, ..., "
    "which need the library `datasets`). Both have a task math: t2-nano has its "
    "own, any other model the paper's."
)

Reward = Annotated[
    Literal["exact", "contains"],
    typer.Option(help="For a FILE: the reply is the answer, or contains it."),
]

_NANO = "t2-nano"


def task_of(
    source: str, reward: Literal["exact", "contains"], model: str, *, needs: Sequence[str]
) -> Task:
    """The task that a file or a name stands for; `needs` names splits that it must have.

    Raises:
        ConfigError: it is neither, or its data are not to be had.
    """
    from t2agent.errors import ConfigError
    from t2agent.nano.tasks import TASKS
    from t2agent.paths import base_slug
    from t2agent.train import REAL_TASKS, ExampleTask, load_task

    if source in TASKS and (source not in REAL_TASKS or base_slug(model) == _NANO):
        return TASKS[source]
    if source in REAL_TASKS:
        task = load_task(source)
        for split in needs:
            task.size(split)  # reads the data, which may not be there
        return task
    if Path(source).suffix or Path(source).exists():
        return ExampleTask.from_jsonl(source, reward=reward)
    raise ConfigError(
        f"{source!r} is neither a file nor a task; give a JSON-lines file, or one of "
        f"{', '.join(dict.fromkeys([*TASKS, *REAL_TASKS]))}"
    )
