"""Requests that one of the offered tools serves."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from t2agent.nano.domains import image
from t2agent.nano.domains.known_tools import COMMON, SHIPPED, UNSEEN
from t2agent.nano.domains.toolkit import Arguments, ToolSpec, Value, date, made_up
from t2agent.nano.drawing import Scene
from t2agent.nano.problem import Call, Problem

_TYPES = {int: "integer", str: "string", list: "array"}
_KNOWN = (*SHIPPED, *COMMON)
BY_NAME = {tool.name: tool for tool in SHIPPED}
"""The tools that ship, by name."""
THEN = {"*": "multiply it by", "+": "add", "-": "subtract"}
"""Sign -> how a request goes on with a result."""


def describe(tools: Sequence[ToolSpec]) -> str:
    """The tools as they stand before a request: a line each, as the chat template writes them."""
    rng = random.Random(0)
    lines = []
    for tool in tools:
        drawn = tool.draw(rng)
        keys = ", ".join(f"{key}: {_TYPES[type(drawn[key])]}" for key in tool.parameters)
        lines.append(f"- {tool.name}({keys}): {tool.description}\n")
    return "Tools:\n" + "".join(lines) + "\n"


def call_key(name: str, arguments: Arguments) -> str:
    """The key of a problem that is one call."""
    return f"tools {name} {json.dumps(dict(arguments), sort_keys=True)}"


def _changed(arguments: Arguments, rng: random.Random) -> dict[str, Value]:
    """The arguments with one of them wrong: the slip of a hasty writer."""
    key = rng.choice(list(arguments))
    value = arguments[key]
    wrong = value + 1 if isinstance(value, int) else value[:-1]
    return {**arguments, key: wrong}


def called(
    ask: str,
    calls: Sequence[Call],
    offered: Sequence[ToolSpec],
    *,
    key: str,
    expression: str = "",
    answer: str = "",
    scene: Scene | None = None,
    wrong_call: Call | None = None,
) -> Problem:
    """A problem that calls of the offered tools solve. The answer is the last call's result where
    no other is given, and the expression the question."""
    answer = answer or calls[-1].result
    return Problem(
        key=key,
        question=ask,
        steps=f"The tool says {answer}.",
        expression=expression or ask,
        answer=answer,
        wrong="unknown",
        wrong_steps="There is no tool for it.",
        scene=scene,
        tools=describe(offered),
        calls=tuple(calls),
        wrong_call=wrong_call,
        forms=False,
    )


def calculation(expression: str, rng: random.Random) -> Call:
    """A call of the calculator."""
    return BY_NAME["calculator"].call({"expression": expression}, rng)


def _problem(tool: ToolSpec, others: Sequence[ToolSpec], rng: random.Random) -> Problem:
    drawn = tool.draw(rng)
    offered = [tool, *others]
    rng.shuffle(offered)
    ask = tool.ask(drawn, rng)
    written = ", ".join(f"{key}={json.dumps(value)}" for key, value in drawn.items())
    return called(
        ask,
        [tool.call(drawn, rng)],
        offered,
        key=call_key(tool.name, drawn),
        expression=f"{tool.name}({written})",
        wrong_call=Call(tool.name, _changed(drawn, rng), "error"),
    )


def _others(tool: ToolSpec, most: int, rng: random.Random) -> list[ToolSpec]:
    """Up to ``most`` known tools besides this one."""
    rest = [other for other in _KNOWN if other.name != tool.name]
    return rng.sample(rest, rng.randint(0, most))


def tools(rng: random.Random) -> Problem:
    """One to four known tools, one of them right; the arguments are new."""
    tool = rng.choice(SHIPPED if rng.random() < 0.5 else COMMON)
    return _problem(tool, _others(tool, 3, rng), rng)


def tools_hard(rng: random.Random) -> Problem:
    """A tool that never stood in the corpus."""
    return _problem(rng.choice(UNSEEN), (), rng)


def drill(rng: random.Random) -> Problem:
    """A made-up tool, to learn copying from: a drill for the corpus, not a task."""
    tool = made_up(rng)
    return _problem(tool, _others(tool, 1, rng), rng)


def chain(rng: random.Random) -> Problem:
    """Two calls, the second with the first's result: for the corpus, not a task."""
    if rng.randrange(3) == 0:
        start, days = date(rng), rng.randint(1, 60)
        calls = [BY_NAME["add_days"].call({"date": start, "days": days}, rng)]
        calls.append(BY_NAME["weekday"].call({"date": calls[0].result}, rng))
        ask = rng.choice(
            (
                f"Which weekday is {days} days after {start}?",
                f"What day of the week is {days} days after {start}?",
            )
        )
    else:
        a, b, c = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 99)
        sign, then = rng.choice("*+"), rng.choice("*+-")
        calls = [calculation(f"{a} {sign} {b}", rng)]
        calls.append(calculation(f"{calls[0].result} {then} {c}", rng))
        ask = rng.choice(
            (
                f"Compute {a} {sign} {b}, then {THEN[then]} {c}.",
                f"First work out {a} {sign} {b}, then {THEN[then]} {c}.",
            )
        )
    names = list(dict.fromkeys(call.name for call in calls))
    offered = [BY_NAME[name] for name in names]
    offered += [t for t in rng.sample(_KNOWN, rng.randint(0, 1)) if t.name not in names]
    rng.shuffle(offered)
    wrong_call = Call(calls[0].name, _changed(calls[0].arguments, rng), "error")
    return called(ask, calls, offered, key=f"tools chain {ask}", wrong_call=wrong_call)


def image_call(rng: random.Random) -> Problem:
    """A calculation with what the image shows: for the corpus, not a task."""
    calculator = BY_NAME["calculator"]
    if rng.random() < 0.4:
        seen = image.image_sum(rng)
        text = seen.steps.split(" =")[0]
        ask = rng.choice(("Add the two numbers in the image.", "What is the sum of the numbers?"))
    else:
        seen = image.read(rng)
        number = rng.randint(2, 99)
        sign, ask = rng.choice(
            (
                ("*", f"Multiply the number in the image by {number}."),
                ("+", f"Add {number} to the number in the image."),
                ("-", f"Subtract {number} from the number in the picture."),
            )
        )
        text = f"{seen.answer} {sign} {number}"
    offered = [calculator, *_others(calculator, 1, rng)]
    rng.shuffle(offered)
    return called(
        ask,
        [calculation(text, rng)],
        offered,
        key=seen.key,
        expression=f'calculator(expression="{text}")',
        scene=seen.scene,
        wrong_call=Call("calculator", {"expression": text[:-1] + "0"}, "error"),
    )
