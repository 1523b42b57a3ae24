"""The form that one call wants its reply in: free text, tool calls, JSON, or a choice of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.engine.shortlist import Shortlist, foreseen, shortlist
from t2agent.errors import ConfigError
from t2agent.models.calls import call_marks, reply_format
from t2agent.models.compiling import compiled, compiled_exactly, room
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, open_thoughts
from t2agent.replies.checking import whole
from t2agent.replies.constraint import Constraint, json_constraint, tools_constraint
from t2agent.replies.messages import ANY_JSON, JSON_BY_SCHEMA, function_tools
from t2agent.replies.parsing import ReplyParser
from t2agent.replies.schemas import parameters
from t2agent.replies.signatures import type_of

FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "on_misfit")
"""The options of a call that a form is made of."""


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """Tools that may or must be called, and the JSON that a reply must be.

    Attributes:
        tools: OpenAI's function tools.
        choice: "auto", "required", "none" or the name of the tool to call.
        parallel: whether a reply may hold several calls.
        schema: of the JSON; True for any object; None for free text.
        keep: whether a reply that does not fit the schema is given all the same ("on_misfit").
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    choice: str = "auto"
    parallel: bool = True
    schema: Mapping[str, Any] | bool | None = None
    keep: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ReplyForm:
        """From the options `FIELDS` of a call.

        Raises ConfigError for a tool or a format of another form, and for a choice of a tool that
        is not there.
        """
        tools = function_tools(given.get("tools") or ())
        names = [tool["function"]["name"] for tool in tools]
        choice = chosen(given.get("tool_choice"), names)
        parallel = given.get("parallel_tool_calls")
        asked = given.get("tool_choice")
        if parallel is None and isinstance(asked, Mapping):  # as Anthropic has it
            parallel = not asked.get("disable_parallel_tool_use", False)
        return cls(
            () if choice == "none" else tools,
            choice,
            parallel is None or bool(parallel),
            _format(given.get("response_format")),
            _kept(given.get("on_misfit", "raise")),
        )

    def prompt(self, prompt: Prompt) -> Prompt:
        """The prompt with what the model must know of the form."""
        if self.tools:
            prompt = replace(prompt, tools=self.tools)
        if self.schema is None:
            return prompt
        schema = self.schema
        text = ANY_JSON if isinstance(schema, bool) else JSON_BY_SCHEMA + _written(schema)
        first = prompt.messages[0]
        if first["role"] != "system":
            system = {"role": "system", "content": text}
            return replace(prompt, messages=(system, *prompt.messages))
        content = first["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        content = [*content, {"type": "text", "text": "\n\n" + text}]
        return replace(prompt, messages=({**first, "content": content}, *prompt.messages[1:]))

    def shown(
        self,
        prompt: Prompt,
        most: int | None,
        similarity: ToolSimilarity,
        wanted: Callable[[], bool],
    ) -> tuple[ReplyForm, Prompt, Shortlist]:
        """The form and the prompt with the tools that are shown for a request.

        most: how many, as of `shortlist`. wanted: whether one of the tools is meant, where the
        model may choose.
        """
        if not self.tools:
            return self, prompt, Shortlist()
        free = self.choice == "auto"
        named = None if free or self.choice == "required" else self.choice
        found = shortlist(prompt, most, similarity, named=named, wanted=wanted if free else None)
        return replace(self, tools=found.shown), replace(prompt, tools=found.shown), found

    def constraint(self, model: T2Model, prompt: Prompt) -> Constraint | None:
        """What decoding must keep to after a prompt; None where any text will do."""
        excluded = ""
        if self.tools:
            form = reply_format(model)
            schema = None if self.schema is None else _object(self.schema)
            found = tools_constraint(
                form,
                self.tools,
                choice=self.choice,
                parallel=self.parallel,
                schema=schema,
                room=room(model),
            )
            excluded = form.trigger
        elif self.schema is not None:
            found = json_constraint(self.schema, room=room(model))
        else:
            return None
        thoughts = open_thoughts(model, prompt)
        return found if thoughts is None else found.after(thoughts, excluded)

    def check(self, model: T2Model, most: int | None) -> None:
        """See that replies can be held to the form, and compile what holds them.

        Compiled is what requests will ask for. Where they choose among the tools that are shown
        (``most``, as of `shortlist`), a grammar is compiled with the first of its kind.

        Raises GrammarError, which names tool and property, where they can be neither held nor
        checked, or where nothing fits; ConfigError as `constraint`.
        """
        prompt = self.prompt(Prompt.user("?"))  # what it says changes no grammar
        self.constraint(model, prompt)  # of all tools: each is looked at
        named = None if self.choice in ("auto", "required") else self.choice
        tools = foreseen(self.tools, most, named)
        if tools is None:
            return
        found = replace(self, tools=tools).constraint(model, replace(prompt, tools=tools))
        if found is not None:
            compiled(model, found)
            compiled_exactly(model, found)

    def misfit(self, value: object, tool: str | None = None) -> str | None:
        """Why a finished value does not fit: arguments of a tool, or a reply that must be JSON.

        None where it fits, and for a tool that is not known.
        """
        if tool is None:
            return None if self.schema is None else whole(_object(self.schema)).problem(value)
        for one in self.tools:
            if one["function"]["name"] == tool:
                return whole(parameters(one["function"])).problem(value)
        return None

    def marks(self, model: T2Model) -> frozenset[int]:
        """The special tokens that belong to calls and so to the text of a reply."""
        return call_marks(model) if self.tools else frozenset()

    def parser(self, model: T2Model) -> ReplyParser | None:
        """What tells a reply's text from its calls; None where no tool can be called."""
        return ReplyParser(reply_format(model), self.tools) if self.tools else None

    def thoughts(self, model: T2Model, prompt: Prompt) -> str:
        """The text up to which a reply is thoughts, where the rest must be JSON; else ""."""
        return "" if self.schema is None else open_thoughts(model, prompt) or ""


def chosen(given: object, names: Sequence[str]) -> str:
    """A tool choice in any of the usual forms: "auto", "required", "none" or a tool's name.

    Raises ConfigError for another form, and where the tool is not among ``names``.
    """
    if given is None or given == "auto":
        return "auto"
    if given is False or given == "none":
        return "none"
    if given is True or given in ("any", "required"):
        return _needing(names, "required")
    if isinstance(given, Mapping):
        kind, function = given.get("type"), given.get("function")
        name = function.get("name") if isinstance(function, Mapping) else given.get("name")
        if name is None and isinstance(kind, str):
            return chosen(kind, names)
        given = name
    if isinstance(given, str) and given in names:
        return given
    raise ConfigError(
        f"tool_choice is {given!r}, and the tools are {', '.join(names) or 'none'}; give 'auto', "
        "'required' (or 'any'), 'none', or the name of a tool that is bound"
    )


def _object(schema: Mapping[str, Any] | bool) -> Mapping[str, Any]:
    return {"type": "object"} if isinstance(schema, bool) else schema


def _needing(names: Sequence[str], choice: str) -> str:
    if not names:
        raise ConfigError(f"tool_choice is {choice!r}, but no tool is bound; bind one")
    return choice


def _written(schema: Mapping[str, Any]) -> str:
    try:
        return type_of(schema)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the schema of response_format is no JSON: {error}; give one of strings, numbers, "
            "lists and dicts"
        ) from error


def _kept(given: object) -> bool:
    if given not in ("raise", "keep"):
        raise ConfigError(f"on_misfit is {given!r}; give 'raise' or 'keep'")
    return given == "keep"


def _format(given: object) -> Mapping[str, Any] | bool | None:
    """The schema of a response_format of OpenAI's."""
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, Mapping) else None
    if isinstance(given, Mapping) and kind == "text":
        return None
    if isinstance(given, Mapping) and kind == "json_object":
        return True
    inner = given.get("json_schema") if isinstance(given, Mapping) else None
    schema = inner.get("schema", inner) if isinstance(inner, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping):
        raise ConfigError(
            f"response_format is {given!r:.200}; give {{'type': 'json_object'}} or {{'type': "
            "'json_schema', 'json_schema': {'name': ..., 'schema': {...}}}"
        )
    return schema
