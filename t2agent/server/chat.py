"""/v1/chat/completions and /v1/completions."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from t2agent.engine.asking import call_of
from t2agent.engine.batching import Call
from t2agent.engine.logprobs import chat_logprobs
from t2agent.engine.reply_form import ReplyForm
from t2agent.engine.shortlist import most_tools
from t2agent.engine.two_passes import Answer
from t2agent.models.sampling import TokenLogprob
from t2agent.server.failures import RefusedError
from t2agent.server.metrics import Metrics
from t2agent.server.replies import (
    Reader,
    Spelled,
    finish_reason,
    headers,
    text_logprobs,
    told,
    usage,
)
from t2agent.server.requests import ChatRequest, CompletionRequest, Sampled
from t2agent.server.running import Running, started, within
from t2agent.server.served import Base, Served

DONE = "[DONE]"
"""What a stream ends with."""


@dataclass(frozen=True)
class Limits:
    """What a server lets a request take. Tokens of a reply, and seconds of a request, at most."""

    tokens: int = 2048
    seconds: float = 600.0


@dataclass(frozen=True)
class Reply:
    """A body with its headers."""

    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Stream:
    """The data of the events of a stream, with the headers before them."""

    events: AsyncIterator[str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """A request for text: how often, by whom, and how its replies are read."""

    base: Base
    body: Sampled
    call: Call
    form: ReplyForm
    id: str
    object: str

    def head(self) -> dict[str, Any]:
        """What all objects of this request begin with."""
        return {
            "id": self.id,
            "object": self.object,
            "created": int(time.time()),
            "model": self.body.model or self.base.name,
            "system_fingerprint": f"t2agent-{self.base.model.fingerprint[:12]}",
        }

    def reader(self) -> Reader:
        """What reads one reply to a chat."""
        return Reader(self.form, self.base.model, self.call.conversation)


class Completions:
    """Answers requests for text."""

    def __init__(self, served: Served, metrics: Metrics, limits: Limits) -> None:
        self.served, self.metrics, self.limits = served, metrics, limits

    async def chat(self, request: Request, body: ChatRequest) -> Reply | Stream:
        """The answer to /v1/chat/completions. Raises RefusedError, and T2Error for bad requests."""
        asked = await run_in_threadpool(self.chat_asked, body)
        running = await started(asked.base, [asked.call], body.copies, pieces=bool(body.stream))
        if body.stream:
            return Stream(self._chat_events(asked, running), headers(running[0].job))
        answers = await self.answers(request, running)
        choices = []
        for index, answer in enumerate(answers):
            reader = asked.reader()
            reader.push(answer.generation.text, last=True)
            choices.append(
                {
                    "index": index,
                    "message": {**reader.message, "refusal": None},
                    "logprobs": chat_logprobs(asked.base.model, answer.generation.logprobs),
                    "finish_reason": finish_reason(answer, called=reader.called),
                }
            )
        more = told(running[0].job, answers[0])
        found = {**asked.head(), "choices": choices, "usage": usage(answers), "t2agent": more}
        return Reply(found, headers(running[0].job))

    async def complete(self, request: Request, body: CompletionRequest) -> Reply | Stream:
        """The answer to /v1/completions. Raises as `chat`."""
        prompts = body.prompts
        asked = await run_in_threadpool(self._text_asked, body, prompts)
        base, calls = asked[0].base, [one.call for one in asked]
        running = await started(base, calls, body.copies, pieces=bool(body.stream))
        if body.stream:
            return Stream(self._text_events(asked[0], running), headers(running[0].job))
        answers = await self.answers(request, running)
        choices = [
            {
                "index": index,
                "text": answer.generation.text,
                "logprobs": text_logprobs(base.model, answer.generation.logprobs),
                "finish_reason": finish_reason(answer),
            }
            for index, answer in enumerate(answers)
        ]
        counts = [
            usage(answers[start : start + body.copies])
            for start in range(0, len(answers), body.copies)
        ]
        tokens = {name: sum(count[name] for count in counts) for name in counts[0]}
        more = told(running[0].job, answers[0])
        found = {**asked[0].head(), "choices": choices, "usage": tokens, "t2agent": more}
        return Reply(found, headers(running[0].job))

    async def answers(self, request: Request, running: Sequence[Running]) -> list[Answer]:
        """The whole answers. Raises what went wrong with the first that failed."""

        def give_up() -> None:
            for one in running:
                one.give_up()

        work = asyncio.gather(*(one.answer() for one in running))
        answers = await within(request, self.limits.seconds, work, give_up)
        for one, answer in zip(running, answers, strict=True):
            self._count(one, answer)
        return list(answers)

    def chat_asked(self, body: ChatRequest) -> Asked:
        """What a body asks for. Raises T2Error for what cannot be done."""
        base, choice = self.served.find(body.model)
        options = body.options(self._most(base), logprobs=body.told)
        most = most_tools(base.model, "auto")
        call, form, _ = call_of(base.engine, body.prompt(), body.form, options, choice, most)
        kind = "chat.completion.chunk" if body.stream else "chat.completion"
        return Asked(base, body, call, form, f"chatcmpl-{uuid.uuid4().hex}", kind)

    def _text_asked(self, body: CompletionRequest, prompts: Sequence[str]) -> list[Asked]:
        base, choice = self.served.find(body.model)
        options = body.options(self._most(base), logprobs=body.logprobs)
        name = f"cmpl-{uuid.uuid4().hex}"
        calls = [Call(base.engine, prompt, options, choice) for prompt in prompts]
        form = ReplyForm()
        return [Asked(base, body, call, form, name, "text_completion") for call in calls]

    def _most(self, base: Base) -> int:
        return min(self.limits.tokens, base.model.context_length)

    async def _chat_events(self, asked: Asked, running: list[Running]) -> AsyncIterator[str]:
        readers = [asked.reader() for _ in running]
        spelled = [Spelled(asked.base.model, one.job) for one in running]
        pending: list[list[TokenLogprob]] = [[] for _ in running]
        with_usage = asked.body.usage_in_stream

        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            usage_field = {"usage": None} if with_usage and "usage" not in more else {}
            return json.dumps({**asked.head(), "choices": choices, **usage_field, **more})

        def choice(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            logs = chat_logprobs(asked.base.model, pending[index] or None)
            pending[index] = []
            return {"index": index, "delta": delta, "logprobs": logs, "finish_reason": reason}

        for index in range(len(running)):
            yield event([choice(index, {"role": "assistant", "content": ""})])
        async for index, piece in self.joined(running):
            last = isinstance(piece, Answer)
            text = "" if isinstance(piece, Answer) else piece
            pending[index] += spelled[index].push(piece)
            for delta in readers[index].push(text, last=last):
                yield event([choice(index, delta)])
            if isinstance(piece, Answer):
                reason = finish_reason(piece, called=readers[index].called)
                more = {"t2agent": told(running[index].job, piece)}
                yield event([choice(index, {}, reason)], **more)
        if with_usage:
            answers = [await one.answer() for one in running]
            yield event([], usage=usage(answers))
        yield DONE

    async def _text_events(self, asked: Asked, running: list[Running]) -> AsyncIterator[str]:
        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            return json.dumps({**asked.head(), "choices": choices, **more})

        spelled = [Spelled(asked.base.model, one.job) for one in running]
        offsets = [0] * len(running)
        async for index, piece in self.joined(running):
            found = spelled[index].push(piece)
            logs = text_logprobs(asked.base.model, found or None, offsets[index])
            offsets[index] += 0 if logs is None else sum(map(len, logs["tokens"]))
            choice: dict[str, Any] = {
                "index": index,
                "text": "" if isinstance(piece, Answer) else piece,
                "logprobs": logs,
                "finish_reason": finish_reason(piece) if isinstance(piece, Answer) else None,
            }
            more = {"t2agent": told(running[index].job, piece)} if isinstance(piece, Answer) else {}
            yield event([choice], **more)
        if asked.body.usage_in_stream:
            yield event([], usage=usage([await one.answer() for one in running]))
        yield DONE

    async def joined(self, running: list[Running]) -> AsyncIterator[tuple[int, str | Answer]]:
        """The pieces of all replies as they come, and of each its answer last; what is left when
        nobody listens any more ends."""
        found: asyncio.Queue[tuple[int, str | Answer | BaseException]] = asyncio.Queue()

        async def read(index: int, one: Running) -> None:
            try:
                async for piece in one.pieces():
                    await found.put((index, piece))
                await found.put((index, await one.answer()))
            except Exception as error:  # noqa: BLE001 - raised by who reads
                await found.put((index, error))

        tasks = [asyncio.create_task(read(index, one)) for index, one in enumerate(running)]
        try:
            async with asyncio.timeout(self.limits.seconds):
                left = len(running)
                while left:
                    index, piece = await found.get()
                    if isinstance(piece, BaseException):
                        raise piece
                    if isinstance(piece, Answer):
                        left -= 1
                        self._count(running[index], piece)
                    yield index, piece
        except TimeoutError as error:
            told_ = f"the reply took longer than {self.limits.seconds:g} seconds"
            raise RefusedError(504, told_, "timeout") from error
        finally:
            for one in running:
                if not one.job.future.done():
                    one.give_up()
            for task in tasks:
                task.cancel()

    def _count(self, one: Running, answer: Answer) -> None:
        self.metrics.answered(one.job.call.engine.model.name, one.job, answer)
