"""``t2agent experts eval``: what an expert is worth for a task."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import expert_of, registry_of
from t2agent.cli.options import TASK_HELP, ExpertOrFolder, Model, Reward, task_of
from t2agent.cli.start import load


def evaluate(
    name: ExpertOrFolder,
    task: Annotated[str, typer.Option(metavar="FILE.jsonl|TASK", help=TASK_HELP)],
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="The most examples.")] = 300,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="The examples it is measured on.")
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of examples.")] = 0,
    reward: Reward = "exact",
    model: Model = "t2-nano",
    as_json: bool = False,
) -> Report:
    """The mean reward of an expert on a task, beside the base model's, each with its interval."""
    # Whatever can be wrong is found before the base model is loaded.
    expert = expert_of(registry_of(model), name)
    source = task_of(task, reward, model, needs=(split,))
    base = load(model, show=not as_json)
    from t2agent.train.evaluation import evaluate as measure

    result = measure(base, source, expert, n=n, split=split, seed=seed, progress=not as_json)
    data = {
        "name": expert.name,
        "model": model,
        "task": source.name,
        "split": split,
        "seed": seed,
        **asdict(result),
    }
    gain = result.gain
    certain = gain.half is not None and abs(gain.mean) > gain.half
    verdict = ("better" if gain.mean > 0 else "worse") if certain else "not told apart"
    text = (
        f"{source.name}, {result.examples} examples of split {split} (95 % intervals)\n"
        f"  {expert.name}: reward {result.reward}, right {result.right:.1%}\n"
        f"  base model: reward {result.base}, right {result.base_right:.1%}\n"
        f"  difference: {gain} ({verdict})"
    )
    return Report(data, text)
