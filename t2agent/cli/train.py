"""``t2agent train``: a new expert from a task or from a file of examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report, command
from t2agent.cli.options import Json, Model

if TYPE_CHECKING:
    from t2agent.train import Task


def add_to(app: typer.Typer) -> None:
    """Make ``t2agent train`` known."""
    command(app, "train")(train)


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.jsonl|TASK",
            help='Examples, {"prompt": ..., "answer": ...} a line, or a task of t2-nano.',
        ),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The new expert's name.")],
    method: Annotated[str, typer.Option(help="reinforce, or sft (next token).")] = "reinforce",
    steps: Annotated[int, typer.Option(min=1, help="The most updates.")] = 40,
    model: Model = "t2-nano",
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    reward: Annotated[
        str, typer.Option(help="For a FILE: exact, or contains (the answer).")
    ] = "exact",
    description: Annotated[str, typer.Option(help="What the expert is for.")] = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the run is kept. The same command goes on with a run that was stopped.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter; may be repeated."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of an expert of that name.")
    ] = False,
    as_json: Json = False,
) -> Report:
    """Train an expert and register it, with its training curve, in the user's folder."""
    hyper = _hyper(settings or [])
    task = _task(source, reward)
    # Whatever can be wrong is found before minutes of work.
    _check(name, method, hyper)

    from t2agent.model import T2Model
    from t2agent.registry import Registry
    from t2agent.train import attach_record, train_expert

    if not replace:
        _check_free(Registry(model), name)
    base = T2Model.from_pretrained(model)
    run = checkpoint or _default_run(model, name)
    expert = train_expert(
        base,
        task,
        method=method,  # type: ignore[arg-type]  # checked just above
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


def _hyper(settings: list[str]) -> dict[str, Any]:
    hyper: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint="--set")
        try:
            hyper[key.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            hyper[key.strip().replace("-", "_")] = value
    return hyper


def _task(source: str, reward: str) -> Task:
    from t2agent.errors import ConfigError
    from t2agent.nano.tasks import TASKS
    from t2agent.train import ExampleTask

    if source in TASKS:
        return TASKS[source]
    if Path(source).suffix or Path(source).exists():
        return ExampleTask.from_jsonl(source, reward=reward)  # type: ignore[arg-type]
    raise ConfigError(
        f"{source!r} is neither a file nor a task; give a JSON-lines file, or one of "
        f"{', '.join(TASKS)}"
    )


def _check(name: str, method: str, hyper: dict[str, Any]) -> None:
    from t2agent.card import check_name
    from t2agent.train.options import options_for

    check_name(name)
    options_for(method, hyper)


def _check_free(registry: Any, name: str) -> None:
    from t2agent.errors import ExpertExistsError

    if name in registry:
        raise ExpertExistsError(
            f"an expert {name!r} is registered for {registry.base!r} already "
            f"({registry.source(name)}); give another --name, or --replace"
        )


def _default_run(model: str, name: str) -> Path:
    from t2agent.config import base_slug, home

    return home() / "runs" / base_slug(model) / name
