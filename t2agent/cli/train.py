"""``t2agent train``: a new expert from a task or from a file of examples."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import check_free, registry_of
from t2agent.cli.experts.registry import Eligible
from t2agent.cli.options import (
    TASK_HELP,
    Description,
    Model,
    Replace,
    Reward,
    Settings,
    parsed,
    task_of,
)
from t2agent.cli.start import load


def train(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE.jsonl|TASK", help=TASK_HELP),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The new expert's name.")],
    method: Annotated[
        Literal["reinforce", "sft"],
        typer.Option(help="Reinforcement learning on rewards, or next-token training on answers."),
    ] = "reinforce",
    steps: Annotated[int, typer.Option(min=1, help="The most updates.")] = 40,
    model: Model = "t2-nano",
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    reward: Reward = "exact",
    description: Description = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the run is kept. The same command goes on with a run that was stopped.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The most that training may hold, such as 2GB."),
    ] = None,
    settings: Settings = None,
    negatives: Annotated[
        str,
        typer.Option(
            metavar="near|none|FILE.jsonl|TASK",
            help="What the expert is not for, so that its neighbours' requests are left alone: "
            "requests made of its examples' words, or those of a task that the base model answers "
            "rightly.",
        ),
    ] = "near",
    replace: Replace = False,
    eligible: Eligible = None,
    as_json: bool = False,
) -> Report:
    """Train an expert and register it, with its training curve, in the user's folder."""
    from t2agent.paths import base_slug, home
    from t2agent.train.options import options_for

    hyper = parsed(settings) | ({} if memory is None else {"memory": memory})
    # Whatever can be wrong is found before minutes of work.
    options_for(method, hyper)
    check_free(registry_of(model), name, replace=replace)
    task = task_of(source, reward, model, needs=("train", "val"))
    apart: Any = {"near": "near", "none": None}.get(negatives, negatives)
    if negatives not in ("near", "none"):
        apart = task_of(negatives, reward, model, needs=("train",))

    own_run = home() / "runs" / base_slug(model) / name
    with _alone(own_run, name):
        base = load(model, show=not as_json)
        from t2agent.train import attach_record, train_expert

        run = checkpoint or own_run
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
            negatives=apart,
            **hyper,
        )
        base.registry.register(expert, replace=replace, persist=True, eligible=eligible)
        found = base.registry.eligible(name)
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
        "eligible": found.eligible,
        "eligible_reason": found.reason,
        "training": dict(card.training),
    }
    text = (
        f"{name}: {expert.parameters:,} parameters, reward on validation "
        f"{card.scores['val']:.2f} (base model {card.scores['val_base']:.2f}), "
        f"{card.training['steps']} steps in {card.training['seconds']:.0f} s\n"
        f"Dispatched: {'yes' if found.eligible else 'no'}: {found.reason}\n"
        f"Saved in {folder}"
    )
    return Report(data, text)


def _alone(run: Path, name: str) -> AbstractContextManager[object]:
    """Hold the name of a training. Raises ExpertExistsError where another process trains it."""
    from filelock import FileLock, Timeout

    from t2agent.errors import ExpertExistsError

    run.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.parent / f".{name}.lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise ExpertExistsError(
            f"another process is training an expert {name!r} for this model: wait for it, or give "
            "another name"
        ) from error
