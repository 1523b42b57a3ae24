"""How often a task is answered rightly: by the base model, with one expert, with all dispatched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2agent.dispatch import Dispatcher, Request
from t2agent.models.model import T2Model
from t2agent.nano.tasks import DOMAINS, TASKS
from t2agent.progress import progress_bar
from t2agent.train import Example
from t2agent.train.evaluation import accuracy


def dispatched(dispatcher: Dispatcher, examples: Sequence[Example]) -> list[Any]:
    """The mixture that the dispatcher chooses for each example."""
    requests = [Request(e.prompt, images=int(e.image is not None)) for e in examples]
    return [decision.mixture for decision in dispatcher.dispatch(requests)]


@dataclass(frozen=True, slots=True)
class Table:
    """Accuracy by task and by expert.

    by_expert: task -> expert name ("base" for none) -> accuracy; dispatched: task -> accuracy
    with the dispatcher's mixtures, and routed: task -> share of the requests that went to the
    task's own expert.
    """

    by_expert: Mapping[str, Mapping[str, float]]
    dispatched: Mapping[str, float]
    routed: Mapping[str, float]
    requests: int


def table(
    model: T2Model,
    dispatcher: Dispatcher | None,
    *,
    tasks: Sequence[str] = DOMAINS,
    experts: Mapping[str, Any] | None = None,
    requests: int = 200,
    seed: int = 0,
    split: str = "test",
    progress: bool = True,
) -> Table:
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
            for expert, what in {"base": None, **experts}.items():
                by_expert[name][expert] = accuracy(model, task, examples, what)
                bar.advance(1, task=name)
            if dispatcher is not None:
                mixtures = dispatched(dispatcher, examples)
                chosen[name] = accuracy(model, task, examples, mixtures)
                own = [set(m.weights) == {name} for m in mixtures]
                routed[name] = sum(own) / len(own)
            bar.advance(1, task=name)
    return Table(by_expert, chosen, routed, requests)
