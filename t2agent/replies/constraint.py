"""What a reply must look like: tool calls in a model's own format, and JSON by a schema.

A constraint is a structural tag of xgrammar: text that is free, and parts that must follow a
grammar.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from t2agent.errors import ConfigError, GrammarError
from t2agent.replies.ebnf import Grammar
from t2agent.replies.format import Parameters, ToolFormat
from t2agent.replies.grammars import grammar
from t2agent.replies.kinds import members
from t2agent.replies.schemas import Schema, is_free, options, parameters
from t2agent.replies.tool_fit import ToolFit

Choice = Literal["auto", "required", "none"]


@dataclass(frozen=True, slots=True)
class NamePrior:
    """How likely a model makes the names of tools of itself: see `t2agent.models.name_prior`.

    Attributes:
        anchor: the text after which a name begins.
        weights: what of a name is written -> the tokens that may follow -> what is taken from the
            logarithms of their probabilities, in nats.
        names: of each of the constraint's names, what follows the anchor.
        ways: of each of them, what of it is written -> the token that follows.
    """

    anchor: bytes
    weights: Mapping[bytes, Mapping[int, float]]
    names: tuple[bytes, ...]
    ways: tuple[Mapping[bytes, int], ...]

    def called(self, written: bytes) -> frozenset[int]:
        """Which of the names a reply so far has."""
        calls = written.split(self.anchor)[1:]
        return frozenset(
            place
            for place, name in enumerate(self.names)
            if any(call.startswith(name) for call in calls)
        )


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a reply must look like: a format of xgrammar's structural tags, as JSON text.

    Equal constraints are compiled once for a model.

    Attributes:
        format: the format.
        marks: texts, other than JSON's own, that end a part of it.
        trigger: the text in a free reply that must be followed by a call; "" for none.
        part: about the longest text that one more token can make necessary.
        tails: what may end its strings and numbers, from any place in them, shortest first.
        exact: the format with the lengths of long strings, which ``format`` leaves free; "" where
            it holds all.
        names: what calls begin with, up to their arguments, one of each tool that may be called.
        before: what the first call begins with before that.
        end: what ends a call, from the end of its last argument.
        separator: what stands between two calls; None where there may be but one.
        prior: what a model makes of the names of itself, which is divided out.
        fit: how well the tools fit the request, in the order of the names.
        said: the texts that values may be from.
        values: what a text about tools' results copies, instead.
        grounding: nats that it costs to leave them: see `t2agent.models.grounding`.
        caution: nats that are taken from the logarithm of the probability that a free reply begins
            with a call.
        beams: beginnings of a greedy reply that are written at once: see `t2agent.models.beams`.
    """

    format: str
    marks: tuple[str, ...] = ()
    trigger: str = ""
    part: str = ""
    tails: tuple[str, ...] = ()
    exact: str = ""
    names: tuple[str, ...] = ()
    before: str = ""
    end: str = ""
    separator: str | None = None
    prior: NamePrior | None = field(default=None, compare=False)
    fit: ToolFit | None = field(default=None, compare=False)
    said: str = field(default="", compare=False)
    values: tuple[str, ...] = field(default=(), compare=False)
    grounding: float = field(default=0.0, compare=False)
    caution: float = field(default=0.0, compare=False)
    beams: int = field(default=1, compare=False)

    @property
    def tag(self) -> str:
        """The structural tag."""
        return _tag(self.format)

    @property
    def exact_tag(self) -> str:
        """That of the exact format; "" where there is none."""
        return self.exact and _tag(self.exact)

    def exactly(self, made: Iterable[Grammar]) -> Constraint:
        """The same with what these grammars, of which it is made, leave to exact ones."""
        found = self.format
        for one in made:
            if one.exact:
                found = found.replace(json.dumps(one.ebnf), json.dumps(one.exact))
        return self if found == self.format else replace(self, exact=found)

    def after(self, thoughts: str, excluded: str = "") -> Constraint:
        """The same for a reply to a prompt that has already begun thoughts: they come first.

        thoughts: what ends them. excluded: a text that they may not hold.
        """
        excludes = [one for one in (thoughts, excluded) if one]
        ended = [
            {"type": "any_text", "excludes": excludes},
            {"type": "const_string", "value": thoughts + "\n\n"},
        ]

        def whole(then: str) -> str:
            return json.dumps({"type": "sequence", "elements": [*ended, json.loads(then)]})

        exact = self.exact and whole(self.exact)
        marks = (*self.marks, thoughts)
        return replace(self, format=whole(self.format), marks=marks, exact=exact)


def _tag(form: str) -> str:
    return f'{{"type": "structural_tag", "format": {form}}}'


