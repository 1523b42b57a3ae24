"""Conversations with made-up calls, by which a chat template shows what it does with tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from t2agent.replies.format import Ids

Render = Callable[..., str]
"""(messages, generation=bool, and the tools under their name) -> the text that a template makes."""

REFUSALS = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
    RecursionError,
)  # fmt: skip
"""What a template raises for a conversation that it does not take."""

NAMES = ("probe_alpha", "probe_beta", "probe_gamma")
KEYS = ("key_alpha", "key_beta", "key_gamma")
VALUES = ("value_alpha", "value_beta", "value_gamma")
CONTENT, ID = "probe content", "\ue000"

_IDS: Mapping[Ids, Sequence[str]] = {
    # No two have any end in common, of which a template may write as much as it likes.
    "any": tuple(f"call_{name * 12}{name.upper() * 12}" for name in "stu"),
    "nine": ("idalpha00", "idbeta000", "idgamma00"),
    "named": tuple(f"functions.{name}:{i}" for i, name in enumerate(NAMES)),
}
_REQUEST, _RESULT, _OFFERED = "probe request", "probe result", "offered_probe"
_IMAGE = {"type": "image"}


@dataclass(frozen=True, slots=True)
class Probes:
    """What a template makes of calls with one kind of ids and of arguments.

    Texts are None where the template refuses; ids are replaced by the mark ID. offered: the
    template's name for the tools, given as text where `tools_text` holds. parts: the roles whose
    contents it takes as parts.
    """

    render: Render
    offered: str
    tools_text: bool = False
    parts: frozenset[str] = frozenset()
    ids: Ids = "any"
    as_text: bool = False

    def plain(self) -> str | None:
        """A reply without calls."""
        return self._text({"role": "assistant", "content": self._content(CONTENT, "assistant")})

    def calls(self, count: int) -> str | None:
        """A reply of so many calls, each with its own argument."""
        return self._text(self._reply([{KEYS[i]: VALUES[i]} for i in range(count)]))

    def arguments(self, count: int) -> str | None:
        """A reply of one call with so many arguments."""
        return self._text(self._reply([dict(zip(KEYS[:count], VALUES[:count], strict=True))]))

    def hold_id(self, texts: Iterable[str]) -> bool:
        """Whether the end of an id is in any of the texts: a template may cut ids short."""
        ends = [] if self.ids == "named" else [number[-3:] for number in _IDS[self.ids]]
        return any(end in text for end in ends for text in texts)

    def takes_results(self) -> bool:
        """Whether calls with their results are no error."""
        ways = (self._content(_RESULT), _RESULT)
        return any(self._with_result(one, calls=True) is not None for one in ways)

    def shows_results(self, *, calls: bool, text: bool) -> bool:
        """Whether a result is written, and nothing of its form.

        calls: whether the reply before it has a call. text: whether it is a string, though other
        contents are parts.
        """
        found = self._with_result(_RESULT if text else self._content(_RESULT), calls=calls) or ""
        return _RESULT in found and not is_form(found, _RESULT)

    def image_results(self, mark: str | None, *, calls: bool) -> bool:
        """Whether the image of a result is written, as so many marks more than without it."""
        if not mark or not self.parts:
            return False
        given = self._content(_RESULT)
        without, image = (
            (self._with_result(one, calls=calls) or "").count(mark)
            for one in (given, [_IMAGE, *given])
        )
        return image == without + 1

    def shows_tools(self) -> bool:
        """Whether the tools on offer are written."""
        return _OFFERED in (self.with_tools() or "")

    def with_tools(self) -> str | None:
        """A request, with tools on offer."""
        return self._try([self._user()], generation=True)

    def _with_result(self, content: Any, *, calls: bool) -> str | None:
        asked = {"role": "assistant", "content": self._content(CONTENT, "assistant")}
        if calls:
            asked = self._reply([{KEYS[0]: VALUES[0]}])
        number, name = _IDS[self.ids][0], NAMES[0]
        result = {"role": "tool", "content": content, "tool_call_id": number, "name": name}
        return self._try([self._user(), asked, result], generation=True)

    def _text(self, reply: dict[str, Any]) -> str | None:
        text = self._try([self._user(), reply], generation=False)
        if text is None or self.ids == "named":
            return text
        for number in _IDS[self.ids]:
            text = text.replace(number, ID)
        return text

    def _reply(self, arguments: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        calls = [
            {
                "type": "function",
                "id": _IDS[self.ids][i],
                "function": {
                    "name": NAMES[i],
                    "arguments": json.dumps(given) if self.as_text else given,
                },
            }
            for i, given in enumerate(arguments)
        ]
        content = self._content("", "assistant")
        return {"role": "assistant", "content": content, "tool_calls": calls}

    def _user(self) -> dict[str, Any]:
        return {"role": "user", "content": self._content(_REQUEST)}

    def _content(self, text: str, role: str = "user") -> Any:
        return as_parts(text) if role in self.parts else text

    def _try(self, messages: list[dict[str, Any]], *, generation: bool) -> str | None:
        tools: Any = json.dumps(_tools()) if self.tools_text else _tools()
        try:
            return self.render(messages, generation=generation, **{self.offered: tools})
        except REFUSALS:
            return None


def as_parts(text: str) -> list[dict[str, Any]]:
    """A content as a list of parts."""
    return [{"type": "text", "text": text}] if text else []


def is_form(written: str, text: str) -> bool:
    """Whether a template wrote a list of parts as such, as Python or JSON, instead of its text."""
    return re.search(rf"['\"]text['\"]:\s*['\"]{re.escape(text)}", written) is not None


def _tools() -> list[dict[str, Any]]:
    schema = {"type": "object", "properties": {}, "required": []}
    function = {"name": _OFFERED, "description": "A probe.", "parameters": schema}
    return [{"type": "function", "function": function}]
