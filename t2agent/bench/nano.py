"""What the experts of t2-nano are worth: ``t2agent bench nano``.

For each of several seeds an expert of every domain is trained (or taken from an earlier run's
checkpoint), and all are measured on the same unseen requests: with their own task, with the
others', and dispatched. Blank and swapped images tell whether the images are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from t2agent.bench.nano_accuracy import Table, table
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.nano.experts import train_domain
from t2agent.nano.tasks import DOMAINS, TASKS, conflicting
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
        "by_expert": {name: dict(scores) for name, scores in result.by_expert.items()},
        "dispatched": dict(result.dispatched),
        "routed": dict(result.routed),
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
    rows = {}
    for name in DOMAINS:
        tables = [figures["by_expert"][name] for figures in per_seed]
        wrong = [v for t in tables for k, v in t.items() if k not in ("base", name)]
        rows[name] = {
            "base": mean(t["base"] for t in tables),
            "wrong expert": mean(wrong),
            "right expert": mean(t[name] for t in tables),
            "dispatched": mean(figures["dispatched"][name] for figures in per_seed),
        }
    gap = max(abs(row["dispatched"] - row["right expert"]) for row in rows.values())
    controls = ("blank_image", "swapped_image", "not_above_base")
    return {
        "tasks": rows,
        "dispatch_gap": gap,
        **{key: mean(f[key] for f in per_seed) for key in controls},
    }