def json_constraint(schema: Schema | bool, *, room: float = math.inf) -> Constraint:
    """A JSON value of a schema and nothing else; True for any JSON object.

    room: how large the grammar may be; where more is needed, less is held: see `grammar`.

    Raises GrammarError where the schema is none, or where nothing fits it.
    """
    made = grammar({"type": "object"} if isinstance(schema, bool) else schema, room=room)
    found = Constraint(json.dumps(_grammar(made)), part=made.part, tails=made.tails)
    return found.exactly([made])


def options_constraint(options: Sequence[str]) -> Constraint:
    """One of some texts and nothing else."""
    either = _either([{"type": "const_string", "value": option} for option in options])
    return Constraint(json.dumps(either), part=max(options, key=len))


def text_constraint() -> Constraint:
    """Any text."""
    return Constraint(json.dumps({"type": "any_text"}))


def tools_constraint(
    form: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    choice: Choice | str = "auto",
    parallel: bool = True,
    schema: Schema | None = None,
    room: float = math.inf,
) -> Constraint:
    """Replies that call tools (OpenAI's function tools).

    choice: "auto" for text, calls or both; "required" for at least one call; or the name of the
        tool that must be called.
    parallel: whether a reply may hold several calls; where the format cannot, it may not.
    schema: of the JSON that a reply without calls must be.
    room: how large the grammar may be; where more is needed, less is held: see `grammar`.

    Raises ConfigError for a tool that is not there, and GrammarError, which names the tool and the
    property, where nothing can be made of a tool's parameters.
    """
    named = [tool for tool in tools if choice in ("auto", "required", tool["function"]["name"])]
    if not named:
        raise ConfigError(f"there is no tool {choice!r} to call: bind it, or choose another")
    several = parallel and form.parallel
    functions = [tool["function"] for tool in named]
    room /= len(functions) + (schema is not None)
    held = [_held(form, function, room) for function in functions]
    tags = [_call(form, *one) for one in zip(functions, held, strict=True)]
    section: dict[str, Any] = {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": form.separator,
        "at_least_one": True,
        "stop_after_first": not several,
    }
    if form.before and form.after:
        section = {
            "type": "tag", "begin": form.before, "content": section, "end": form.after,
        }  # fmt: skip
    elif form.before:
        section = _sequence([{"type": "const_string", "value": form.before}, section])
    marks = _marks(form, functions)
    part = _part(form, functions, held, whole=several or choice == "auto")
    grammars = [made for one in held for made in one.made]
    if choice != "auto":
        element, trigger = section, ""
    elif schema is None:
        element, trigger = _free(form, tags, section, several), form.trigger
    else:
        made = grammar(schema, room=room)
        element, trigger = {"type": "or", "elements": [section, _grammar(made)]}, ""
        grammars.append(made)
        part = max(part, made.part, key=len)
    tails = {tail for made in grammars for tail in made.tails}
    return Constraint(
        json.dumps(element),
        marks,
        trigger,
        part,
        tuple(sorted(tails, key=lambda one: (len(one), one))),
        names=tuple(tag["begin"] for tag in tags),
        before=form.before,
        end=("}" if form.parameters is None else "") + form.end,
        separator=form.separator if several else None,
    ).exactly(grammars)


@dataclass(frozen=True, slots=True)
class _Held:
    """What holds the arguments of a tool: an element, and the grammars in it."""

    element: dict[str, Any]
    made: tuple[Grammar, ...]


def _held(form: ToolFormat, function: Mapping[str, Any], room: float) -> _Held:
    schema = parameters(function)
    try:
        if form.parameters is None:
            made = grammar(schema, room=room)
            return _Held(_grammar(made), (made,))
        return _arguments(form, schema, room)
    except GrammarError as error:
        name = function["name"]
        raise GrammarError(
            f"no grammar can be made of tool {name!r}{_culprit(schema)}: {error}"
        ) from error


def _culprit(schema: Schema) -> str:
    """The property that no grammar can be made of, where it is one alone."""
    try:
        found = members(schema)
    except GrammarError:
        return ""  # the message names the place
    for name, one, _ in found:
        try:
            grammar(schema, part=one)
        except GrammarError:
            return f", property {name!r}"
    return ""


