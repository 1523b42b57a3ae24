"""Tools and structured output of a chat model: `bind_tools` and `with_structured_output`."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterator, Sequence
from inspect import cleandoc
from operator import itemgetter
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import (
    convert_to_json_schema,
    convert_to_openai_tool,
)
from langchain_core.utils.pydantic import TypeBaseModel, is_basemodel_subclass
from pydantic import BaseModel

from t2agent.engine.reply_form import FIELDS, ReplyForm, chosen
from t2agent.errors import ConfigError
from t2agent.replies.messages import function_tool

Method = Literal["json_schema", "function_calling", "json_mode"]

_NAMED = {"name", "function", "toolSpec"}
"""What a dict has one of that is no schema but a tool."""
_ABOUT = {"title", "description"}
_ARGUMENT = re.compile(r"\s+(\w+)(?: \([^)]*\))?:\s*(.*)")


class Binding(BaseChatModel):
    """What binds tools and schemas to a chat model."""

    def bind_tools(
        self,
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | builtins.dict[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools that it may call.

        Calls are held to the tools' names and schemas while they are decoded, so what comes has
        the right form.

        Args:
            tools: LangChain tools, functions, pydantic or TypedDict classes, or OpenAI's tools.
            tool_choice: "auto" (the same as None), "any" or "required" (or True), "none" (or
                False), a tool's name, or OpenAI's and Anthropic's dicts for these.
            strict: as of OpenAI: all arguments are required and none but these may be given.
            parallel_tool_calls: whether a reply may hold several calls; None for yes, where the
                model's format can.
            kwargs: further options of calls, as of `bind`.

        Raises:
            ConfigError: what cannot be a tool, or a choice of a tool that is not there.
            GrammarError: parameters that can be neither held nor checked, or that nothing fits;
                the message names tool and property.
        """
        converted = [_converted(tool, strict) for tool in tools]
        chosen(tool_choice, [tool["function"]["name"] for tool in converted])
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        # Two of one name are for a call to refuse: LangChain binds them.
        seen = {tool["function"]["name"]: tool for tool in converted}
        self._see({**kwargs, "tools": list(seen.values())})
        return self.bind(tools=converted, **kwargs)

    def _see(self, options: builtins.dict[str, Any]) -> None:
        """See that replies can be held to what is bound; here, that it can be read."""
        ReplyForm.of({name: options[name] for name in FIELDS if name in options})

    def with_structured_output(
        self,
        schema: builtins.dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model with replies of a schema, parsed.

        Args:
            schema: a pydantic class (replies are its objects), a TypedDict or a JSON schema with a
                title (replies are dicts). "json_mode" can do without one.
            method: "json_schema" and "function_calling" hold decoding to the schema, and so does
                "json_mode" where there is one; else to a JSON object of any form.
            include_raw: give {"raw": message, "parsed": ..., "parsing_error": ...} instead, and
                raise nothing where a reply cannot be parsed.
            strict: as of `bind_tools`.
            tools: further tools; a reply is then a call of one of them or the JSON ("json_schema").
            kwargs: further options of calls.

        Raises:
            ConfigError: an unknown method, or no schema where one is needed.
            GrammarError: a schema that can be neither held nor checked, or that nothing fits.
            OutputParserException: when called, a reply that does not fit the schema (with
                include_raw it is the "parsing_error").
        """
        if method not in ("json_schema", "function_calling", "json_mode"):
            raise ConfigError(
                f"method is {method!r}; give 'json_schema', 'function_calling' or 'json_mode'"
            )
        if schema is None and method != "json_mode":
            raise ConfigError(f"method {method!r} needs a schema; give one, or use 'json_mode'")
        if tools and method == "function_calling":
            raise ConfigError(
                "with method 'function_calling' the schema is itself the tool that is called; "
                "give further tools with method 'json_schema'"
            )
        schema = _as_function(schema)
        asked = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        if method == "function_calling":
            assert schema is not None
            tool = _converted(schema, strict)
            name = tool["function"]["name"]
            model = self.bind_tools(
                [schema],
                tool_choice=name,
                strict=strict,
                parallel_tool_calls=False,
                ls_structured_output_format=asked,
                **kwargs,
            )
            parser = _tool_parser(schema, name)
        else:
            response: builtins.dict[str, Any] = {"type": "json_object"}
            if schema is not None:
                try:
                    given = _recursive(schema, strict) or convert_to_json_schema(
                        schema, strict=strict
                    )
                except (TypeError, ValueError) as error:
                    raise ConfigError(
                        f"{schema!r:.200} is no schema: {error}; give a pydantic or TypedDict "
                        "class, or a JSON schema with a title"
                    ) from error
                named = {"name": given.get("title", "response"), "schema": given}
                response = {"type": "json_schema", "json_schema": named}
            more = {
                "response_format": response,
                "on_misfit": "keep",  # the parser tells
                "ls_structured_output_format": asked,
                **kwargs,
            }
            if not tools:
                self._see(more)
            model = self.bind_tools(tools, strict=strict, **more) if tools else self.bind(**more)
            parser = _json_parser(schema)
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks(
            [failed], exception_key="parsing_error"
        )


def _converted(tool: Any, strict: bool | None) -> builtins.dict[str, Any]:
    tool = _as_function(tool)
    try:
        found = convert_to_openai_tool(tool, strict=strict)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"{tool!r:.200} cannot be a tool: {error}; give LangChain tools, functions with type "
            "hints and a docstring, pydantic or TypedDict classes, or OpenAI's function tools"
        ) from error
    function_tool(found)
    own = _recursive(getattr(tool, "tool_call_schema", tool), strict)
    if own is not None:
        found["function"]["parameters"] = own
    return found if isinstance(tool, dict) else _described(found)


def _described(tool: builtins.dict[str, Any]) -> builtins.dict[str, Any]:
    """A tool with what its docstring says of the arguments, in Google's style, beside each of them.

    LangChain does so with functions, but neither with the tools that it makes of them, as
    create_agent does, nor with those of MCP servers: there the whole docstring is the description.
    """
    function = tool["function"]
    parameters = function.get("parameters") or {}
    about, section, rest = cleandoc(function.get("description") or "").partition("\nArgs:\n")
    told: builtins.dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line and not line[0].isspace():
            break  # another section
        if (found := _ARGUMENT.match(line)) and found[1] in parameters.get("properties", ()):
            name, told[found[1]] = found[1], found[2]
        elif name:
            told[name] = f"{told[name]} {line.strip()}".strip()
    if not section or not told:
        return tool
    properties = {
        key: {"description": told[key], **one} if key in told and isinstance(one, dict) else one
        for key, one in parameters["properties"].items()
    }
    return {
        **tool,
        "function": {
            **function,
            "description": about.strip(),
            "parameters": {**parameters, "properties": properties},
        },
    }


def _as_function(given: Any) -> Any:
    """A JSON schema whose keywords LangChain's conversion would leave, since it has no properties
    of its own or several types, as OpenAI's function, which it converts whole; others as they are.
    """
    if not isinstance(given, dict) or "title" not in given or given.keys() & _NAMED:
        return given
    if "properties" in given and not isinstance(given.get("type"), list):
        return given
    rest = {key: value for key, value in given.items() if key not in _ABOUT}
    about = {key: given[key] for key in ("description",) if key in given}
    return {"name": given["title"], **about, "parameters": rest} if rest else given


def _recursive(given: Any, strict: bool | None) -> builtins.dict[str, Any] | None:
    """The own schema of a pydantic class that holds itself, which LangChain's conversion loses;
    None for others."""
    if not (isinstance(given, type) and issubclass(given, BaseModel)):
        return None
    schema = given.model_json_schema()
    targets = schema.get("$defs", {})
    below = {name: set(_referred(one)) for name, one in targets.items()}
    for _ in below:
        for names in below.values():
            names |= {far for near in list(names) for far in below.get(near, ())}
    if not any(name in names for name, names in below.items()):
        return None
    if strict:
        for one in (schema, *targets.values()):
            if "properties" in one:
                one.update(required=list(one["properties"]), additionalProperties=False)
    return {"title": given.__name__, **schema}


def _referred(schema: Any) -> Iterator[str]:
    """The names of what a schema of pydantic refers to."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/$defs/")
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from _referred(one)


