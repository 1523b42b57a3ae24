"""t2-nano choosing and filling in tools: known ones, unseen ones, and unseen ones in plain English.

Each request comes with one to four tools, the right one among them, bound to a ChatT2 as anybody
would bind them; right is the reply's one call with the right name and all the right arguments.
The arguments of all requests are new.

- "known": the tools of the corpus.
- "unseen": tools whose names and descriptions never stood in the corpus, in its language.
- "everyday": tools of everyday life and work, in plain English (``everyday.jsonl``), by somebody
  who knew neither t2-nano nor how arguments are copied. How close a tool must be to be meant was
  chosen with these requests at hand.

Figures wanted: known .95, unseen .75. Beside them, what the base model does without the expert,
and what it does when all tools are shown and nothing is held to the request.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError
from t2agent.nano.domains.known_tools import COMMON, SHIPPED, UNSEEN
from t2agent.nano.domains.toolkit import ToolSpec
from t2agent.progress import progress_bar

_TYPES = {int: "integer", str: "string"}
_OTHERS = 3  # most tools that are offered besides the right one
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "experts": {},
    "base": {"dispatch": "off"},
    "base, all tools shown": {"dispatch": "off", "max_tools": None, "copy_arguments": False},
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request with the tools on offer, and the call that is right."""

    text: str
    tools: tuple[Mapping[str, Any], ...]
    name: str
    arguments: Mapping[str, Any]


def run(requests: int = 200, seed: int = 0, progress: bool = True) -> dict[str, Any]:
    """For each kind of tools and each way: the share of right names and of right calls.

    requests: most of each kind; of those in plain English there are fifty.

    Raises ConfigError for sizes that are no whole numbers above 0.
    """
    if not isinstance(requests, int) or requests < 1 or not isinstance(seed, int):
        raise ConfigError(f"requests is {requests!r}, seed {seed!r}: give whole numbers")
    rng = random.Random(f"tools {seed}")
    cases = {
        "known": list(_drawn((*SHIPPED, *COMMON), requests, rng)),
        "unseen": list(_drawn(UNSEEN, requests, rng)),
        "everyday": list(_everyday(rng))[:requests],
    }
    chat = ChatT2("t2-nano", max_tokens=96)
    total = len(_WAYS) * sum(map(len, cases.values()))
    summary: dict[str, Any] = {}
    with progress_bar("requests", total, progress) as bar:
        for kind, asked in cases.items():
            for way, options in _WAYS.items():
                names = calls = 0
                for one in asked:
                    name, arguments = _call(chat, one, options)
                    names += name == one.name
                    calls += name == one.name and arguments == one.arguments
                    bar.advance(1, kind=kind)
                summary.setdefault(kind, {})[way] = {
                    "right call": calls / len(asked),
                    "right tool": names / len(asked),
                }
    return {"requests": {kind: len(asked) for kind, asked in cases.items()}, "summary": summary}


def _call(chat: ChatT2, one: Request, options: Mapping[str, Any]) -> tuple[str, object]:
    reply = chat.bind_tools([dict(tool) for tool in one.tools], **options).invoke(one.text)
    calls = reply.tool_calls
    return (calls[0]["name"], calls[0]["args"]) if len(calls) == 1 else ("", None)


def _drawn(specs: Sequence[ToolSpec], count: int, rng: random.Random) -> Iterator[Request]:
    for _ in range(count):
        spec = rng.choice(specs)
        drawn = spec.draw(rng)
        text = spec.ask(drawn, rng)
        others = [other for other in specs if other is not spec]
        offered = [spec, *rng.sample(others, rng.randint(0, _OTHERS))]
        rng.shuffle(offered)
        yield Request(text, tuple(_tool(other, rng) for other in offered), spec.name, drawn)


def _tool(spec: ToolSpec, rng: random.Random) -> Mapping[str, Any]:
    properties = {key: _schema(value) for key, value in spec.draw(rng).items()}
    return _shown(spec.name, spec.description, properties)


def _schema(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"type": "array", "items": {"type": _TYPES[type(value[0])]}}
    return {"type": _TYPES[type(value)]}


def _shown(name: str, description: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


class EverydayTool(BaseModel, extra="forbid"):
    """A tool of everyday life, its parameters' schemas, and requests with the right arguments."""

    name: str
    description: str
    parameters: dict[str, dict[str, Any]]
    requests: list[tuple[str, dict[str, Any]]]


def everyday_tools() -> list[EverydayTool]:
    """Those of ``everyday.jsonl``, written by somebody who had not seen the rules of
    `t2agent.engine.argument_values`, and not used to make them.

    Every value of a call literally occurs in its request: a word, a phrase, a number or one of
    the choices.
    """
    lines = Path(__file__).with_name("everyday.jsonl").read_text("utf-8").splitlines()
    return [EverydayTool.model_validate_json(line) for line in lines]


def _everyday(rng: random.Random) -> Iterator[Request]:
    known = everyday_tools()
    shown = {tool.name: _shown(tool.name, tool.description, tool.parameters) for tool in known}
    for tool in known:
        others = [one for name, one in shown.items() if name != tool.name]
        for text, arguments in tool.requests:
            offered = [shown[tool.name], *rng.sample(others, _OTHERS)]
            rng.shuffle(offered)
            yield Request(text, tuple(offered), tool.name, arguments)
