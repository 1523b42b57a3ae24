"""The format of a model's tool calls, read off its chat template.

A template that can render an assistant's earlier calls shows the format: it is given calls with
made-up names and arguments, and what it writes around them is the format, whatever the family. So
no table of families is needed, and one that nobody has heard of works. What was read is checked
against what the template makes of one, two and three calls. Templates that drop calls get the
format whose marks they mention, else `GENERAL`:

    <tool_call>
    {"name": "...", "arguments": {...}}
    </tool_call>

`GENERAL` is also for the families whose calls are written otherwise than `ToolFormat` can tell:
as Python (Llama 4, LFM2, OLMo 3), with the name after the arguments, with an id before the name
(Command R7B writes one call only), with JSON inside a JSON string, or with nothing before the name
(Functionary 3.2). Their earlier calls are then written as `GENERAL` too.

Deviation: xgrammar knows 18 families by name. Its grammars are made from the same parts here,
since a checkpoint does not say which of the 18 it is, and its template does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from jinja2.exceptions import TemplateError

from t2agent.replies.format import GENERAL, CallId, Ids, Parameters, ToolFormat

_MARKED: Mapping[str, ToolFormat] = {
    "<|tool_call|>": ToolFormat(
        before="<|tool_call|>[",
        begin='{"name": "',
        between='", "arguments": ',
        end="}",
        separator=", ",
        after="]",
    ),
    "[TOOL_CALLS]": ToolFormat(
        before="[TOOL_CALLS][",
        begin='{"name": "',
        between='", "arguments": ',
        end="}",
        separator=", ",
        after="]",
    ),
}
"""Marks in a template that drops calls -> the format that it speaks of."""

_OFFERS = (("tools", False), ("xml_tools", False), ("functions", True))
"""Names that templates have for the tools, and whether they are to be text then."""
_IDS: tuple[Ids, ...] = ("any", "nine", "named")
_SIZE = 9  # of the ids that a model is to write
_SHORTEST = 3  # characters that tell a call from text
_ATOM = re.compile(r"<[^<>\s]*>|\[/?[A-Z_]+\]|.", re.DOTALL)


def infer(
    render: Render, *, parts: frozenset[str] = frozenset(), image: str | None = None
) -> ToolFormat:
    """The format of a template.

    ``render`` may raise `t2agent.replies.inference.REFUSALS` for what the template refuses.
    parts: the roles whose contents it takes as lists of parts. image: what it writes for one.
    """
    offers = [Probes(render, name, text, parts) for name, text in _OFFERS]
    plain = next((one for one in offers if one.shows_tools()), None)
    shown, plain = plain is not None, plain or offers[0]
    for ids, text in product(_IDS, (False, True)):
        probes = replace(plain, ids=ids, as_text=text)
        found = _from_calls(probes)
        if found is not None and probes.takes_results():
            form, calls = replace(found, ids=ids, as_text=text), True
            break
    else:
        seen = plain.with_tools() or ""
        form = next((one for mark, one in _MARKED.items() if mark in seen), GENERAL)
        probes, calls = plain, False
    in_parts = probes.shows_results(calls=calls, text=False)
    return replace(
        form,
        shows_calls=calls,
        shows_tools=shown,
        tools_name=plain.offered,
        tools_text=plain.tools_text,
        shows_results=in_parts or probes.shows_results(calls=calls, text=True),
        text_results=bool(parts) and not in_parts,
        image_results=in_parts and probes.image_results(image, calls=calls),
    )


def _from_calls(probes: Probes) -> ToolFormat | None:
    plain, one, two = probes.plain(), probes.calls(1), probes.calls(2)
    if plain is None or one is None or CONTENT not in plain:
        return None
    turn = plain[plain.rindex(CONTENT) + len(CONTENT) :]
    header = plain[: plain.rindex(CONTENT)]
    separator = _between_arguments(probes)
    cut = _Cut.of(one, 0, separator)
    if cut is None:
        return None
    # Lines that are left empty before calls are no part of them.
    head = cut.head[len(_common_start(cut.head, header)) :].lstrip("\n")
    forms = [_several(cut, head, turn, two, separator), _single(cut, head, turn)]
    return next((form for form in forms if form is not None and _right(form, probes)), None)


def _single(cut: _Cut, head: str, turn: str) -> ToolFormat | None:
    """For one call in a reply."""
    form = ToolFormat(
        begin=head, between=cut.between, end=_without_turn(cut.tail, turn), parallel=False,
        parameters=cut.parameters,
    )  # fmt: skip
    return _numbered(form)


def _several(cut: _Cut, head: str, turn: str, two: str | None, separator: str) -> ToolFormat | None:
    """For any number of calls in a reply."""
    first = None if two is None else _Cut.of(two, 0, separator)
    second = None if two is None else _Cut.of(two, 1, separator)
    if first is None or second is None:
        return None
    middle = second.head[len(first.head) + len(first.inner) :]
    begin = _common_end(head, middle)
    end = _common_start(middle[: len(middle) - len(begin)], second.tail)
    between_calls = middle[len(end) : len(middle) - len(begin)]
    stripped = begin.lstrip()  # space before a call is the separator's
    before = head[: len(head) - len(stripped)]
    after = _without_turn(second.tail[len(end) :], turn)
    if not (before + after).strip():
        before = after = ""
    if before and len(before.strip()) < _SHORTEST:
        return None  # it stands in other texts, too
    form = ToolFormat(
        before=before, begin=stripped, between=cut.between, end=end, after=after,
        separator=between_calls + begin[: len(begin) - len(stripped)], parameters=cut.parameters,
    )  # fmt: skip
    return _numbered(form)


def _numbered(form: ToolFormat) -> ToolFormat | None:
    """The format with its id told apart; None where ids stand elsewhere than they may."""
    named = re.match(r"(\W*)0(\W.*)", form.between, re.DOTALL)
    if ID not in form.between + form.end and named and form.begin.endswith("functions."):
        return replace(form, between=named[2], number=CallId(named[1], 0, after_name=True))
    if (form.between + form.end).count(ID) > 1:
        return None
    if ID in form.between:
        start, _, rest = form.between.partition(ID)
        return replace(form, between=rest, number=CallId(start, _SIZE, after_name=True))
    if ID in form.end:
        start, _, rest = form.end.partition(ID)
        return replace(form, end=rest, number=CallId(start, _SIZE))
    return form


def _right(form: ToolFormat, probes: Probes) -> bool:
    """Whether the template writes calls as the format tells."""
    texts = (form.before, form.begin, form.between, form.end, form.separator, form.after)
    if len(form.opening.strip()) < _SHORTEST or any(ID in text for text in texts):
        return False
    if probes.hold_id(texts):
        return False
    cases = [
        ([{KEYS[i]: VALUES[i]} for i in range(count)], probes.calls(count))
        for count in ((1, 2, 3) if form.parallel else (1,))
    ]
    cases.append(([dict(zip(KEYS[:2], VALUES[:2], strict=True))], probes.arguments(2)))
    for arguments, text in cases:
        written = form.write(list(zip(NAMES, arguments, strict=False)))
        if form.number is not None and form.number.size:
            for place in range(len(arguments)):
                marked = form.number.before + ID
                written = written.replace(form.number.written(place), marked, 1)
        if form.parameters is None:  # white space in JSON means nothing
            written, text = ("".join((one or "").split()) for one in (written, text))
        if text is None or written not in text:
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Cut:
    """A rendered conversation, cut around one call: head, name between arguments, tail."""

    head: str
    inner: str
    between: str
    tail: str
    parameters: Parameters | None

    @classmethod
    def of(cls, text: str, which: int, separator: str) -> _Cut | None:
        """separator: what stands between two arguments that are not JSON. None where the call is
        not there."""
        name, key, value = NAMES[which], KEYS[which], VALUES[which]
        where = text.rfind(key)
        at = text.rfind(name, 0, max(where, 0))
        if at < 0:
            return None
        found = re.compile(rf'\{{\s*"{key}"\s*:\s*"{value}",?\s*\}}').search(text, at)
        if found is not None:
            between = text[at + len(name) : found.start()]
            return cls(text[:at], text[at : found.end()], between, text[found.end() :], None)
        between = text[at + len(name) : where]
        what = text.find(value, where)
        rest = text[what + len(value) :]
        # A parameter ends with its closing mark, which is the first mark after the value.
        closing = re.match(r"\s*<[^<>\s]*>", rest)
        opening = re.search(r"<[^<>]*>?\s*$", between)
        if what < 0 or closing is None or opening is None:
            return None
        between, close = between[: opening.start()], closing[0]
        if separator and between.endswith(separator) and rest.startswith(close + separator):
            close, separator = close + separator, ""  # it stands after each
        middle = text[where + len(key) : what]
        end = what + len(value) + len(close)
        parameters = Parameters(opening[0], middle, close, separator)
        return cls(text[:at], text[at:end], between, text[end:], parameters)


def _between_arguments(probes: Probes) -> str:
    """What stands between two arguments that are not JSON."""
    text = probes.arguments(2) or ""
    found = re.search(rf"{VALUES[0]}\s*<[^<>\s]*>(\s*)<[^<>]*>?\s*{KEYS[1]}", text)
    return found[1] if found else ""


def _without_turn(tail: str, turn: str) -> str:
    """The text without the end of the turn, which the model's end token stands for."""
    if turn.strip() and turn in tail:
        return tail[: tail.index(turn)]
    common = _common_end(tail, turn)
    return tail[: len(tail) - len(common)]


