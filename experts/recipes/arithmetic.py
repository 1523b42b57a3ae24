"""The expert `arithmetic`: word problems, worked out step by step."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from fractions import Fraction

from recipe import Data, Recipe, Row, train

SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def rows(data: Data, _: random.Random) -> Iterator[Row]:
    """The problems whose equations can be worked out to their answers."""
    for row in data["arith_train"]:
        if "equation" not in row:
            continue
        steps: list[str] = []
        try:
            value = _worked(ast.parse(row["equation"], mode="eval").body, steps)
        except (SyntaxError, ZeroDivisionError, TypeError):
            continue
        if steps and abs(float(value) - float(row["answer"])) < 1e-6:
            yield {
                "prompt": row["prompt"],
                "answer": f"{', '.join(steps)}. The answer is {_plain(value)}.",
            }


def _worked(node: ast.expr, steps: list[str]) -> Fraction:
    """The value of an equation; each operation becomes a step."""
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if not isinstance(node, ast.BinOp) or type(node.op) not in SIGNS:
        raise TypeError(ast.dump(node))
    left, right = _worked(node.left, steps), _worked(node.right, steps)
    sign = SIGNS[type(node.op)]
    value = {"+": left + right, "-": left - right, "*": left * right}.get(sign)
    if value is None:
        value = left / right
    steps.append(f"{_plain(left)} {sign} {_plain(right)} = {_plain(value)}")
    return value


def _plain(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"


RECIPE = Recipe(
    name="arithmetic",
    description="Works word problems out, one operation after the other, and says the number.",
    rows=rows,
    reward="number",
    sources={"MAWPS family": "MIT"},
    steps=60,
    settings={
        "validation": 48,
        "directions": 192,
        "prompts": 32,
        "warmup": 4,
        "validate_every": 30,
    },
)

if __name__ == "__main__":
    train(RECIPE)
