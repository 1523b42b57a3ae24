"""What a reply must look like: tool calls in a model's own format, and JSON by a schema.

A constraint is a structural tag of xgrammar: text that is free, and parts that must follow a
grammar.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from t2agent.errors import ConfigError, GrammarError
from t2agent.replies.format import ToolFormat
from t2agent.replies.schemas import (
    LETTER,
    Schema,
    bounded,
    choices,
    is_free,
    is_text,
    least,
    longest_part,
    options,
    parameters,
)
from t2agent.replies.schemas import properties as properties_of

Choice = Literal["auto", "required", "none"]
_SPACE = 1  # unbounded white space made most outputs of a weak model run out of tokens


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a reply must look like: a format of xgrammar's structural tags, as JSON text.

    Equal constraints are compiled once for a model.

    Attributes:
        format: the format.
        marks: texts, other than JSON's own, that end a part of it.
        trigger: the text in a free reply that must be followed by a call; "" for none.
        part: about the longest text that one more token can make necessary.
    """

    format: str
    marks: tuple[str, ...] = ()
    trigger: str = ""
    part: str = ""

    @property
    def tag(self) -> str:
        """The structural tag."""
        return f'{{"type": "structural_tag", "format": {self.format}}}'

    def after(self, thoughts: str, excluded: str = "") -> Constraint:
        """The same for a reply to a prompt that has already begun thoughts: they come first.

        thoughts: what ends them. excluded: a text that they may not hold.
        """
        excludes = [one for one in (thoughts, excluded) if one]
        ended = [
            {"type": "any_text", "excludes": excludes},
            {"type": "const_string", "value": thoughts + "\n\n"},
        ]
        whole = {"type": "sequence", "elements": [*ended, json.loads(self.format)]}
        return replace(self, format=json.dumps(whole), marks=(*self.marks, thoughts))


def json_constraint(schema: Schema | bool) -> Constraint:
    """A JSON value of a schema and nothing else; True for any JSON object.

    Raises GrammarError where the schema is no JSON.
    """
    given: Schema = {"type": "object"} if isinstance(schema, bool) else schema
    return Constraint(_dumped(_schema(given)), part=longest_part(given, given))


def tools_constraint(
    form: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    choice: Choice | str = "auto",
    parallel: bool = True,
    schema: Schema | None = None,
) -> Constraint:
    """Replies that call tools (OpenAI's function tools).

    choice: "auto" for text, calls or both; "required" for at least one call; or the name of the
        tool that must be called.
    parallel: whether a reply may hold several calls; where the format cannot, it may not.
    schema: of the JSON that a reply without calls must be.

    Raises ConfigError for a tool that is not there, and GrammarError where a tool's parameters
    are no JSON.
    """
    named = [tool for tool in tools if choice in ("auto", "required", tool["function"]["name"])]
    if not named:
        raise ConfigError(f"there is no tool {choice!r} to call: bind it, or choose another")
    several = parallel and form.parallel
    functions = [tool["function"] for tool in named]
    tags = [_call(form, function) for function in functions]
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
    part = _part(form, functions, whole=several or choice == "auto")
    if choice != "auto":
        return Constraint(_dumped(section), marks, part=part)
    if schema is None:
        return Constraint(_dumped(_free(form, tags, section, several)), marks, form.trigger, part)
    both = {"type": "or", "elements": [section, _schema(schema)]}
    return Constraint(_dumped(both), marks, part=max(part, longest_part(schema, schema), key=len))


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


def _call(form: ToolFormat, function: Mapping[str, Any]) -> dict[str, Any]:
    name = str(function["name"])
    if (form.between and form.between in form.name(name)) or not name.strip():
        raise ConfigError(
            f"a tool is named {name!r}, which the model's format of calls cannot tell from what "
            f"follows it, {form.between!r}: give it a name of letters, digits and _"
        )
    begin, elements = form.begin + form.name(name), [_arguments(form, parameters(function))]
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


def _arguments(form: ToolFormat, schema: Schema) -> dict[str, Any]:
    p = form.parameters
    if p is None:
        return _schema(schema)
    required = schema.get("required")
    needed = required if isinstance(required, list | tuple) else ()
    given: list[tuple[dict[str, Any], bool]] = [
        ({"type": "tag", "begin": p.begin + key + p.between, "content": _value(one, schema, p.end),
          "end": p.end}, key in needed)
        for key, one in properties_of(schema).items()
    ]  # fmt: skip
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


def _value(schema: Any, root: Schema, end: str) -> dict[str, Any]:
    """An argument's value that stands alone: strings as they are, else JSON."""
    kinds = options(schema, root)
    free = {"type": "any_text", "excludes": [end.strip()]}
    if any(map(is_free, kinds)):
        return free
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
    ways: list[dict[str, Any]] = []
    for kind in kinds:
        allowed = choices(kind)
        if not is_text(kind):
            ways.append(_schema({**kind, **shared}))
        elif allowed is not None:
            ways += [{"type": "const_string", "value": one} for one in allowed]
        elif isinstance(kind.get("pattern"), str):
            pattern = kind["pattern"].removeprefix("^").removesuffix("$")
            ways.append({"type": "regex", "pattern": pattern})
        else:
            low, high = kind.get("minLength", 0), kind.get("maxLength", "")
            ways.append({"type": "regex", "pattern": f"{LETTER}{{{low},{high}}}"})
    return _either(ways) if ways else free


def _part(form: ToolFormat, functions: Sequence[Mapping[str, Any]], *, whole: bool) -> str:
    """About the longest text that a token can make necessary. whole: of calls, too."""
    parts = [""]
    for function in functions:
        schema = parameters(function)
        parts.append(longest_part(schema, schema))
        if whole:
            some = least(schema, schema)
            if form.parameters is not None:
                some = some.replace('"', form.parameters.begin + form.parameters.end)
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


def _schema(schema: Schema) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": bounded(schema), "max_whitespace_cnt": _SPACE}


def _dumped(element: Mapping[str, Any]) -> str:
    try:
        return json.dumps(element)
    except (TypeError, ValueError) as error:
        raise GrammarError(
            f"a schema is no JSON: {error}; give one of strings, numbers, lists and dicts"
        ) from error
