r"""MATH (Hendrycks et al. 2021): competition problems whose answer stands in \boxed{...}.

As the authors ask it; answers are compared as the data set's own script does it (spaces, units,
degrees, dollars, \left and \right, the forms of \frac and \sqrt), and as numbers where both are
numbers: 0.5, \frac12 and 1/2 are the same, 1,000 is 1000. Deviations: the last \boxed{} counts,
and only without one what follows "The answer is"; the authors look for the phrase first. They also
take 50 for 0.5, overlook the kind of brackets and ask sympy whether two formulas are equal (which
evaluates what the model wrote); here formulas must be the same but for their form.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any, ClassVar

from t2agent.errors import ConfigError
from t2agent.tasks.paper.base import RealTask, ask
from t2agent.tasks.paper.rows import Source
from t2agent.tasks.task import Example

_SYSTEM = (
    "Solve the question below by reasoning step by step, and put the final answer within \\boxed{}."
)
_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_PHRASE = re.compile(r"answer is:?\s*(.+?)(?:\.\s|\.?$)", re.IGNORECASE | re.MULTILINE)
_DROPPED = re.compile(
    r"\\left|\\right|\\[bB]igg?[lr]?|(?<!\\)\\[!,;: ]|\^\{?\\circ\}?|\\degree|\\?\$|\\?%|~|\s"
)
_UNITS = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|mathrm)\{[^{}]*\}(?:\^\{?\d\}?)?\.?$")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\{([^{}]*)\}")
_FRACTION = re.compile(r"\\frac(?:\{([^{}]*)\}|(.))(?:\{([^{}]*)\}|(.))")
_ROOT = re.compile(r"\\sqrt([^{\[])")
_SLASH = re.compile(r"(-?\d+)/(-?\d+)", re.ASCII)
_LONGEST = 1000  # characters of a number; Python refuses much longer ones
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?", re.ASCII)
_RATIO = re.compile(r"(-?)\\frac\{(-?\d+)\}\{(-?\d+)\}", re.ASCII)


class Math(RealTask):
    """See the module."""

    name = "math"
    max_tokens = 1024
    source = Source("EleutherAI/hendrycks_math", _SUBJECTS, ("problem", "solution"))
    splits: ClassVar = {"train": "train", "test": "test"}
    key = "problem"

    def example(self, row: dict[str, Any]) -> Example:
        """The problem and its solution with the boxed answer."""
        if boxed(row["solution"]) is None:
            raise ConfigError(
                f"the solution of {row['problem'][:200]!r} has no \\boxed answer; needed rows as "
                f"in {self.source.repository}"
            )
        return Example(ask(_SYSTEM, row["problem"]), row["solution"])

    def score(self, reply: str, example: Example) -> float:
        """1 if the reply's answer is the solution's."""
        said, wanted = final(reply), boxed(example.answer)
        return float(said is not None and wanted is not None and equivalent(said, wanted))


def final(reply: str) -> str | None:
    r"""The answer that a reply settles on: the last \boxed{}, else after "the answer is"."""
    if (answer := boxed(reply)) is not None:
        return answer
    found = _PHRASE.findall(reply)
    return str(found[-1]) if found else None


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{...} (or \fbox{...}, or \boxed 5); None without one."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    rest = text[start:].removeprefix("\\boxed").removeprefix("\\fbox")
    if not rest.lstrip().startswith("{"):
        return rest.split("$")[0].split("\n")[0].strip() or None
    rest = rest.lstrip()
    depth = 0
    for place, character in enumerate(rest):
        if character in "{}" and rest[place - 1 : place] != "\\":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return rest[1:place]
    return None


def equivalent(first: str, second: str) -> bool:
    """Whether two answers are the same but for their form."""
    a, b = normalise(first), normalise(second)
    if a == b:
        return bool(a)
    one, two = _value(a), _value(b)
    if one is not None and two is not None:
        # A decimal is rounded, the rest is exact.
        rounded = "." in a or "." in b
        return math.isclose(one, two, rel_tol=1e-4) if rounded else one == two
    parts, others = _parts(a), _parts(b)
    return (
        len(parts) == len(others) > 1
        and (a[0] in "([") == (b[0] in "([")
        and (a[0] not in "([" or (a[0], a[-1]) == (b[0], b[-1]))
        and all(map(equivalent, parts, others))
    )


def normalise(answer: str) -> str:
    """An answer in the form in which two are compared."""
    text = answer.strip().rstrip(".")
    for old, new in (("\\!", ""), ("{,}", ","), ("\\$", "")):
        text = text.replace(old, new)
    text = _UNITS.sub("", text.strip("$ "))
    text = _DROPPED.sub("", _WRAPPER.sub(r"\1", text))
    text = re.sub(r"\\[td]frac", r"\\frac", text)
    left, equals, right = text.partition("=")
    if equals and len(left) <= 2 and "=" not in right:
        text = right
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = _FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2] or ''}}}{{{m[3] or m[4] or ''}}}", text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    if slash := _SLASH.fullmatch(text):
        text = f"\\frac{{{slash[1]}}}{{{slash[2]}}}"
    return text


def _value(text: str) -> Fraction | None:
    if len(text) > _LONGEST:
        return None
    if ratio := _RATIO.fullmatch(text):
        below = int(ratio[3])
        return Fraction(int(ratio[1] + "1") * int(ratio[2]), below) if below else None
    if _NUMBER.fullmatch(text) and any(c.isdigit() for c in text):
        return Fraction(text.replace(",", "").rstrip("."))
    return None


def _parts(text: str) -> list[str]:
    """The members of a tuple, an interval or a list, split at commas outside of brackets."""
    if len(text) > 1 and text[0] in "([" and text[-1] in ")]":
        text = text[1:-1]
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