def _told(result: builtins.list[Generation]) -> None:
    """Raise OutputParserException for a reply that does not fit its schema."""
    message = getattr(result[0], "message", None) if result else None
    if isinstance(message, AIMessage):
        told = message.response_metadata.get("misfits") or [
            call["error"] or "a call that cannot be read" for call in message.invalid_tool_calls
        ]
        if told and "finish_reason" in message.response_metadata:
            raise OutputParserException(
                f"the reply does not fit its schema: {told[0]}", llm_output=str(result[0].text)
            )


class _Json(JsonOutputParser):
    def parse_result(self, result: builtins.list[Generation], *, partial: bool = False) -> Any:
        _told(result)
        return super().parse_result(result, partial=partial)


class _Object(PydanticOutputParser[Any]):
    def parse_result(self, result: builtins.list[Generation], *, partial: bool = False) -> Any:
        _told(result)
        return super().parse_result(result, partial=partial)


class _JsonCall(JsonOutputKeyToolsParser):
    def parse_result(self, result: builtins.list[Generation], *, partial: bool = False) -> Any:
        _told(result)
        return super().parse_result(result, partial=partial)


class _ObjectCall(PydanticToolsParser):
    def parse_result(self, result: builtins.list[Generation], *, partial: bool = False) -> Any:
        _told(result)
        return super().parse_result(result, partial=partial)


def _tool_parser(schema: Any, name: str) -> Runnable[AIMessage, Any]:
    if is_basemodel_subclass(schema):
        return _ObjectCall(tools=[schema], first_tool_only=True)
    return _JsonCall(key_name=name, first_tool_only=True)


def _json_parser(schema: Any) -> Runnable[AIMessage, Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        pydantic: TypeBaseModel = schema
        return _Object(pydantic_object=pydantic)
    return _Json()