def _common_start(one: str, other: str) -> str:
    """The longest common beginning that cuts through no mark."""
    return "".join(_common(_atoms(one), _atoms(other)))


def _common_end(one: str, other: str) -> str:
    return "".join(reversed(_common(_atoms(one)[::-1], _atoms(other)[::-1])))


def _common(one: list[str], other: list[str]) -> list[str]:
    size = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        size += 1
    return one[:size]


def _atoms(text: str) -> list[str]:
    return _ATOM.findall(text)


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

_PROBE_IDS: Mapping[Ids, Sequence[str]] = {
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
        ends = [] if self.ids == "named" else [number[-3:] for number in _PROBE_IDS[self.ids]]
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
        number, name = _PROBE_IDS[self.ids][0], NAMES[0]
        result = {"role": "tool", "content": content, "tool_call_id": number, "name": name}
        return self._try([self._user(), asked, result], generation=True)

    def _text(self, reply: dict[str, Any]) -> str | None:
        text = self._try([self._user(), reply], generation=False)
        if text is None or self.ids == "named":
            return text
        for number in _PROBE_IDS[self.ids]:
            text = text.replace(number, ID)
        return text

    def _reply(self, arguments: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        calls = [
            {
                "type": "function",
                "id": _PROBE_IDS[self.ids][i],
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
