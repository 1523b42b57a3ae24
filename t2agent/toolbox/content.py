"""LangChain tools whose mistakes are content: what was got, what is needed, what to do next.

An agent must not stop because a model called a tool wrongly; the model reads the error as the
tool's answer and tries again. Limits are checked here and not written into the JSON schemas: a
grammar made of a schema grows with them, and small models read schemas as they stand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from t2agent.errors import T2Error

MAX_TEXT = 20_000
"""Characters of a text that a tool takes or gives."""
_SHOWN = 60
_PROBLEMS = 5
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "boolean": "true or false",
}


class Arguments(BaseModel):
    """Base class of a tool's arguments. An unknown one is an error: ignored, it would mislead."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


def content_tool(
    name: str,
    description: str,
    arguments: type[Arguments],
    function: Callable[..., Any],
    *,
    coroutine: Callable[..., Awaitable[Any]] | None = None,
    artifact: bool = False,
) -> BaseTool:
    """A tool that answers with content whatever a model calls it with, or with an error's text.

    Args:
        name: in snake_case.
        description: one short sentence: small models read it.
        arguments: what the model gives, each with a type and a description.
        function: gets the arguments by name. A ToolException or a T2Error that it raises becomes
            the content of an answer with the status "error"; anything else is a mistake in the
            function and is raised.
        coroutine: the same for `ainvoke`; without it, the function runs in a thread.
        artifact: whether the function gives a pair (content, artifact).
    """

    def run(*given: Any, **named: Any) -> Any:
        with_values = _validated(arguments, given, named)
        with _errors_told():
            return _sendable(function(**with_values))

    async def arun(*given: Any, **named: Any) -> Any:
        assert coroutine is not None
        with_values = _validated(arguments, given, named)
        with _errors_told():
            return _sendable(await coroutine(**with_values))

    tool = StructuredTool(
        name=name,
        description=description,
        args_schema=arguments,
        func=run,
        coroutine=arun if coroutine is not None else None,
        response_format="content_and_artifact" if artifact else "content",
        handle_tool_error=True,
        handle_validation_error=lambda error: _explained(tool, error),
    )
    return tool


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except (T2Error, ToolException) as error:
        raise ToolException(clean(str(error))) from error


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer or file takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def shown(value: object) -> str:
    """A value as an error names it: short, whatever it is."""
    if isinstance(value, str):
        return repr(value[:_SHOWN]) + ("..." if len(value) > _SHOWN else "")
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    try:
        return repr(value)[:_SHOWN]
    except ValueError:  # Python writes no integers of more than some thousand digits
        return "a huge number"


def _text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"it has {len(text):,} characters, and {MAX_TEXT:,} are the most")
    return clean(text)


Text = Annotated[str, AfterValidator(_text)]
"""A text of at most `MAX_TEXT` characters."""


def _validated(
    arguments: type[Arguments], given: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    # LangChain validates arguments given by name; a bare string it checks and passes on as it is.
    if not given:
        return named
    first = next(iter(arguments.model_fields))
    return dict(arguments.model_validate({first: given[0]}))


def _sendable(result: Any) -> Any:
    """The result, if a conversation can hold it."""
    if not isinstance(result, str):
        return result
    if len(result) > MAX_TEXT:
        raise ToolException(
            f"the result has {len(result):,} characters, and {MAX_TEXT:,} are the most: "
            "ask for less at a time"
        )
    return clean(result)


def _explained(tool: BaseTool, error: Any) -> str:
    """What was wrong with a call's arguments, and what they have to be."""
    wanted = {key: _kind(schema) for key, schema in tool.args.items()}
    problems: dict[str, str] = {}
    details = error.errors() if isinstance(error, ValidationError) else ()
    for detail in details:
        key = str(detail["loc"][0]) if detail["loc"] else "it"
        problems.setdefault(key, _problem(key, detail, wanted))
    told = "; ".join(list(problems.values())[:_PROBLEMS])
    takes = ", ".join(f"{key} ({kind})" for key, kind in wanted.items()) or "no arguments"
    return clean(f"{tool.name} was called wrongly: {told}. Call it again with {takes}.")


def _problem(key: str, detail: Mapping[str, Any], wanted: Mapping[str, str]) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "missing":
        return f"{key} is missing"
    if key not in wanted:
        return f"it has no argument {key[:_SHOWN]!r}"
    if kind == "value_error":
        return f"{key} is {shown(given)}, but {detail['ctx']['error']}"
    return f"{key} must be {wanted[key]}, but {shown(given)} was given"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    kind = str(schema.get("type", ""))
    if kind == "array" and (inner := schema.get("items", {}).get("type")) in _KINDS:
        return f"a list of {_KINDS[inner].removeprefix('a ')}s"
    return _KINDS.get(kind, "as described")
