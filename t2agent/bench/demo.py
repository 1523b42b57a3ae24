"""``make demo``: what self-adaptation does to a real model, and to t2-nano with images.

The same requests are answered by the base model and adapted, side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t2agent.chat.chat_model import ChatT2
from t2agent.chat.messages import user_message
from t2agent.models import installed
from t2agent.nano.tasks import TASKS

REAL = "smollm2"
_MAX_TOKENS = 160
_IMAGES = ("chart", "count")  # tasks of t2-nano
_SEED = 10

Ask = Callable[[ChatT2], Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """One request, and what it shows: the expert for it ("" for none), and how it is asked."""

    expert: str
    text: str
    ask: Ask


def _function(name: str, description: str, **properties: str) -> dict[str, Any]:
    """A tool in OpenAI's form, all of whose parameters are texts: name -> description."""
    parameters = {
        "type": "object",
        "properties": {
            key: {"type": "string", "description": told} for key, told in properties.items()
        },
        "required": list(properties),
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


_TOOLS = [
    _function("get_weather", "The weather in a city now.", city="Name of the city"),
    _function(
        "find_trains",
        "Trains between two stations on a day.",
        start="Where the journey begins",
        destination="Where it ends",
        date="Day of the journey",
    ),
    _function(
        "send_message", "Send a person a message.", person="Who gets it", text="What it says"
    ),
]
_FIELDS: dict[str, Any] = {
    "title": "Fields",
    "type": "object",
    "properties": {key: {"type": "string"} for key in ("person", "company", "city", "phone")},
    "additionalProperties": False,
}
_LETTER = (
    "Hello, my name is Maria Lopez, I work for Northwind Bicycles in Valencia, phone 0911 4477."
)
_TRIP = "Which trains go from Vienna to Graz on 3 March?"
_SKY = "What is the weather like in Bergen today?"
_SKY_NOW = '{"city": "Bergen", "sky": "heavy rain", "temperature": 7}'
_REVIEW = (
    "The screen was cracked when I opened the box, and nobody answers the phone.\n\n"
    "Which of these labels fits the text: damaged, late, wrong item, praise? "
    "Answer with the label only."
)
_SUM = "There are 6 boxes with 8 oranges each. How many oranges are there in all?"
_HELLO = "Good morning! How are you?"


def _with_tools(asked: LanguageModelInput) -> Ask:
    return lambda chat: chat.bind_tools(_TOOLS).invoke(asked)


def _plain(text: str) -> Ask:
    return lambda chat: chat.invoke(text)


def _fields(chat: ChatT2) -> Any:
    found = chat.with_structured_output(_FIELDS, method="json_schema", include_raw=True)
    return found.invoke(_LETTER)["raw"]


_RESULT = [
    HumanMessage(_SKY),
    AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": "Bergen"}, "id": "1"}]),
    ToolMessage(_SKY_NOW, tool_call_id="1"),
]
REQUESTS = (
    Shown("tools", f"{_TRIP} [tools: get_weather, find_trains, send_message]", _with_tools(_TRIP)),
    Shown("answer", f"{_SKY} [get_weather gave {_SKY_NOW}]", _with_tools(_RESULT)),
    Shown("extract", f"{_LETTER} [as JSON: {', '.join(_FIELDS['properties'])}]", _fields),
    Shown("label", _REVIEW, _plain(_REVIEW)),
    Shown("arithmetic", _SUM, _plain(_SUM)),
    Shown("", _HELLO, _plain(_HELLO)),
)
"""Of the shipped experts of the real model one request each, and small talk."""


def pictures() -> Iterator[Shown]:
    """Requests with an image for t2-nano; each shows what answer is wanted."""
    for name in _IMAGES:
        example = TASKS[name].sample(1, seed=_SEED, split="test")[0]
        asked = [user_message(example.prompt, example.image)]
        told = f"[image] {example.prompt} [wanted: {example.answer}]"
        yield Shown(name, told, lambda chat, asked=asked: chat.invoke(asked))  # type: ignore[misc]


def experts(chat: ChatT2) -> Table:
    """The experts that were found for a base model."""
    drawn = Table(title=f"Experts of {chat.t2.name}", title_justify="left")
    for column in ("expert", "parameters", "what for"):
        drawn.add_column(column, justify="right" if column == "parameters" else "left")
    for name, card in chat.registry.cards().items():
        drawn.add_row(name, f"{chat.registry.parameters(name):,}", card.description)
    return drawn


def side_by_side(chat: ChatT2, requests: Sequence[Shown]) -> Table:
    """Each request, answered by the base model and as dispatch has it."""
    base = ChatT2(chat.t2, dispatch="off", max_tokens=_MAX_TOKENS)
    adapted = ChatT2(chat.t2, max_tokens=_MAX_TOKENS)
    title = f"{chat.t2.name}: the base model, and adapted to each request"
    drawn = Table(title=title, title_justify="left", show_lines=True)
    for column in ("request", "base model", "adapted", "by"):
        drawn.add_column(column, overflow="fold")
    for request in requests:
        plain, reply = request.ask(base), request.ask(adapted)
        by = ", ".join(reply.response_metadata["dispatch"]["mixture"]["weights"]) or "base model"
        drawn.add_row(*map(Text, (request.text, _told(plain), _told(reply), by)))
    return drawn


def _told(reply: AIMessage) -> str:
    """What a reply says, or which tools it calls."""
    calls = [
        f"{call['name']}({', '.join(f'{k}={v!r}' for k, v in call['args'].items())})"
        for call in reply.tool_calls
    ]
    return "\n".join(calls) or str(reply.text).strip()


def main() -> None:
    """Show the real model with its experts, where it is installed, and t2-nano with images."""
    begin = time.perf_counter()
    console = Console()
    if installed.is_installed(REAL):
        chat = ChatT2(REAL)
        console.print(experts(chat))
        there = [one for one in REQUESTS if not one.expert or one.expert in chat.registry]
        console.print(side_by_side(chat, there))
    else:
        console.print(
            f"No real model is installed here; get one with: t2agent models add {REAL}\n"
            "t2-nano is a toy of 4.7 million parameters, which knows made-up tasks only."
        )
    nano = ChatT2(installed.NANO)
    console.print(side_by_side(nano, list(pictures())))
    console.print(
        f"{time.perf_counter() - begin:.0f} s. More: t2agent chat, t2agent agent, and what the "
        "experts are worth: t2agent bench",
        highlight=False,
    )


if __name__ == "__main__":
    main()
