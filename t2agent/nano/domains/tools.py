"""Requests that one of the offered tools serves."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from t2agent.nano.domains import image
from t2agent.nano.domains.known_tools import COMMON, SHIPPED, UNSEEN
from t2agent.nano.domains.toolkit import (
    Arguments,
    ToolSpec,
    Value,
    compute,
    date,
    made_up,
    pseudo_word,
)
from t2agent.nano.problem import Call, Problem

_TYPES = {int: "integer", str: "string", list: "array"}
_KNOWN = (*SHIPPED, *COMMON)


def describe(tools: Sequence[ToolSpec]) -> str:
    """The tools as they stand before a request: a line each, as the chat template writes them."""
    rng = random.Random(0)
    lines = []
    for tool in tools:
        drawn = tool.draw(rng)
        keys = ", ".join(f"{key}: {_TYPES[type(drawn[key])]}" for key in tool.parameters)
        lines.append(f"- {tool.name}({keys}): {tool.description}\n")
    return "Tools:\n" + "".join(lines) + "\n"


def shown(value: Value) -> str:
    """A value as a request says it: a list without its brackets."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def call_key(name: str, arguments: Arguments) -> str:
    """The key of a problem that is one call."""
    return f"tools {name} {json.dumps(dict(arguments), sort_keys=True)}"


def _changed(arguments: Arguments, rng: random.Random) -> dict[str, Value]:
    """The arguments with one of them wrong: the slip of a hasty writer."""
    key = rng.choice(list(arguments))
    value = arguments[key]
    wrong = value + 1 if isinstance(value, int) else value[:-1]
    return {**arguments, key: wrong}


def _result(tool: ToolSpec, arguments: Arguments, rng: random.Random) -> str:
    if tool.result is not None:
        return str(tool.result(arguments))
    return rng.choice((str(rng.randint(1, 99)), pseudo_word(rng), "done"))


def _problem(tool: ToolSpec, others: Sequence[ToolSpec], rng: random.Random) -> Problem:
    drawn = tool.draw(rng)
    offered = [tool, *others]
    rng.shuffle(offered)
    ask = rng.choice(tool.asks).format(**{key: shown(value) for key, value in drawn.items()})
    result = _result(tool, drawn, rng)
    written = ", ".join(f"{key}={json.dumps(value)}" for key, value in drawn.items())
    return Problem(
        key=call_key(tool.name, drawn),
        question=ask,
        tools=describe(offered),
        steps=f"The tool says {result}.",
        expression=f"{tool.name}({written})",
        answer=result,
        wrong="unknown",
        wrong_steps="There is no tool for it.",
        forms=False,
        calls=(Call(tool.name, drawn, result),),
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
    by_name = {tool.name: tool for tool in SHIPPED}
    kind = rng.randrange(3)
    if kind == 0:
        start, days = date(rng), rng.randint(1, 60)
        first = Call("add_days", {"date": start, "days": days}, "")
        later = str(by_name["add_days"].result(first.arguments))  # type: ignore[misc]
        day = str(by_name["weekday"].result({"date": later}))  # type: ignore[misc]
        ask = rng.choice(
            (
                f"Which weekday is {days} days after {start}?",
                f"What day of the week is {days} days after {start}?",
            )
        )
        calls = (
            Call("add_days", first.arguments, later),
            Call("weekday", {"date": later}, day),
        )
        names = ["add_days", "weekday"]
    else:
        a, b, c = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 99)
        sign, then = rng.choice("*+"), rng.choice("*+-")
        one = f"{a} {sign} {b}"
        value = compute(one)
        two = f"{value} {then} {c}"
        word = {"*": "multiply it by", "+": "add", "-": "subtract"}[then]
        ask = rng.choice(
            (f"Compute {one}, then {word} {c}.", f"First work out {one}, then {word} {c}.")
        )
        calls = (
            Call("calculator", {"expression": one}, str(value)),
            Call("calculator", {"expression": two}, str(compute(two))),
        )
        names = ["calculator"]
    offered = [by_name[name] for name in names]
    offered += [t for t in rng.sample(_KNOWN, rng.randint(0, 1)) if t.name not in names]
    rng.shuffle(offered)
    answer = calls[-1].result
    return Problem(
        key=f"tools chain {ask}",
        question=ask,
        tools=describe(offered),
        steps=f"The tool says {answer}.",
        expression=ask,
        answer=answer,
        wrong="unknown",
        wrong_steps="There is no tool for it.",
        forms=False,
        calls=calls,
        wrong_call=Call(calls[0].name, _changed(calls[0].arguments, rng), "error"),
    )


def image_call(rng: random.Random) -> Problem:
    """A calculation with what the image shows: for the corpus, not a task."""
    calculator = SHIPPED[0]
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
    result = str(compute(text))
    offered = [calculator, *_others(calculator, 1, rng)]
    rng.shuffle(offered)
    return Problem(
        key=seen.key,
        question=ask,
        tools=describe(offered),
        steps=f"The tool says {result}.",
        expression=f'calculator(expression="{text}")',
        answer=result,
        wrong="unknown",
        wrong_steps="There is no tool for it.",
        scene=seen.scene,
        forms=False,
        calls=(Call("calculator", {"expression": text}, result),),
        wrong_call=Call("calculator", {"expression": text[:-1] + "0"}, "error"),
    )
