"""``t2agent train``: a new expert from a task or from a file of examples."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.experts.registry import Registry


def train(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE.jsonl|TASK", help=TASK_HELP),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The new expert's name.")],
    method: Annotated[
        Literal["auto", "sft", "reinforce", "sft+reinforce"],
        typer.Option(
            help="Next-token training on answers, reinforcement learning on rewards, or the one "
            "and then the other; auto asks the base model and chooses."
        ),
    ] = "auto",
    steps: Annotated[
        int | None, typer.Option(min=1, help="The most updates.", show_default="40")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of steps: how often the examples are gone through."),
    ] = None,
    model: Model = AUTO,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    reward: Reward = "auto",
    description: Description = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the run is kept, instead of the user's folder. The same command goes on "
            "with a run that was stopped.",
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
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Register the expert even where it is no better than the base model."
        ),
    ] = False,
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="tensorboard|wandb|trackio",
            help="Who is told the figures of each step, too; may be repeated.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show some replies of each validation.")
    ] = False,
    replace: Replace = False,
    eligible: Eligible = None,
    as_json: bool = False,
) -> Report:
    """Train an expert and register it, with its training curve, in the user's folder.

    One that is no better than the base model is left where it was trained.
    """
    from t2agent.train.keeping import alone, first_process, run_folder
    from t2agent.train.options import objectives_of

    hyper = parsed(settings) | ({} if memory is None else {"memory": memory})
    # Whatever can be wrong is found before minutes of work.
    objectives_of(method, hyper)
    if report_to:
        from t2agent.train.trackers import check_trackers

        check_trackers(report_to)
    registry = registry_of(model)
    check_free(registry, name, replace=replace)
    _check_writable(registry)
    task = task_of(source, reward, model, needs=("train", "val"))
    apart: Any = {"near": "near", "none": None}.get(negatives, negatives)
    if negatives not in ("near", "none"):
        apart = task_of(negatives, reward, model, needs=("train",))
    with alone(model, name):
        pass

    base = load(model, show=not as_json and first_process())
    from t2agent.train import attach_record, train_expert
    from t2agent.train.checkpoint import FINISHED

    try:
        expert = train_expert(
            base,
            task,
            method=method,
            steps=steps,
            epochs=epochs,
            seed=seed,
            checkpoint=checkpoint,
            progress=not as_json,
            name=name,
            description=description,
            negatives=apart,
            report_to=report_to,
            verbose=verbose,
            **hyper,
        )
    except KeyboardInterrupt as stopped:
        command = shlex.join(["t2agent", *sys.argv[1:]])
        if first_process():
            typer.echo(f"{stopped or 'stopped'}:\n    {command}", err=True)
        raise typer.Exit(130) from stopped
    if not first_process():  # the first registers and reports
        raise typer.Exit
    run = checkpoint or run_folder(base.name, name)
    card = expert.card
    data = {
        "name": name,
        "model": model,
        "method": card.training["method"],
        "chosen": card.training.get("chosen"),
        "parameters": expert.parameters,
        "scores": dict(card.scores),
        "training": dict(card.training),
    }
    judged = f" ({chosen})" if (chosen := card.training.get("reward")) else ""
    worth, base_worth = (
        f"{card.scores[key]:.2f}, right {card.scores[f'{key}_right']:.0%}"
        for key in ("val", "val_base")
    )
    trained = (
        f"{name}: {expert.parameters:,} parameters, reward{judged} on validation {worth} "
        f"(base model {base_worth}), "
        f"{card.training['method']}, {card.training['steps']} steps in "
        f"{card.training['seconds']:.0f} s"
    )
    if card.scores["val"] <= card.scores["val_base"] and not anyway:
        data["registered"] = False
        how = f"t2agent experts add {run / FINISHED}" if checkpoint is None else "--anyway"
        told = f"Not registered, since it is no better than the base model; {how} does it"
        return Report(data, f"{trained}\n{told}", ok=False)
    base.registry.register(expert, replace=replace, persist=True, eligible=eligible)
    found = base.registry.eligible(name)
    folder = Path(base.registry.source(name))
    attach_record(run, folder)
    if checkpoint is None:
        shutil.rmtree(run, ignore_errors=True)
    data |= {
        "registered": True,
        "folder": str(folder),
        "curve": str(folder / "curve.png"),
        "metrics": str(folder / "metrics.jsonl"),
        "report": str(folder / "report.md"),
        "eligible": found.eligible,
        "eligible_reason": found.reason,
    }
    text = (
        f"{trained}\n"
        f"Dispatched: {'yes' if found.eligible else 'no'}: {found.reason}\n"
        f"Saved in {folder}"
    )
    return Report(data, text)


def _check_writable(registry: Registry) -> None:
    """Raise ConfigError where no expert can be saved."""
    from t2agent.errors import ConfigError

    folder = registry.user_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        written = False
    if not written:
        raise ConfigError(
            f"no expert can be saved in {folder}; make it a folder that can be written, or set "
            "T2AGENT_HOME to one"
        )
