"""``t2agent agent``: a request that is answered with tools, each step shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report, answered_by, console, printable
from t2agent.cli.options import Image, Model, Quantized, Strategy, picture
from t2agent.cli.start import load, starting
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from rich.text import Text

_RESULT = 500  # characters of a tool's result that are shown


def agent(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The request.")],
    image: Image = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            "--tool",
            "-t",
            metavar="NAME",
            help="A tool that may be called; may be repeated.",
            show_default="all",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder that the tool search_files may search."),
    ] = None,
    dispatch: Strategy = None,
    model: Model = AUTO,
    max_steps: Annotated[int, typer.Option(min=1, help="Most calls of the model.")] = 10,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 256,
    quantized: Quantized = True,
    as_json: bool = False,
) -> Report:
    """Answer a prompt with tools; every step shows its experts, its calls and their results."""
    if not prompt.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    if folder is None and "search_files" in (tool or ()):
        raise typer.BadParameter("search_files needs the folder to search", param_hint="--folder")
    if tool:
        from t2agent.toolbox import check_names

        check_names(tool)  # an unknown name is told before seconds of loading
    with starting(f"Loading {model}", show=not as_json):
        from t2agent.chat.messages import user_message

        message = user_message(prompt, None if image is None else picture(image))
        from t2agent.chat.agent import T2Middleware, create_t2_agent
        from t2agent.chat.chat_model import ChatT2
        from t2agent.toolbox import load_tools

        answering = load(model, show=False)
        chat = ChatT2(
            answering,
            dispatch=dispatch or "embedding",
            max_tokens=max_tokens,
            quantized=quantized,
        )
        tools: list[Any] | None = None
        if tool or folder is not None:
            own: dict[str, Any] = {} if folder is None else {"folder": folder}
            tools = load_tools(tool or None, defaults={"chat": chat}, **own)
        built = create_t2_agent(chat, tools, middleware=[T2Middleware(max_steps=max_steps)])
    shown: list[dict[str, Any]] = []
    for update in built.stream({"messages": [message]}, stream_mode="updates"):
        for change in update.values():
            for step in (change or {}).get("messages", ()):
                shown.append(_plain(step))
                if not as_json:
                    console().print(_line(sum(one["type"] == "model" for one in shown), shown[-1]))
    answer = shown[-1]["text"]
    if not as_json:
        console().print(printable(answer), markup=False)
    return Report({"answer": answer, "model_name": model, "steps": shown})


def _line(number: int, plain: dict[str, Any]) -> Text:
    """A step for people: who answered and what was called, or what a tool gave."""
    from rich.text import Text

    if plain["type"] == "tool":
        text = printable(plain["text"])
        cut = text[:_RESULT] + ("..." if len(text) > _RESULT else "")
        seen = " (and an image)" if plain["images"] else ""
        style = "" if plain["status"] == "success" else "red"
        return Text.assemble((f"   {plain['name']}: ", "bold"), (cut + seen, style))
    decision = plain["dispatch"]
    if decision is None:  # the agent was ended
        return Text(f"{number}. {printable(plain['text'])}")
    who = answered_by(decision["mixture"]["weights"], in_scope=decision["in_scope"])
    calls = "; ".join(_called(call) for call in plain["calls"]) or "answers"
    return Text.assemble(
        (f"{number}. ", "bold"), (f"{who} [{decision['strategy']}] ", "dim"), printable(calls)
    )


def _called(call: dict[str, Any]) -> str:
    arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in call["arguments"].items())
    return f"{call['name']}({arguments})"


def _plain(step: BaseMessage) -> dict[str, Any]:
    """A step in plain JSON."""
    from langchain_core.messages import AIMessage, ToolMessage

    if isinstance(step, ToolMessage):
        blocks = step.content if isinstance(step.content, list) else []
        images = [b for b in blocks if isinstance(b, dict) and b.get("type") == "image"]
        return {
            "type": "tool",
            "name": step.name,
            "status": step.status,
            "text": str(step.text),
            "images": len(images),
        }
    assert isinstance(step, AIMessage)
    return {
        "type": "model",
        "text": str(step.text),
        "calls": [{"name": c["name"], "arguments": c["args"]} for c in step.tool_calls],
        "invalid_calls": [dict(call) for call in step.invalid_tool_calls],
        "dispatch": step.response_metadata.get("dispatch"),
        "usage": dict(step.usage_metadata or {}),
        "finish_reason": step.response_metadata["finish_reason"],
    }
