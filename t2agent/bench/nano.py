"""What the experts of t2-nano are worth: ``t2agent bench nano``.

For each of several seeds an expert of every domain is trained (or taken from an earlier run's
checkpoint), and all are measured on the same unseen requests: with their own task, with the
others', and dispatched. Blank and swapped images tell whether the images are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, mean
from typing import Any

from PIL import Image

from t2agent.dispatch import Decision, Dispatcher, EmbeddingDispatcher, Request
from t2agent.experts.expert import Expert
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
    result = table(model, EmbeddingDispatcher(model.registry), requests=requests, progress=progress)
    task = TASKS[_CONTROLLED]
    examples = task.sample(requests, seed=0, split="test")
    return {
        **asdict(result),
        "blank_image": accuracy(model, task, without_image(examples), _CONTROLLED),
        "swapped_image": accuracy(model, task, swapped(examples), _CONTROLLED),
        "not_above_base": not_above_base(result),
    }


def not_above_base(result: Table) -> float:
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
    tables = [summary(Table(f["by_expert"], f["dispatched"], f["routed"])) for f in per_seed]
    rows = {
        name: {column: mean(table[name][column] for table in tables) for column in COLUMNS}
        for name in DOMAINS
    }
    controls = ("blank_image", "swapped_image", "not_above_base")
    return {
        "tasks": rows,
        "dispatch_gap": max(abs(row["dispatched"] - row["right expert"]) for row in rows.values()),
        **{key: mean(f[key] for f in per_seed) for key in controls},
    }


def decide(dispatcher: Dispatcher, examples: Sequence[Example]) -> list[Decision]:
    """What the dispatcher decides for each example."""
    return dispatcher.dispatch([Request(e.prompt, len(e.images), e.tools) for e in examples])


@dataclass(frozen=True, slots=True)
class Table:
    """Accuracy by task and by expert.

    by_expert: task -> expert name ("base" for none) -> accuracy; dispatched: task -> accuracy
    with the dispatcher's mixtures, and routed: task -> share of the requests that went to the
    task's own expert.
    """

    by_expert: dict[str, dict[str, float]]
    dispatched: dict[str, float]
    routed: dict[str, float]


def table(
    model: T2Model,
    dispatcher: Dispatcher,
    *,
    tasks: Sequence[str] = DOMAINS,
    requests: int = 200,
    progress: bool = True,
) -> Table:
    """Measure every task with the base model, every domain's expert and the dispatcher."""
    found = Table({}, {}, {})
    with progress_bar("measuring", len(tasks) * (len(DOMAINS) + 2), progress) as bar:
        for name in tasks:
            task = TASKS[name]
            examples = task.sample(requests, seed=0, split="test")
            found.by_expert[name] = {}
            for expert in (None, *DOMAINS):
                found.by_expert[name][expert or "base"] = accuracy(model, task, examples, expert)
                bar.advance(1, task=name)
            mixtures = [decision.mixture for decision in decide(dispatcher, examples)]
            found.dispatched[name] = accuracy(model, task, examples, mixtures)
            found.routed[name] = fmean(set(m.weights) == {name} for m in mixtures)
            bar.advance(1, task=name)
    return found


COLUMNS = ("base", "wrong expert", "right expert", "dispatched")


def summary(table: Table) -> dict[str, dict[str, float]]:
    """Task -> accuracy of each of ``COLUMNS``; the wrong experts' is their mean."""
    return {
        task: {
            "base": scores["base"],
            "wrong expert": mean(v for name, v in scores.items() if name not in ("base", task)),
            "right expert": scores[task],
            "dispatched": table.dispatched[task],
        }
        for task, scores in table.by_expert.items()
    }
