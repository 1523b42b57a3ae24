"""Options that several commands take, and where their examples come from: a file, or a task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.dispatch import strategies
from t2agent.models import installed

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from t2agent.train import Task


def named_model(given: str | None) -> str | None:
    """The base model that an option names: what "auto" stands for is settled here."""
    from t2agent.errors import ConfigError

    try:
        return None if given is None else installed.named(given)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        callback=named_model,
        help="Base model: smollm2, t2-nano, a name on the Hub, a GGUF file, or a checkpoint's "
        "folder; auto is smollm2 where it is installed.",
    ),
]
ModelOrCard = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        callback=named_model,
        help="Base model; the one on the card if not given.",
    ),
]
ExpertOrFolder = Annotated[
    str, typer.Argument(metavar="NAME|FOLDER", help="The expert, or the folder it lies in.")
]
Description = Annotated[str, typer.Option(help="What the expert is for.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Take the place of an expert of that name.")
]
Targets = Annotated[
    str,
    typer.Option(help="Layers to adapt: all, attention, mlp, all+vision, or a regular expression."),
]
Image = Annotated[
    Path | None, typer.Option("--image", "-i", metavar="FILE", help="An image for the model.")
]
Strategy = Annotated[
    strategies.Strategy | None,
    typer.Option(
        "--dispatch",
        "-d",
        help="How experts are chosen: by likeness to their examples (embedding), by asking the "
        "model (prompt) or its classifier expert (classifier), or as ChatT2.adapt found out from "
        "a few examples (few-shot, embedding+few-shot); off for the base model.",
        show_default="embedding",
    ),
]
Quantized = Annotated[
    bool,
    typer.Option(
        help="Decode by the 4-bit weights of the model's GGUF file, where it has one and runs on a "
        "CPU: as exact as bfloat16, and several times as fast."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Makes sampling repeatable.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated."),
]


def picture(image: Path) -> Picture:
    """The image of ``--image``. Raises ImageRefusedError where it cannot be read."""
    from t2agent.images import read_image_file

    return read_image_file(image)


def parsed(settings: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` strings as a dict; a value is read as JSON and is a string where it is none."""
    values: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint="--set")
        try:
            values[key.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            values[key.strip().replace("-", "_")] = value
    return values


TASK_HELP = (
    'Examples, {"prompt": ..., "answer": ...} a line, or the name of a task: one of '
    "t2-nano's (math, code, reasoning, ...) or of the paper's (gsm8k, mbpp, arc_easy, ..., "
    "which need the library `datasets`). Both have a task math: t2-nano has its "
    "own, any other model the paper's."
)


def _reward(given: str) -> str:
    from t2agent.errors import ConfigError
    from t2agent.tasks.rewards.choice import reward_function

    try:
        reward_function(given)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    return given


Reward = Annotated[
    str,
    typer.Option(
        metavar="NAME|/REGEX/|SUM",
        callback=_reward,
        help="For a FILE, how replies are judged: exact, contains, number, label, f1, json, calls, "
        "must_say, code, a regular expression in slashes, a sum of these with weights "
        "(json*0.8+exact*0.2), or auto: by what the answers look like.",
    ),
]


def task_of(source: str, reward: str, model: str, *, needs: Sequence[str]) -> Task:
    """The task that a file or a name stands for; `needs` names splits that it must have.

    Raises:
        ConfigError: it is neither, or its data are not to be had.
    """
    from t2agent.errors import ConfigError
    from t2agent.nano.tasks import TASKS
    from t2agent.paths import base_slug
    from t2agent.train import REAL_TASKS, ExampleTask, load_task

    if source in TASKS and (source not in REAL_TASKS or base_slug(model) == installed.NANO):
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