def _marks(form: ToolFormat, functions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What ends a part of calls: the calls and a call, where another part might follow; and an
    argument, and the names of those that must be given."""
    marks = _tails(form.after, form.separator + form.begin)
    p = form.parameters
    if p is not None:
        marks += [p.end, *_tails(form.end, p.separator + p.begin)]
        for function in functions:
            required = parameters(function).get("required")
            marks += [f"{key}{p.between}" for key in required or () if isinstance(key, str)]
    return tuple(marks)


def _tails(end: str, another: str) -> list[str]:
    """What is left of the text after each beginning that it has in common with the other."""
    sizes = [size for size in range(len(end)) if another.startswith(end[:size])]
    return [end[size:] for size in sizes]


def _free(
    form: ToolFormat, tags: list[dict[str, Any]], section: dict[str, Any], several: bool
) -> dict[str, Any]:
    """Any text, in which the beginning of calls is followed by calls."""
    if form.before and not form.after:  # calls end the reply
        text = {"type": "any_text", "excludes": [form.trigger]}
        return _sequence([text, _optional(section)])
    return {
        "type": "triggered_tags",
        "triggers": [form.trigger],
        "tags": [section] if form.before else tags,
        "stop_after_first": bool(form.before) or not several,
    }


def _call(form: ToolFormat, function: Mapping[str, Any], held: _Held) -> dict[str, Any]:
    name = str(function["name"])
    if (form.between and form.between in form.name(name)) or not name.strip():
        raise ConfigError(
            f"a tool is named {name!r}, which the model's format of calls cannot tell from what "
            f"follows it, {form.between!r}: give it a name of letters, digits and _"
        )
    begin, elements = form.begin + form.name(name), [held.element]
    number = form.number
    if number is None:
        begin += form.between
    else:
        pattern = {"type": "regex", "pattern": number.pattern}
        if number.after_name:
            begin += number.before
            elements = [pattern, {"type": "const_string", "value": form.between}, *elements]
        else:
            begin += form.between
            elements += [{"type": "const_string", "value": number.before}, pattern]
    content = elements[0] if len(elements) == 1 else {"type": "sequence", "elements": elements}
    return {"type": "tag", "begin": begin, "content": content, "end": form.end}


def _arguments(form: ToolFormat, schema: Schema, room: float) -> _Held:
    """Arguments that stand one by one, each a text or JSON."""
    p = form.parameters
    assert p is not None
    found = members(schema)
    given: list[tuple[dict[str, Any], bool]] = []
    made: list[Grammar] = []
    for key, one, must in found:
        value, inner = _value(schema, key, one, p.end.strip(), room / len(found))
        made += inner
        begin = p.begin + key + p.between
        given.append(({"type": "tag", "begin": begin, "content": value, "end": p.end}, must))
    return _Held(_one_by_one(p, given), tuple(made))


def _one_by_one(p: Parameters, given: list[tuple[dict[str, Any], bool]]) -> dict[str, Any]:
    if not p.separator:
        elements = [tag if must else _optional(tag) for tag, must in given]
        return _sequence(elements)
    ways, skippable = [], True
    for place, (tag, must) in enumerate(given):  # the first that is written has no separator
        if skippable:
            rest = [
                one if also else _optional(one)
                for later, also in given[place + 1 :]
                for one in [{**later, "begin": p.separator + later["begin"]}]
            ]
            ways.append(_sequence([tag, *rest]))
        skippable = skippable and not must
    return _either([*ways, _sequence([])] if skippable else ways)


def _value(
    schema: Schema, key: str, part: Any, end: str, room: float
) -> tuple[dict[str, Any], list[Grammar]]:
    """An argument's value that stands alone: strings as they are, else JSON."""
    told = schema.get("properties")
    kinds = options(told.get(key) if isinstance(told, Mapping) else part, schema)
    if part is True or any(map(is_free, kinds)):
        return {"type": "any_text", "excludes": [end]}, []
    made = grammar(schema, part=part, plain=end, room=room)
    return _grammar(made), [made]


def _part(
    form: ToolFormat, functions: Sequence[Mapping[str, Any]], held: Sequence[_Held], *, whole: bool
) -> str:
    """About the longest text that a token can make necessary. whole: of calls, too."""
    parts = [""]
    p = form.parameters
    for function, one in zip(functions, held, strict=True):
        parts += [made.part for made in one.made]
        if whole:
            some = "".join(made.least for made in one.made)
            if p is not None:
                some += "".join(
                    p.begin + name + p.between + p.end
                    for name, _, must in members(parameters(function))
                    if must
                )
            parts.append(form.write([(str(function["name"]), {})]) + form.separator + some)
    return max(parts, key=len)


def _optional(element: dict[str, Any]) -> dict[str, Any]:
    return {"type": "optional", "content": element}


def _sequence(elements: list[dict[str, Any]]) -> dict[str, Any]:
    if not elements:
        return {"type": "const_string", "value": ""}
    return {"type": "sequence", "elements": elements}


def _either(elements: list[dict[str, Any]]) -> dict[str, Any]:
    return elements[0] if len(elements) == 1 else {"type": "or", "elements": elements}


def _grammar(made: Grammar) -> dict[str, Any]:
    return {"type": "grammar", "grammar": made.ebnf}
