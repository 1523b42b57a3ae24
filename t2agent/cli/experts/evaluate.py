"""``t2agent experts eval``: what an expert is worth for a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import expert_of, registry_of
from t2agent.cli.options import TASK_HELP, ExpertOrFolder, Model, Reward, task_of
from t2agent.cli.start import load
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from rich.console import RenderableType

    from t2agent.experts.expert import Expert
    from t2agent.experts.registry import Registry
    from t2agent.tasks.task import Task
    from t2agent.train.evaluation import Evaluation


def evaluate(
    name: ExpertOrFolder,
    task: Annotated[str, typer.Option(metavar="FILE.jsonl|TASK", help=TASK_HELP)],
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="The most examples of a split.")] = 300,
    split: Annotated[
        Literal["train", "val", "test", "all"],
        typer.Option(help="The examples it is measured on; all: each split that the task has."),
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of examples.")] = 0,
    reward: Reward = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Write every reply there, the expert's and the base model's, with its reward.",
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option(help="Write what was measured on its card, unless on split train.")
    ] = True,
    model: Model = AUTO,
    as_json: bool = False,
) -> Report:
    """Reward and accuracy of an expert on a task beside the base model's, with intervals.

    They are written on the expert's card: once that shows that the expert beats the base model,
    dispatch may choose it by itself.
    """
    # Whatever can be wrong is found before the base model is loaded.
    registry = registry_of(model)
    expert = expert_of(registry, name)
    source = task_of(task, reward, model, needs=() if split == "all" else (split,))
    splits = _splits_of(source) if split == "all" else [split]
    _check_file(out)
    base = load(model, show=not as_json)
    from t2agent.train.evaluation import evaluate as measure

    results = {
        one: measure(base, source, expert, n=n, split=one, seed=seed, progress=not as_json)
        for one in splits
    }
    if out is not None:
        _write_replies(out, results)
    unseen = {one: found for one, found in results.items() if one != "train"}
    folder = _folder_of(registry, name, expert) if save and unseen else None
    if folder is not None:
        _save(folder, expert, source.name, unseen)
    judged = getattr(source, "reward_name", "")
    figures = {one: found.figures() for one, found in results.items()}
    data = {
        "name": expert.name,
        "saved": folder if folder is None else str(folder),
        "replies": out if out is None else str(out),
        "model": model,
        "task": source.name,
        "split": split,
        "seed": seed,
        "judged_by": judged,
        **({"splits": figures} if split == "all" else figures[split]),
    }
    head = f"{source.name}, 95 % intervals{f', judged by {judged}' if judged else ''}"
    told = [
        *([f"Written on its card in {folder}"] if folder is not None else []),
        *([f"Every reply is in {out}"] if out is not None else []),
    ]
    return Report(data, _shown(head, expert.name, results, told))


def _splits_of(task: Task) -> list[str]:
    """Those that the task has examples of.

    Raises:
        ConfigError: it has none.
    """
    from t2agent.errors import ConfigError
    from t2agent.tasks.task import SPLITS

    why = ""
    found = []
    for split in SPLITS:
        try:
            if task.sample(1, seed=0, split=split):
                found.append(split)
        except ConfigError as error:
            why = f" ({error})"
    if not found:
        raise ConfigError(f"task {task.name!r} has no examples of any split{why}")
    return found


def _check_file(out: Path | None) -> None:
    """Raise ConfigError where nothing can be written."""
    from t2agent.errors import ConfigError

    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ConfigError(f"--out is {out}; give a file in a folder that is there")


def _write_replies(out: Path, results: Mapping[str, Evaluation]) -> None:
    from t2agent.train.metrics import write_rows

    write_rows(
        out, ({"split": split, **row} for split, found in results.items() for row in found.replies)
    )


def _shown(
    head: str, name: str, results: Mapping[str, Evaluation], told: Sequence[str]
) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("split", "examples", "", "reward", "right", box=None, title_justify="left")
    for split, found in results.items():
        gain = found.gain
        certain = gain.half is not None and abs(gain.mean) > gain.half
        verdict = ("better" if gain.mean > 0 else "worse") if certain else "not told apart"
        table.add_row(split, str(found.examples), name, str(found.reward), f"{found.right:.1%}")
        table.add_row("", "", "base model", str(found.base), f"{found.base_right:.1%}")
        table.add_row("", "", "difference", str(gain), verdict)
    return Group(Text(head), table, *map(Text, told))


def _folder_of(registry: Registry, name: str, expert: Expert) -> Path | None:
    """The folder whose card may be written: the user's own, not what came with a package or from
    the Hub, where a pin holds it."""
    from t2agent.experts.pins import PIN_FILE

    folder = Path(registry.source(name) if name in registry else name)
    user = registry.user_folder / expert.name
    own = folder == user if name in registry else folder.is_dir()
    return folder if own and not (folder / PIN_FILE).exists() else None


def _save(folder: Path, expert: Expert, task: str, results: Mapping[str, Evaluation]) -> None:
    from t2agent.experts.eligibility import BASE, EXAMPLES
    from t2agent.experts.folder import write_card

    scores = dict(expert.card.scores)
    for split, found in results.items():
        key = f"{task}_{split}"
        scores |= {
            key: found.reward.mean,
            key + BASE: found.base.mean,
            key + EXAMPLES: found.examples,
            f"{key}_right": found.right,
            f"{key}{BASE}_right": found.base_right,
        }
    write_card(folder, replace(expert.card, scores=scores), expert.z)
