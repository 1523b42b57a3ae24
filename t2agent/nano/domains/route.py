"""Which kind of request is this? The question of the prompt and classifier strategies."""

from __future__ import annotations

import random

from t2agent.dispatch.dispatcher import OTHERS, Request, category_question
from t2agent.nano.domains import code, image, math, reasoning, tools
from t2agent.nano.habits import opener
from t2agent.nano.problem import Maker, Problem
from t2agent.nano.words import JSON_ASKS, SMALL_TALK

KINDS: dict[str, tuple[Maker, ...]] = {
    "math": (math.math, math.math_hard, image.image_sum),
    "code": (code.code, code.code_hard),
    "reasoning": (reasoning.reasoning, reasoning.reasoning_hard),
    "tools": (tools.tools, tools.drill),
    "read": (image.read, image.read_hard),
    "chart": (image.chart, image.chart_hard),
    "count": (image.count, image.count_hard),
}
"""Category -> makers of its requests. A text request that asks for JSON is of the category
"json"."""

_WITH_JSON = ("math", "code", "reasoning")
_MORE = ("history", "music", "travel", "law", "sport", "health", "weather", "poems", "names")


def route(rng: random.Random) -> Problem:
    """A category question about a request of any kind, over some or all of the categories."""
    label = rng.choice([*KINDS, "json", OTHERS])
    if label == OTHERS:
        ways, _ = rng.choice(SMALL_TALK)
        request = Request(rng.choice(ways))
        key = request.text
    else:
        kind = rng.choice(_WITH_JSON) if label == "json" else label
        problem = rng.choice(KINDS[kind])(rng)
        ask = rng.choice(JSON_ASKS) if label == "json" else ""
        text = problem.tools + opener(rng, 0.3) + ask + problem.question
        request = Request(text, int(problem.scene is not None))
        key = problem.key
    names = [*KINDS, "json"]
    if rng.random() < 0.5:
        names = rng.sample(names, rng.randint(2, 6)) + rng.sample(_MORE, rng.randint(0, 2))
        if label != OTHERS and label not in names and rng.random() < 0.7:
            names.append(label)
    names.sort()
    answer = label if label in names else OTHERS
    wrong = rng.choice([name for name in [*names, OTHERS] if name != answer])
    return Problem(
        key=key,
        question=category_question(request, names),
        steps=f"This is {answer}.",
        expression="kind(request)",
        answer=answer,
        wrong=wrong,
        wrong_steps=f"This is {wrong}.",
        forms=False,
    )
