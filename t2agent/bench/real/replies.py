"""Replies of a chat model, kept in a file of JSON lines: a run that was stopped goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ContextThreadPoolExecutor

from t2agent.bench.real.rows import Asked
from t2agent.chat.chat_model import ChatT2
from t2agent.dispatch.strategies import version_of
from t2agent.engine.batching import Calls, joint, seat
from t2agent.errors import T2Error
from t2agent.progress import progress_bar
from t2agent.replies.messages import text_of
from t2agent.tasks.task import Example

BASE = "base"
DISPATCHED = "dispatched"
_VERSION = 1  # raise it with whatever changes a request


@dataclass(frozen=True, slots=True)
class Reply:
    """What came.

    Attributes:
        text: the reply's text.
        calls: {"name": ..., "arguments": {...}} each.
        unread: calls that could not be read.
        experts: those whose mixture answered; none: the base model did.
        error: why there is no reply.
    """

    text: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()
    unread: int = 0
    experts: tuple[str, ...] = ()
    error: str = ""

    @property
    def parses(self) -> bool:
        """Whether there are calls, all of which can be read."""
        return bool(self.calls) and not self.unread


class Replies:
    """What a chat model replies; what was asked before comes from the file.

    The file's keys hold the request, the weights, who answers, and whatever of the model's settings
    an answer depends on. Code that decodes differently leaves them as they are: give another file.

    Args:
        chat: the chat model.
        file: of JSON lines; made where it is missing.
        batch: requests that are answered together.
        progress: show bars on stderr.
    """

    def __init__(self, chat: ChatT2, file: Path, *, batch: int = 16, progress: bool = True) -> None:
        self._chat = chat
        self._file = file
        self._batch = batch
        self._progress = progress
        self._known = dict(_read(file))

    def get(self, who: str, asked: Sequence[Asked], title: str = "replies") -> list[Reply]:
        """The replies, in order, of `BASE`, of an expert by its name, or `DISPATCHED`.

        A request that is refused, as one longer than the context, has a reply with its error.

        Raises:
            ExpertNotFoundError: there is no such expert.
        """
        keys = [self._key(who, one) for one in asked]
        missing = {key: one for key, one in zip(keys, asked, strict=True) if key not in self._known}
        # Requests of like length share a batch: less of it is padding.
        todo = sorted(missing.items(), key=lambda item: len(json.dumps(asdict(item[1]))))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar(title, len(todo), self._progress and bool(todo)) as bar:
            for start in range(0, len(todo), self._batch):
                part = todo[start : start + self._batch]
                found = self._answer(who, [one for _, one in part])
                lines = [
                    json.dumps({"key": key, **asdict(reply)}) + "\n"
                    for (key, _), reply in zip(part, found, strict=True)
                ]
                with self._file.open("a", encoding="utf-8") as file:
                    file.write("".join(lines))
                self._known |= {key: reply for (key, _), reply in zip(part, found, strict=True)}
                bar.advance(len(part))
        return [self._known[key] for key in keys]

    def _answer(self, who: str, asked: Sequence[Asked]) -> list[Reply]:
        """As one batch, by what `ChatT2.batch` is made of: each request has its own tools."""

        def one(batch: Calls, given: Asked) -> Reply:
            with seat(batch, self._chat):
                try:
                    bound = _bound(self._chat, given, self._option(who))
                    found = bound.invoke(_messages(given))
                except T2Error as error:
                    return Reply(error=f"{type(error).__name__}: {error}")
            return _reply(found["raw"] if isinstance(found, dict) else found)

        with ContextThreadPoolExecutor(len(asked)) as executor, joint(len(asked)) as batch:
            return list(executor.map(partial(one, batch), asked))

    def _option(self, who: str) -> dict[str, Any]:
        if who == DISPATCHED:
            return {}
        return {"dispatch": "off"} if who == BASE else {"expert": who}

    def _key(self, who: str, asked: Asked) -> str:
        told = json.dumps([self._model, self._who(who), asdict(asked)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    @cached_property
    def _model(self) -> list[Any]:
        return [_VERSION, self._chat.t2.fingerprint, self._chat.t2.answering]

    def _who(self, who: str) -> list[str]:
        if who == BASE:
            return [who]
        if who == DISPATCHED:
            return [who, version_of(self._chat.engine.dispatcher), self._chat.registry.fingerprint]
        return ["expert", self._chat.registry.get(who).answering()]


def _bound(chat: ChatT2, asked: Asked, option: Mapping[str, Any]) -> Runnable[Any, Any]:
    options = {"max_tokens": asked.max_tokens, **option}
    if asked.schema is not None:
        return chat.with_structured_output(dict(asked.schema), include_raw=True, **options)
    if asked.tools:
        tools = [dict(tool) for tool in asked.tools]
        return chat.bind_tools(tools, tool_choice=asked.tool_choice, **options)
    return chat.bind(**options)


def _messages(asked: Asked) -> list[BaseMessage]:
    found: list[BaseMessage] = []
    for message in Example(messages=asked.messages, tools=asked.tools).messages:
        text, role = text_of(message), message["role"]
        if role == "tool":
            call = message["tool_call_id"]
            found.append(ToolMessage(text, tool_call_id=call, name=message.get("name")))
        elif role == "assistant":
            calls = [
                {"id": call["id"], "name": one["name"], "args": one["arguments"]}
                for call in message.get("tool_calls", ())
                for one in (call["function"],)
            ]
            found.append(AIMessage(text, tool_calls=calls))
        else:
            found.append((HumanMessage if role == "user" else SystemMessage)(text))
    return found


def _reply(message: AIMessage) -> Reply:
    return Reply(
        str(message.text),
        tuple({"name": call["name"], "arguments": call["args"]} for call in message.tool_calls),
        len(message.invalid_tool_calls),
        tuple(message.response_metadata["dispatch"]["mixture"]["weights"]),
    )


def _read(file: Path) -> Iterator[tuple[str, Reply]]:
    text = file.read_text("utf-8") if file.exists() else ""
    if text and not text.endswith("\n"):  # a run was stopped while it wrote
        with file.open("a", encoding="utf-8") as open_end:
            open_end.write("\n")
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        row["calls"], row["experts"] = tuple(row["calls"]), tuple(row["experts"])
        yield row.pop("key"), Reply(**row)
