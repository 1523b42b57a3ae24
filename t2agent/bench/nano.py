"""What the experts of t2-nano are worth: ``t2agent bench nano``.

For each of several seeds an expert of every domain is trained (or taken from an earlier run's
checkpoint), and all are measured on the same unseen requests: with their own task, with the
others', and dispatched. Blank and swapped images tell whether the images are looked at. The
accuracies are drawn for a terminal and as a chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image
from rich.table import Table

from t2agent.dispatch import Dispatcher, EmbeddingDispatcher, Request
from t2agent.experts.expert import Expert
from t2agent.files import write_figure
from t2agent.models.model import T2Model
from t2agent.nano.experts import train_domain
from t2agent.nano.tasks import DOMAINS, TASKS, conflicting
from t2agent.progress import progress_bar
from t2agent.train import Example
from t2agent.train.evaluation import accuracy

_CONTROLLED = "read"


def without_image(examples: Sequence[Example]) -> list[Example]:
    """The same requests with a blank image each."""
    return [replace(e, image=Image.new("RGB", (64, 64), (240, 240, 240))) for e in examples]


def swapped(examples: Sequence[Example]) -> list[Example]:
    """The same requests, each with the image of the one before it."""
    pictures = [e.image for e in examples]
    pairs = zip(examples, [pictures[-1], *pictures[:-1]], strict=True)
    return [replace(e, image=picture) for e, picture in pairs]


def measure(
    model: T2Model, experts: Mapping[str, Expert], *, requests: int, progress: bool = True
) -> dict[str, Any]:
    """The figures of one set of experts, in plain JSON."""
    for expert in experts.values():
        model.registry.register(expert, replace=True)
    dispatcher = EmbeddingDispatcher(model.registry)
    result = accuracies(model, dispatcher, requests=requests, progress=progress)
    task = TASKS[_CONTROLLED]
    examples = task.sample(requests, seed=0, split="test")
    return {
        "by_expert": {name: dict(scores) for name, scores in result.by_expert.items()},
        "dispatched": dict(result.dispatched),
        "routed": dict(result.routed),
        "blank_image": accuracy(model, task, without_image(examples), _CONTROLLED),
        "swapped_image": accuracy(model, task, swapped(examples), _CONTROLLED),
        "not_above_base": not_above_base(result),
    }


def not_above_base(result: Accuracies) -> float:
    """Share of the pairs (task, other's expert) of conflicting habits in which the wrong expert
    is at or below the base model (0 to 1)."""
    pairs = [(task, other) for task in DOMAINS for other in DOMAINS if conflicting(task, other)]
    scores = result.by_expert
    return mean(scores[task][expert] <= scores[task]["base"] for task, expert in pairs)


def run(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    requests: int = 200,
    work: Path = Path("build/experts"),
    progress: bool = True,
) -> dict[str, Any]:
    """Train (resumably, in ``work``) and measure the experts of all seeds; plain JSON."""
    model = T2Model.from_pretrained("t2-nano")
    per_seed = []
    for seed in seeds:
        experts = {
            name: train_domain(
                model, name, seed=seed, work=work / f"{name}-{seed}", progress=progress
            )
            for name in DOMAINS
        }
        figures = measure(model, experts, requests=requests, progress=progress)
        seconds = {name: e.card.training["seconds"] for name, e in experts.items()}
        per_seed.append({"seed": seed, "train_seconds": seconds, **figures})
    return {"requests": requests, "seeds": per_seed, "summary": summarise(per_seed)}


def summarise(per_seed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds: task -> base, wrong, own and dispatched; the greatest distance of
    dispatched and own; and the controls."""
    tables = [summary(figures["by_expert"], figures["dispatched"]) for figures in per_seed]
    rows = {
        task: {column: mean(table[task][column] for table in tables) for column in COLUMNS}
        for task in DOMAINS
    }
    gap = max(abs(row["dispatched"] - row["right expert"]) for row in rows.values())
    controls = ("blank_image", "swapped_image", "not_above_base")
    return {
        "tasks": rows,
        "dispatch_gap": gap,
        **{key: mean(f[key] for f in per_seed) for key in controls},
    }


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Accuracy by task and by expert.

    by_expert: task -> expert name ("base" for none) -> accuracy; dispatched: task -> accuracy
    with the dispatcher's mixtures, and routed: task -> share of the requests that went to the
    task's own expert.
    """

    by_expert: Mapping[str, Mapping[str, float]]
    dispatched: Mapping[str, float]
    routed: Mapping[str, float]
    requests: int


def accuracies(
    model: T2Model,
    dispatcher: Dispatcher | None,
    *,
    tasks: Sequence[str] = DOMAINS,
    experts: Mapping[str, Any] | None = None,
    requests: int = 200,
    seed: int = 0,
    split: str = "test",
    progress: bool = True,
) -> Accuracies:
    """Measure every task with the base model, every expert and the dispatcher.

    ``experts``: name -> anything that `T2Model.adapted` takes; the registry's domains if None.
    """
    experts = {name: name for name in DOMAINS} if experts is None else experts
    by_expert: dict[str, dict[str, float]] = {}
    chosen: dict[str, float] = {}
    routed: dict[str, float] = {}
    with progress_bar("measuring", len(tasks) * (len(experts) + 2), progress) as bar:
        for name in tasks:
            task = TASKS[name]
            examples = task.sample(requests, seed=seed, split=split)
            by_expert[name] = {}
            for expert, mixture in {"base": None, **experts}.items():
                by_expert[name][expert] = accuracy(model, task, examples, mixture)
                bar.advance(1, task=name)
            if dispatcher is not None:
                asked = [Request(e.prompt, images=int(e.image is not None)) for e in examples]
                mixtures = [decision.mixture for decision in dispatcher.dispatch(asked)]
                chosen[name] = accuracy(model, task, examples, mixtures)
                own = [set(m.weights) == {name} for m in mixtures]
                routed[name] = sum(own) / len(own)
            bar.advance(1, task=name)
    return Accuracies(by_expert, chosen, routed, requests)


COLUMNS = ("base", "wrong expert", "right expert", "dispatched")


def summary(
    by_expert: Mapping[str, Mapping[str, float]], dispatched: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Task -> accuracy of each of ``COLUMNS`` that was measured; the wrong experts' is their mean.

    Arguments as in `Accuracies`.
    """
    rows: dict[str, dict[str, float]] = {}
    for task, scores in by_expert.items():
        wrong = [value for name, value in scores.items() if name not in ("base", task)]
        rows[task] = {"base": scores["base"]}
        if wrong:
            rows[task]["wrong expert"] = mean(wrong)
        if task in scores:
            rows[task]["right expert"] = scores[task]
        if task in dispatched:
            rows[task]["dispatched"] = dispatched[task]
    return rows


def rich_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Tasks down, columns across, accuracies with two decimals."""
    columns: Sequence[str] = list(dict.fromkeys(c for scores in rows.values() for c in scores))
    drawn = Table(title=title)
    drawn.add_column("task")
    for column in columns:
        drawn.add_column(column, justify="right")
    for task, scores in rows.items():
        drawn.add_row(task, *(f"{scores[c]:.2f}" if c in scores else "" for c in columns))
    return drawn


def bar_chart(path: Path, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Write the rows as a PNG of grouped bars."""
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(c for scores in rows.values() for c in scores))
    # A bar of 0.25 inches has room for its number.
    size = max(8.0, 0.36 * len(columns) * len(rows)), 4.4
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(columns)
    for number, column in enumerate(columns):
        known = {i: scores[column] for i, scores in enumerate(rows.values()) if column in scores}
        at = [i - 0.4 + (number + 0.5) * width for i in known]
        heights = list(known.values())
        bars = axes.bar(at, heights, width * 0.92, label=column)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set(xticks=range(len(rows)), xticklabels=list(rows), ylim=(0, 1.08), title=title)
    axes.set_ylabel("right answers, strictly scored")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, ncols=len(columns), loc="outside lower center")
    write_figure(path, figure)
