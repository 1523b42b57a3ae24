"""How a model writes tool calls, and `GENERAL`, for one that has no way of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Ids = Literal["any", "nine", "named"]

_MARK = re.compile(r"<[^<>\s]+>|<[^<>\s]+(?==)|\[/?[A-Z][A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class Parameters:
    """How arguments are written that are not JSON: one piece of text for each.

    A parameter is ``begin`` name ``between`` value ``end``; ``separator`` stands between two. A
    string is written as it is, any other value as JSON.
    """

    begin: str
    between: str
    end: str
    separator: str = ""


@dataclass(frozen=True, slots=True)
class CallId:
    """How a call's id is written, where calls are written with one.

    Attributes:
        before: the text before it.
        size: how many letters or digits it has; 0 for the call's number in the reply, from 0.
        after_name: whether it follows the name (and ``between`` follows it) rather than the
            arguments (and ``end`` follows it).
    """

    before: str
    size: int
    after_name: bool = False

    @property
    def pattern(self) -> str:
        """A regular expression for ids, as xgrammar and Python understand it."""
        return "[0-9]{1,4}" if not self.size else f"[a-zA-Z0-9]{{{self.size}}}"

    def written(self, place: int) -> str:
        """The text of the id of a reply's call, ``before`` with it."""
        return f"{self.before}{place:0{self.size}d}" if self.size else f"{self.before}{place}"


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model writes its calls.

    A reply's calls are ``before`` call (``separator`` call)* ``after``; a call is ``begin`` name
    ``between`` arguments ``end``.

    Attributes:
        before, begin, between, end, separator, after: the texts.
        number: how ids of calls are written; None where they are not.
        parameters: how arguments are written where they are not a JSON object.
        parallel: whether one reply may hold several calls.
        shows_tools: whether the template writes the tools that are on offer.
        shows_calls: whether it writes the calls of earlier replies.
        shows_results: whether it writes what tools returned.
        tools_name: the template's name for the tools.
        as_text: whether it wants a call's arguments as JSON text, not as an object.
        tools_text: whether it wants the tools as JSON text, not as objects.
        ids: which ids of calls it takes: "any", "nine" letters or digits, or "named" ones such as
            functions.clock:0, from which it takes the name.
        text_results: whether it wants a result as a string, though other contents as parts.
        image_results: whether it places the images of a result.
    """

    begin: str
    between: str
    end: str
    before: str = ""
    after: str = ""
    separator: str = ""
    number: CallId | None = None
    parameters: Parameters | None = None
    parallel: bool = True
    shows_tools: bool = False
    shows_calls: bool = False
    shows_results: bool = False
    tools_name: str = "tools"
    as_text: bool = False
    tools_text: bool = False
    ids: Ids = "any"
    text_results: bool = False
    image_results: bool = False

    @property
    def opening(self) -> str:
        """What every reply with calls has before the first name."""
        return self.before + self.begin

    @property
    def trigger(self) -> str:
        """The mark that `opening` begins with, which stands in no other text; else all that is
        the same for every number of calls."""
        found = _MARK.match(self.opening)
        whole = self.before or self.begin
        return found[0] if found and found[0].endswith((">", "]")) else whole

    @property
    def marks(self) -> frozenset[str]:
        """The marks in its texts, such as <tool_call>."""
        p = self.parameters
        texts = [self.before, self.begin, self.between, self.end, self.separator, self.after]
        texts += [p.begin, p.between, p.end] if p else []
        texts += [self.number.before] if self.number else []
        return frozenset(mark for text in texts for mark in _MARK.findall(text))

    def name(self, name: str) -> str:
        """A tool's name as a call has it."""
        quoted = self.begin.endswith('"') and self.between.startswith('"')
        return json.dumps(name, ensure_ascii=False)[1:-1] if quoted else name

    def read_name(self, written: str) -> str:
        """The tool's name that `name` has written so."""
        if not (self.begin.endswith('"') and self.between.startswith('"')):
            return written
        try:
            return str(json.loads(f'"{written}"', strict=False))
        except ValueError:
            return written

    def write(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        """The text of calls, (name, arguments) each."""
        written = []
        for place, (name, given) in enumerate(calls):
            number = "" if self.number is None else self.number.written(place)
            first, second = (number, "") if self.number and self.number.after_name else ("", number)
            written.append(
                f"{self.begin}{self.name(name)}{first}{self.between}{self.arguments(given)}"
                f"{second}{self.end}"
            )
        return self.before + self.separator.join(written) + self.after if written else ""

    def arguments(self, given: Mapping[str, Any]) -> str:
        """The text of a call's arguments."""
        if self.parameters is None:
            return json.dumps(dict(given), ensure_ascii=False)
        p = self.parameters
        return p.separator.join(
            f"{p.begin}{key}{p.between}{as_text(value)}{p.end}" for key, value in given.items()
        )

    def without_end(self, ends: Sequence[str]) -> ToolFormat:
        """The format of a reply whose last text is one of the tokens that end replies: the token
        is no part of the text then."""
        for end in filter(None, ends):
            if self.after.endswith(end):
                return replace(self, after=self.after.removesuffix(end))
            if not self.after and self.end.endswith(end):
                return replace(self, end=self.end.removesuffix(end), parallel=False)
        return self


def as_text(value: Any) -> str:
    """An argument that stands alone: a string as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


GENERAL = ToolFormat(
    begin='<tool_call>\n{"name": "',
    between='", "arguments": ',
    end="}\n</tool_call>",
    separator="\n",
)
"""For templates that show none of their own."""
