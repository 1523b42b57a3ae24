"""``t2agent train``: a new expert from a task or from a file of examples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2agent.cli.command import Report, command
from t2agent.cli.options import Model, Settings, parsed
from t2agent.cli.start import load, starting

if TYPE_CHECKING:
    from t2agent.train import Task

_NANO = "t2-nano"


def add_to(app: typer.Typer) -> None:
    """Make ``t2agent train`` known."""
    command(app, "train")(train)


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.jsonl|TASK",
            help='Examples, {"prompt": ..., "answer": ...} a line, or the name of a task: one of '
            "t2-nano's (math, code, reasoning, ...) or of the paper's (gsm8k, mbpp, arc_easy, ..., "
            "which need the library `datasets`). Both have a task math: t2-nano is trained on its "
            "own, any other model on the paper's.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The new expert's name.")],
    method: Annotated[
        Literal["reinforce", "sft"],
        typer.Option(help="Reinforcement learning on rewards, or next-token training on answers."),
    ] = "reinforce",
    steps: Annotated[int, typer.Option(min=1, help="The most updates.")] = 40,
    model: Model = _NANO,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    reward: Annotated[
        Literal["exact", "contains"],
        typer.Option(help="For a FILE: the reply is the answer, or contains it."),
    ] = "exact",
    description: Annotated[str, typer.Option(help="What the expert is for.")] = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the run is kept. The same command goes on with a run that was stopped.",
        ),
    ] = None,
    settings: Settings = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of an expert of that name.")
    ] = False,
    as_json: bool = False,
) -> Report:
    """Train an expert and register it, with its training curve, in the user's folder."""
    hyper = parsed(settings)
    # Whatever can be wrong is found before minutes of work.
    _check(name, method, hyper)
    if not replace:
        _check_free(model, name)
    task = _task(source, reward, model)

    with starting(f"Loading {model}", show=not as_json):
        from t2agent.train import attach_record, train_expert

        base = load(model)
    run = checkpoint or _default_run(model, name)
    expert = train_expert(
        base,
        task,
        method=method,
        steps=steps,
        seed=seed,
        checkpoint=run,
        progress=not as_json,
        name=name,
        description=description,
        **hyper,
    )
    base.registry.register(expert, replace=replace, persist=True)
    folder = Path(base.registry.source(name))
    attach_record(run, folder)
    if checkpoint is None:
        shutil.rmtree(run, ignore_errors=True)
    card = expert.card
    data = {
        "name": name,
        "model": model,
        "folder": str(folder),
        "curve": str(folder / "curve.png"),
        "metrics": str(folder / "metrics.jsonl"),
        "parameters": expert.parameters,
        "scores": dict(card.scores),
        "training": dict(card.training),
    }
    text = (
        f"{name}: {expert.parameters:,} parameters, reward on validation "
        f"{card.scores['val']:.2f} (base model {card.scores['val_base']:.2f}), "
        f"{card.training['steps']} steps in {card.training['seconds']:.0f} s\n"
        f"Saved in {folder}"
    )
    return Report(data, text)


def _task(source: str, reward: Literal["exact", "contains"], model: str) -> Task:
    from t2agent.config import base_slug
    from t2agent.errors import ConfigError
    from t2agent.nano.tasks import TASKS
    from t2agent.train import REAL_TASKS, ExampleTask, load_task

    if source in TASKS and (source not in REAL_TASKS or base_slug(model) == _NANO):
        return TASKS[source]
    if source in REAL_TASKS:
        task = load_task(source)
        for split in ("train", "val"):
            task.size(split)  # reads the data, which may not be there
        return task
    if Path(source).suffix or Path(source).exists():
        return ExampleTask.from_jsonl(source, reward=reward)
    raise ConfigError(
        f"{source!r} is neither a file nor a task; give a JSON-lines file, or one of "
        f"{', '.join(dict.fromkeys([*TASKS, *REAL_TASKS]))}"
    )


def _check(name: str, method: str, hyper: dict[str, Any]) -> None:
    from t2agent.card import check_name
    from t2agent.train.options import options_for

    check_name(name)
    options_for(method, hyper)


def _check_free(model: str, name: str) -> None:
    from t2agent.errors import ExpertExistsError
    from t2agent.registry import Registry

    registry = Registry(model)
    if name in registry:
        raise ExpertExistsError(
            f"an expert {name!r} is registered for {model!r} already "
            f"({registry.source(name)}); give another --name, or --replace"
        )


def _default_run(model: str, name: str) -> Path:
    from t2agent.config import base_slug, home

    return home() / "runs" / base_slug(model) / name
