"""``t2agent experts eval``: what an expert is worth for a task."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import expert_of, registry_of
from t2agent.cli.options import TASK_HELP, ExpertOrFolder, Model, Reward, task_of
from t2agent.cli.start import load

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert
    from t2agent.experts.registry import Registry
    from t2agent.train.evaluation import Evaluation


def evaluate(
    name: ExpertOrFolder,
    task: Annotated[str, typer.Option(metavar="FILE.jsonl|TASK", help=TASK_HELP)],
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="The most examples.")] = 300,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="The examples it is measured on.")
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of examples.")] = 0,
    reward: Reward = "auto",
    save: Annotated[
        bool, typer.Option(help="Write what was measured on its card, unless on split train.")
    ] = True,
    model: Model = "t2-nano",
    as_json: bool = False,
) -> Report:
    """The mean reward of an expert on a task, beside the base model's, each with its interval.

    It is written on the expert's card: once that shows that the expert beats the base model,
    dispatch may choose it by itself.
    """
    # Whatever can be wrong is found before the base model is loaded.
    registry = registry_of(model)
    expert = expert_of(registry, name)
    source = task_of(task, reward, model, needs=(split,))
    base = load(model, show=not as_json)
    from t2agent.train.evaluation import evaluate as measure

    result = measure(base, source, expert, n=n, split=split, seed=seed, progress=not as_json)
    folder = _folder_of(registry, name, expert) if save and split != "train" else None
    if folder is not None:
        _save(folder, expert, f"{source.name}_{split}", result)
    judged = getattr(source, "reward_name", "")
    data = {
        "name": expert.name,
        "saved": folder if folder is None else str(folder),
        "model": model,
        "task": source.name,
        "split": split,
        "seed": seed,
        "judged_by": judged,
        **asdict(result),
    }
    gain = result.gain
    certain = gain.half is not None and abs(gain.mean) > gain.half
    verdict = ("better" if gain.mean > 0 else "worse") if certain else "not told apart"
    text = (
        f"{source.name}, {result.examples} examples of split {split} (95 % intervals)"
        f"{f', judged by {judged}' if judged else ''}\n"
        f"  {expert.name}: reward {result.reward}, right {result.right:.1%}\n"
        f"  base model: reward {result.base}, right {result.base_right:.1%}\n"
        f"  difference: {gain} ({verdict})"
    )
    if folder is not None:
        text += f"\nWritten on its card in {folder}"
    return Report(data, text)


def _folder_of(registry: Registry, name: str, expert: Expert) -> Path | None:
    """The folder whose card may be written: the user's own, not what came with a package or from
    the Hub, where a pin holds it."""
    from t2agent.experts.pins import PIN_FILE

    folder = Path(registry.source(name) if name in registry else name)
    user = registry.user_folder / expert.name
    own = folder == user if name in registry else folder.is_dir()
    return folder if own and not (folder / PIN_FILE).exists() else None


def _save(folder: Path, expert: Expert, key: str, found: Evaluation) -> None:
    from t2agent.experts.eligibility import BASE, EXAMPLES
    from t2agent.experts.folder import write_card

    measured = {
        key: found.reward.mean,
        key + BASE: found.base.mean,
        key + EXAMPLES: found.examples,
    }
    write_card(folder, replace(expert.card, scores={**expert.card.scores, **measured}), expert.z)
