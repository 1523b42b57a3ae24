"""t2-nano adapting to ten examples with bare answers, as `ChatT2.adapt` does it.

For each task and draw: ten pairs of a request and its bare answer ("7", "lemon", or of tasks whose
requests ask for JSON, {"answer": 7}), and unseen requests on which what was found is compared with
the base model and with the best single expert, as a user could name it (``single``, at weight 1;
which one is best is told by the very requests that it is measured on, so it stands a little high).
``bound`` is the best single expert at the best of several weights, by the same requests: nothing
that a user or a search could know.

A reply is right in any of the corpus's habits, since a bare answer says nothing of habits. Figures
wanted: on no task and draw more than .02 below the base model or the best single expert; math_json
.80. ``seconds`` are of the process, so that they mean the same on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.dispatch.few_shot.search import SearchOptions
from t2agent.dispatch.few_shot.strategy import adapt
from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture
from t2agent.models.generate import generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.nano.habits import as_json, is_right, is_right_call
from t2agent.nano.tasks import TASKS, NanoTask
from t2agent.progress import progress_bar
from t2agent.train import Example

ADAPTED = (
    "math",
    "code",
    "reasoning",
    "json",
    "read",
    "count",
    "math_json",
    "code_json",
    "math_hard",
)
_SCALES = (1.0, 0.5, 1.5)
_EXAMPLES = 10
_ROWS = 128
_TOKENS = 128  # as the search has them: a wordy expert's answer is not cut off in one place alone


def run(
    requests: int = 200, draws: int = 3, quick: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Shares of right replies by task and draw; the summary has their worst differences.

    Args:
        requests: unseen requests a task.
        draws: times that ten examples are drawn.
        quick: twenty requests, one draw, and three of the tasks.
        progress: show a bar on stderr.

    Raises:
        ConfigError: requests or draws is no whole number above 0.
    """
    for name, value in (("requests", requests), ("draws", draws)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} is {value!r}: give a whole number above 0")
    names = ADAPTED[:1] + ADAPTED[2:3] + ADAPTED[6:7] if quick else ADAPTED
    requests, draws = (20, 1) if quick else (requests, draws)
    model = T2Model.from_pretrained("t2-nano")
    tasks = {}
    with progress_bar("adapting", len(names) * draws, progress) as bar:
        for name in names:
            tasks[name] = _task(model, TASKS[name], requests, draws)
            bar.advance(draws)
    found = [(row, draw["found"]) for row in tasks.values() for draw in row["draws"]]
    combined = [draw["found"] for draw in tasks["math_json"]["draws"]]
    return {
        "tasks": tasks,
        "requests": requests,
        "summary": {
            "least_over_base": min(share - row["base"] for row, share in found),
            "least_over_single": min(share - row["single"] for row, share in found),
            "least_over_bound": min(share - row["bound"] for row, share in found),
            "math_json": min(combined),
            "seconds": sum(d["seconds"] for row in tasks.values() for d in row["draws"])
            / len(found),
        },
    }


def _task(model: T2Model, task: NanoTask, requests: int, draws: int) -> dict[str, Any]:
    test = task.sample(requests, seed=77, split="test")
    cards = model.registry.cards(None if test[0].image else "text")
    names = [name for name in cards if name != CLASSIFIER]
    scaled = {scale: [Mixture({name: scale}) for name in names] for scale in _SCALES}
    every = [Mixture(), *chain.from_iterable(scaled.values())]
    known = {one: share(model, task, test, one) for one in every}
    single, bound = (max(these, key=known.__getitem__) for these in (scaled[1.0], every[1:]))
    return {
        "base": known[Mixture()],
        "single": known[single],
        "single is": dict(single.weights),
        "bound": known[bound],
        "bound is": dict(bound.weights),
        "draws": [_draw(model, task, test, seed, known) for seed in range(draws)],
    }


def _draw(
    model: T2Model,
    task: NanoTask,
    test: Sequence[Example],
    seed: int,
    known: dict[Mixture, float],
) -> dict[str, Any]:
    examples = [bare(task, one) for one in task.sample(_EXAMPLES, seed=seed, split="train")]
    begun = time.process_time()
    result = adapt(model, examples, options=SearchOptions(), progress=False)
    seconds = time.process_time() - begun
    if result.mixture not in known:
        known[result.mixture] = share(model, task, test, result.mixture)
    return {
        "found": known[result.mixture],
        "mixture": dict(result.mixture.weights),
        "generated": result.generated,
        "seconds": seconds,
    }


def bare(task: NanoTask, example: Example) -> Example:
    """The example as a user has it, with nothing but the answer."""
    answer = as_json(example.answer) if task.form == "json" else example.answer
    return Example(example.prompt, answer, example.image)


def share(model: T2Model, task: NanoTask, examples: Sequence[Example], mixture: Mixture) -> float:
    """The share of greedy replies that are right, in any habit."""
    options = GenerationOptions(max_tokens=_TOKENS)
    right = 0
    for start in range(0, len(examples), _ROWS):
        part = examples[start : start + _ROWS]
        with model.adapted(mixture):
            replies = generate(model, [Prompt.of(one) for one in part], options)
        right += sum(_right(task, r.text, e) for r, e in zip(replies, part, strict=True))
    return right / len(examples)


def _right(task: NanoTask, reply: str, example: Example) -> bool:
    if task.form == "call":
        return is_right_call(reply, example.answer)
    return is_right(reply, example.answer, None, task.form)
