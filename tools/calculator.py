"""calculator: arithmetic as Python writes it, read from its syntax tree and never evaluated.

Whole numbers, decimals and fractions are exact (0.1 + 0.2 is 0.3); roots, logarithms and angles
are floats. Every value on the way is bounded, so that no expression takes long.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox import nearest
from t2agent.toolbox.content import Arguments, Text, content_tool, shown
from t2agent.toolbox.numbers import written

_MAX_LENGTH = 1000
_MAX_DEPTH = 50
_MAX_DIGITS = 1000
_MAX_BITS = int(_MAX_DIGITS * math.log2(10))
_MAX_FACTORIAL = 449  # 1,000 digits
_MAX_PLACES = 100

Value = Fraction | float

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "π": "pi"})
_ALLOWED = re.compile(r"[0-9A-Za-z.,+\-*/%() ]*", re.ASCII)
# Python would read `2if` or `1.real`, and warn or worse; only an exponent may touch a number.
_GLUED = re.compile(r"[0-9.](?![eE][+-]?[0-9])[A-Za-z]", re.ASCII)
# With blanks around it: 0x10 is no product.
_TIMES = re.compile(r"(?<=[0-9)]) x (?=[0-9(])", re.ASCII)
_CONSTANTS = {"pi": math.pi, "e": math.e}


class CalculatorArguments(Arguments):
    """What the calculator takes."""

    expression: Annotated[Text, Field(description="such as 3 * (4 + 5)")]


def calculator(expression: str) -> str:
    """The value of an arithmetic expression. Raises ToolException where it has none."""
    plain = " ".join(expression.translate(_SIGNS).split()).rstrip("=? ")
    plain = _TIMES.sub("*", plain)
    _check(plain)
    try:
        tree = ast.parse(plain, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise ToolException(
            f"{shown(expression)} is no complete expression ({reason}): write one such as "
            "3 * (4 + 5)"
        ) from error
    try:
        value = _value(tree.body, plain, 0)
    except ZeroDivisionError as error:
        raise ToolException(
            f"{shown(expression)} divides by zero, which has no value: change the divisor"
        ) from error
    except OverflowError as error:
        raise _too_large() from error
    return written(value)


def make() -> BaseTool:
    """The calculator."""
    return content_tool(
        "calculator", "Works out an arithmetic expression.", CalculatorArguments, calculator
    )


def _check(plain: str) -> None:
    """Refuse what is no arithmetic before Python's parser sees it."""
    if not plain:
        raise ToolException("the expression is empty: write one such as 3 * (4 + 5)")
    if len(plain) > _MAX_LENGTH:
        raise ToolException(
            f"the expression has {len(plain):,} characters, and {_MAX_LENGTH:,} are the most: "
            "work it out in parts"
        )
    allowed = _ALLOWED.match(plain)
    if allowed is not None and allowed.end() < len(plain):
        sign = plain[allowed.end()]
        hint = "factorial(5) for 5!" if sign == "!" else "an expression such as 3 * (4 + 5)"
        raise ToolException(
            f"{sign!r} is not understood, but numbers, + - * / // % **, brackets and functions: "
            f"write {hint}"
        )
    if glued := _GLUED.search(plain):
        raise ToolException(
            f"{glued[0]!r} is not understood: put a sign between a number and a name, as 2 * pi"
        )


def _value(node: ast.expr, source: str, depth: int) -> Value:
    if depth > _MAX_DEPTH:
        raise ToolException(
            f"the expression is nested more than {_MAX_DEPTH} deep: work it out in parts"
        )
    # A long sum nests to the left, as deep as it is long: that side is a loop.
    later: list[ast.BinOp] = []
    while isinstance(node, ast.BinOp):
        later.append(node)
        node = node.left
    value = _bounded(_single(node, source, depth + 1))
    for step in reversed(later):
        operator = _OPERATORS.get(type(step.op))
        if operator is None:
            raise _unknown("one of the signs")
        value = _bounded(operator(value, _value(step.right, source, depth + 1)))
    return value


def _single(node: ast.expr, source: str, depth: int) -> Value:
    if isinstance(node, ast.Constant):
        return _number(node, source)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand, source, depth)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Name):
        if node.id.lower() in _CONSTANTS:
            return _CONSTANTS[node.id.lower()]
        if node.id.lower() in _FUNCTIONS:
            raise ToolException(f"{node.id} has no number: write it in brackets, as {node.id}(2)")
        raise _unknown(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id.lower())
        if function is None:
            raise _unknown(node.func.id)
        name, least, most, work = node.func.id, *function
        if not least <= len(node.args) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise ToolException(f"{name} got {len(node.args)} numbers and needs {count}")
        values = [_value(argument, source, depth) for argument in node.args]
        try:
            return work(values)
        except ValueError as error:
            told = ", ".join(map(written, values))[:80]
            raise ToolException(f"{name} of {told} has no value: give another number") from error
    if isinstance(node, ast.Tuple):
        raise ToolException(
            "a comma stands only between a function's numbers: write 1000 for 1,000, and work "
            "out one expression at a time"
        )
    raise _unknown("a word or the order of the signs")


