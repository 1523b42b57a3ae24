from __future__ import annotations

import ast
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2agent.toolbox import load_tools
from t2agent.toolbox.numbers import written

Text = Callable[..., str]
(CALCULATOR,) = load_tools("calculator")


def answered(expression: Any) -> str:
    """What a call gives, right or wrong."""
    request = {"type": "tool_call", "name": "calculator", "args": {"expression": expression}}
    return str(CALCULATOR.invoke({**request, "id": "1"}).content)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7 * 3 + 12", "33"),
        ("0.1 + 0.2", "0.3"),
        ("1/3", "0.333333333333"),
        ("10 / 4", "2.5"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("-2 ** 2", "-4"),
        ("2 ** 3 ** 2", "512"),
        ("2 ** -3", "0.125"),
        ("2^10", "1024"),
        ("3 × 4 − 2 ÷ 2 =", "11"),
        ("3 x 4", "12"),
        ("(1 + 2) * (3 + 4)", "21"),
        ("99999999999999999999 * 99999999999999999999", "9999999999999999999800000000000000000001"),
        ("sqrt(16)", "4"),
        ("sqrt(0.25)", "0.5"),
        ("sqrt(2)", "1.41421356237"),
        ("(-sqrt(2)) ** 2", "2"),
        ("8 ** (1/3)", "2"),
        ("abs(-3.50)", "3.5"),
        ("abs(-sqrt(2)) - sqrt(2)", "0"),
        ("round(2.675, 2)", "2.68"),
        ("round(1234, -2)", "1200"),
        ("floor(-1.5) + ceil(1.2)", "0"),
        ("min(3, 1, 2) + max(3, sqrt(2))", "4"),
        ("factorial(20)", "2432902008176640000"),
        ("gcd(12, 18) * lcm(4, 6)", "72"),
        ("log(8, 2)", "3"),
        ("log(10 ** 400) / log(10)", "400"),
        ("log10(1000)", "3"),
        ("exp(0)", "1"),
        ("sin(0) + cos(0) + tan(0)", "1"),
        ("2 * PI", "6.28318530718"),
        ("e", "2.71828182846"),
        ("1e3 + 2.5E-1", "1000.25"),
        (" + ".join(["1"] * 200), "200"),
        ("(" * 40 + "1" + ")" * 40, "1"),
    ],
)
def test_values(ok: Text, expression: str, value: str) -> None:
    assert ok("calculator", {"expression": expression}) == value


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("2 +", "no complete expression"),
        ("(1", "no complete expression"),
        ("3 / 0", "divides by zero"),
        ("3 // 0", "divides by zero"),
        ("3 % 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("1,000 + 2", "write 1000"),
        ("2pi", "2 * pi"),
        ("5!", "factorial(5)"),
        ("fatcorial(3)", "Did you mean 'factorial'"),
        ("sqrt", "sqrt(2)"),
        ("x", "not understood"),
        ("sqrt(-1)", "no value"),
        ("log(0)", "no value"),
        ("factorial(-1)", "no value"),
        ("factorial(1.5)", "whole number"),
        ("(-8) ** 0.5", "no real value"),
        ("sqrt(1, 2)", "needs 1"),
        ("max()", "needs 1 to"),
        ("round(1, 10 ** 9)", "places"),
        ("9 ** 9 ** 9", "too large"),
        ("9 ** -(9 ** 9)", "too large"),
        ("10 ** 500 * 10 ** 600", "too large"),
        ("factorial(10 ** 9)", "too large"),
        ("1e999999999", "too large"),
        ("1e-999999999", "too large"),
        ("exp(1000)", "too large"),
        ("10 ** 400 * sqrt(2)", "too large"),
        ("-" * 900 + "1", "nested"),
        ("1 if 2 else 3", "not understood"),
        ("1 and 2", "not understood"),
        ("(1).real", "not understood"),
        ("(1) .real", "not understood"),
        ("max(*2)", "not understood"),
        ("0x10", "not understood"),
        ("1j", "not understood"),
        ("True", "not understood"),
        ("__import__('os').system('true')", "not understood"),
        ("lambda: 1", "not understood"),
        ("[1 for _ in range(9)]", "not understood"),
        ("1 # 2", "not understood"),
        ("1\0", "not understood"),
        ("2 @ 3", "not understood"),
        ("１ + 1", "not understood"),
        ("1 << 9999999999", "not understood"),
    ],
)
def test_errors_say_what_to_do(refused: Text, expression: str, told: str) -> None:
    assert told in refused("calculator", {"expression": expression})


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 500 + ")" * 500,
        "(" * 999,
        "~" * 999,
        "-(" * 499 + "1",
        "sqrt(" * 100 + "2" + ")" * 100,
        "2**" * 300 + "2",
        "factorial(" * 5 + "3" + ")" * 5,
        "*".join(["9" * 60] * 16),
        "9" * 999,
        "1/" * 400 + "7",
        "1" * 10**6,
        "(" * 10**6,
        "+1" * 10**6,
        "\ud800",
    ],
)
def test_hostile_expressions_are_answered_at_once(
    call: Callable[..., Any], expression: str
) -> None:
    assert call("calculator", {"expression": expression}).content


@pytest.mark.parametrize("arguments", [{}, {"expression": None}, {"expression": [1]}, {"x": "1"}])
def test_wrong_arguments(refused: Text, arguments: dict[str, Any]) -> None:
    told = refused("calculator", arguments)
    assert "called wrongly" in told
    assert "Call it again with expression (a text)" in told


def test_a_number_is_an_expression(ok: Text) -> None:
    assert ok("calculator", {"expression": 5}) == "5"


NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.decimals(0, 1000, places=3).map(str),
)
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} {parts[2]}"
        ),
        st.tuples(inner, st.integers(-3, 3)).map(lambda parts: f"({parts[0]}) ** {parts[1]}"),
        inner.map(lambda one: f"-({one})"),
        inner.map(lambda one: f"abs({one})"),
        st.tuples(inner, inner).map(lambda two: f"max({two[0]}, {two[1]})"),
    ),
    max_leaves=8,
)


class _Exact(ast.NodeTransformer):
    """Python's own reading of an expression, with every number as a Fraction."""

    def __init__(self, source: str) -> None:
        self.source = source

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        # Not the exponents, which Python's Fraction takes as integers.
        text = ast.get_source_segment(self.source, node)
        function = ast.Name("Fraction", ast.Load())
        return ast.copy_location(ast.Call(function, [ast.Constant(text)], []), node)


def by_python(expression: str) -> Fraction:
    tree = ast.fix_missing_locations(_Exact(expression).visit(ast.parse(expression, mode="eval")))
    names = {"Fraction": Fraction, "abs": abs, "max": max}
    return Fraction(eval(compile(tree, "expression", "eval"), names))


@settings(max_examples=200)
@given(EXPRESSIONS)
def test_like_python_with_fractions(expression: str) -> None:
    try:
        wanted = written(by_python(expression))
    except ZeroDivisionError:
        assert "divides by zero" in answered(expression)
        return
    assert answered(expression) == wanted


@settings(max_examples=200)
@given(st.text(alphabet="0123456789+-*/%().,eE spqrtacodfilxgnm!^", max_size=40))
def test_any_signs_give_content(expression: str) -> None:
    assert answered(expression)


@given(st.floats(-700, 700))
def test_like_math_with_floats(number: float) -> None:
    assert float(answered(f"exp({number!r})")) == pytest.approx(math.exp(number), rel=1e-11)
