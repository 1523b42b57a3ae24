"""The text of a reply as LangChain's messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk

from t2agent.chat.misfits import Misfits
from t2agent.engine.reply_form import ReplyForm
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, open_thoughts
from t2agent.replies.parsing import Call, CallPiece, ReplyParser
from t2agent.replies.thoughts import Thoughts


@dataclass(slots=True)
class ReplyReader:
    """Turns the text of one reply into a message, at once or piece by piece.

    parser: what tells text from calls; None where no tool can be called.
    thoughts: the text up to which the reply is thoughts, which are left out since the rest must
    be JSON; "" where it has none. split: what tells thoughts from the rest, where they are wanted
    apart, or (``told`` False) not at all.
    misfits: what checks it against the form that was asked for.
    """

    parser: ReplyParser | None
    thoughts: str = ""
    misfits: Misfits = field(default_factory=Misfits)
    split: Thoughts | None = None
    told: bool = True
    _said: str = field(init=False, default="")
    _checked: int = field(init=False, default=0)
    _held: str = field(init=False, default="")
    _ids: list[str] = field(init=False, default_factory=list)

    @classmethod
    def of(
        cls, form: ReplyForm, model: T2Model, prompt: Prompt, *, reasoning: bool | None = None
    ) -> ReplyReader:
        """The reader of a reply to a prompt, in the form that was asked for; reasoning: as of
        `t2agent.ChatT2`."""
        if reasoning is None:
            return cls(form.parser(model), form.thoughts(model, prompt), Misfits(form))
        split = Thoughts(open_thoughts(model, prompt))
        return cls(form.parser(model), "", Misfits(form), split, reasoning)

    def message(self, text: str) -> AIMessage:
        """The whole reply; calls that cannot be read, or do not fit the schema of their tool, are
        in ``invalid_tool_calls``."""
        more: dict[str, Any] = {}
        if self.split is not None:
            thought, text = self.split.push(text, last=True)
            if thought and self.told:
                more = {"additional_kwargs": {"reasoning_content": thought}}
        text = self._thought(text, last=True)
        if self.parser is None:
            self._said = text
            return AIMessage(content=text, **more)
        self.parser.push(text)
        self.parser.finish()
        calls, invalid = self._calls(self.parser.calls)
        content = self.parser.content
        return AIMessage(content=content, tool_calls=calls, invalid_tool_calls=invalid, **more)

    def chunks(self, text: str, *, last: bool = False) -> list[AIMessageChunk]:
        """The pieces of a message that more text makes certain.

        A call that does not fit is made one that cannot be read, as one that was cut short.
        """
        found: list[AIMessageChunk] = []
        if self.split is not None:
            thought, text = self.split.push(text, last=last)
            if thought and self.told:
                more = {"reasoning_content": thought}
                found.append(AIMessageChunk(content="", additional_kwargs=more))
        text = self._thought(text, last=last)
        if self.parser is None:
            self._said += text
            return [*found, AIMessageChunk(content=text)] if text else found
        pieces = self.parser.push(text) + (self.parser.finish() if last else [])
        found += [self._chunk(piece) for piece in pieces]
        for place, call in enumerate(self.parser.calls):
            if place >= self._checked and call.complete:
                self._checked = place + 1
                if self._problem(call) is not None:
                    found.append(self._chunk(CallPiece(place, None, call.spoiler())))
        return found

    def problem(self) -> str | None:
        """Why the finished reply is not the JSON that was asked for; None where it is, and where
        it calls tools."""
        if self.parser is None:
            return self.misfits.of_text(self._said)
        return None if self.parser.calls else self.misfits.of_text(self.parser.content)

    def _thought(self, text: str, *, last: bool) -> str:
        """The text without the thoughts before it."""
        if not self.thoughts:
            return text
        self._held += text
        _, found, rest = self._held.partition(self.thoughts)
        if found and rest.strip():
            self.thoughts, self._held = "", ""
            return rest.lstrip()
        rest = rest if found else self._held
        return rest if last else ""

    def _chunk(self, piece: str | CallPiece) -> AIMessageChunk:
        if isinstance(piece, str):
            return AIMessageChunk(content=piece)
        named = piece.name is not None
        chunk = tool_call_chunk(
            name=piece.name,
            args=piece.arguments,
            id=self._id(piece.index) if named else None,
            index=piece.index,
        )
        return AIMessageChunk(content="", tool_call_chunks=[chunk])

    def _calls(self, calls: Sequence[Call]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
        good, bad = [], []
        for place, call in enumerate(calls):
            arguments = call.parsed()
            problem = self._problem(call)
            if arguments is None or problem is not None:
                bad.append(
                    invalid_tool_call(
                        name=call.name, args=call.arguments, id=self._id(place), error=problem
                    )
                )
            else:
                good.append(tool_call(name=call.name, args=arguments, id=self._id(place)))
        return good, bad

    def _problem(self, call: Call) -> str | None:
        """Why a call cannot be made; None where it can."""
        arguments = call.parsed()
        if arguments is None:
            return "no JSON object" if call.complete else "the call is cut short"
        return self.misfits.of_call(call.name, arguments)

    def _id(self, place: int) -> str:
        while len(self._ids) <= place:
            self._ids.append(f"call_{uuid.uuid4().hex[:24]}")
        return self._ids[place]

    @property
    def called(self) -> bool:
        """Whether the reply holds a call that can be read."""
        return self.parser is not None and any(
            self._problem(call) is None for call in self.parser.calls
        )