def _number(node: ast.Constant, source: str) -> Value:
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return Fraction(node.value)
    if not isinstance(node.value, float):
        raise _unknown(shown(node.value))
    # As it is written: a float would have lost digits, and 1e999 is none.
    digits = source[node.col_offset : node.end_col_offset]
    mantissa, _, exponent = digits.lower().partition("e")
    if abs(int(exponent or "0")) > _MAX_DIGITS:
        raise _too_large()
    return Fraction(mantissa) * Fraction(10) ** int(exponent or "0")


def _bounded(value: Value) -> Value:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _too_large()
    elif max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _too_large()
    return value


def _too_large() -> ToolException:
    return ToolException(
        f"a number on the way is too large (more than {_MAX_DIGITS:,} digits, or 1e308 with a root "
        "or the like): work with smaller ones"
    )


def _unknown(what: str) -> ToolException:
    return ToolException(
        f"{what} is not understood.{nearest(what, [*_FUNCTIONS, *_CONSTANTS])} There are numbers, "
        f"+ - * / // % **, brackets, pi, e and {', '.join(_FUNCTIONS)}."
    )


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        if isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            # A number of n bits to the k has at least (n - 1) * k: what is too large is not begun.
            if (bits - 1) * abs(exponent) > _MAX_BITS:
                raise _too_large()
        power: Value = base ** int(exponent)
        return power
    if base < 0:
        raise ToolException(
            f"{written(base)} ** {written(exponent)} has no real value: take the root of a "
            "positive number"
        )
    root: float = float(base) ** float(exponent)
    return root


def _root(values: Sequence[Value]) -> Value:
    value = values[0]
    if isinstance(value, Fraction) and value >= 0:
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if top**2 == value.numerator and bottom**2 == value.denominator:
            return Fraction(top, bottom)
    return math.sqrt(value)


def _absolute(values: Sequence[Value]) -> Value:
    return values[0] if values[0] >= 0 else -values[0]


def _least(values: Sequence[Value]) -> Value:
    return min(values)


def _most(values: Sequence[Value]) -> Value:
    return max(values)


def _round(values: Sequence[Value]) -> Value:
    places = _whole(values[1]) if len(values) > 1 else 0
    if abs(places) > _MAX_PLACES:
        raise ToolException(
            f"round got {written(values[1])} places, and {_MAX_PLACES} are the most"
        )
    return round(Fraction(values[0]), places)


def _factorial(values: Sequence[Value]) -> Value:
    number = _whole(values[0])
    if number > _MAX_FACTORIAL:
        raise _too_large()
    return Fraction(math.factorial(number))


def _logarithm(values: Sequence[Value]) -> Value:
    # Of a whole number, Python takes the logarithm whatever its size.
    return math.log(*(int(value) if value == int(value) else value for value in values))


def _whole(value: Value) -> int:
    number = Fraction(value)
    if number.denominator != 1:
        raise ToolException(f"{written(value)} was given where a whole number is needed: round it")
    return number.numerator


def _over_floats(function: Callable[[float], float]) -> Callable[[Sequence[Value]], Value]:
    return lambda values: function(float(values[0]))


def _over_wholes(function: Callable[..., int]) -> Callable[[Sequence[Value]], Value]:
    return lambda values: Fraction(function(*map(_whole, values)))


_OPERATORS: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: lambda a, b: a % b,
    ast.Pow: _power,
}
# Name -> how many numbers it takes at least and at most, and what it does with them.
_FUNCTIONS: dict[str, tuple[int, int, Callable[[Sequence[Value]], Value]]] = {
    "sqrt": (1, 1, _root),
    "abs": (1, 1, _absolute),
    "round": (1, 2, _round),
    "floor": (1, 1, lambda values: Fraction(math.floor(values[0]))),
    "ceil": (1, 1, lambda values: Fraction(math.ceil(values[0]))),
    "min": (1, _MAX_LENGTH, _least),
    "max": (1, _MAX_LENGTH, _most),
    "factorial": (1, 1, _factorial),
    "gcd": (2, 2, _over_wholes(math.gcd)),
    "lcm": (2, 2, _over_wholes(math.lcm)),
    "log": (1, 2, _logarithm),
    "log10": (1, 1, _over_floats(math.log10)),
    "exp": (1, 1, _over_floats(math.exp)),
    "sin": (1, 1, _over_floats(math.sin)),
    "cos": (1, 1, _over_floats(math.cos)),
    "tan": (1, 1, _over_floats(math.tan)),
}
