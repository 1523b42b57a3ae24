"""How often a task is answered rightly: by the base model, with one expert, with all dispatched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from t2agent.config import GenerationOptions
from t2agent.dispatch import Dispatcher, Request
from t2agent.generate import Prompt, generate
from t2agent.model import T2Model
from t2agent.nano.tasks import DOMAINS, TASKS
from t2agent.progress import progress_bar
from t2agent.reward import scores
from t2agent.train import Example, Task

_ROWS = 50  # requests in one batch
_MAX_TOKENS = 128  # of a reply, where the task says nothing


def replies(model: T2Model, task: Task, examples: Sequence[Example], what: Any = None) -> list[str]:
    """Greedy replies. ``what``: a mixture for all (as `T2Model.adapted` takes it), or a list of
    one for each example."""
    texts = [""] * len(examples)
    options = GenerationOptions(max_tokens=getattr(task, "max_tokens", _MAX_TOKENS))
    groups: dict[Any, list[int]] = {}
    for place in range(len(examples)):
        groups.setdefault(what[place] if isinstance(what, list) else what, []).append(place)
    for one, places in groups.items():
        # Many tokens share the adapted weights, so it saves time to form them.
        merge = one is not None and model.writable
        with model.merged(one, keep=False) if merge else model.adapted(one):
            for start in range(0, len(places), _ROWS):
                rows = places[start : start + _ROWS]
                prompts = [Prompt.user(examples[k].prompt, examples[k].image) for k in rows]
                for k, generation in zip(rows, generate(model, prompts, options), strict=True):
                    texts[k] = generation.text
    return texts


def accuracy(model: T2Model, task: Task, examples: Sequence[Example], what: Any = None) -> float:
    """Share of the examples that are answered rightly (0 to 1).

    Right is what earns a reward above 0; of a task with ``scores`` or ``score`` (0 to 1, as
    `RealTask` has them), the mean score counts instead.
    """
    return mean(_right(task, replies(model, task, examples, what), examples))


def _right(task: Task, texts: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """How right each reply is, from 0 to 1."""
    if callable(together := getattr(task, "scores", None)):
        return list(together(texts, examples))
    if one := getattr(task, "score", None):
        return [one(*pair) for pair in zip(texts, examples, strict=True)]
    return [float(value > 0) for value in scores(task, texts, examples)]


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
