"""Replies of the engine as OpenAI's objects, whole or piece by piece."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from t2agent.engine.reply_form import ReplyForm
from t2agent.engine.scheduler import Job
from t2agent.engine.two_passes import Answer
from t2agent.models.compiling import Tokens
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, open_thoughts
from t2agent.models.sampling import TokenLogprob
from t2agent.replies.parsing import CallPiece
from t2agent.replies.thoughts import Thoughts

Delta = dict[str, Any]
"""What a piece adds to a message: content, reasoning_content or tool_calls."""


class Reader:
    """Tells the content, the thoughts and the calls of one reply to a chat."""

    def __init__(self, form: ReplyForm, model: T2Model, prompt: Prompt) -> None:
        self._parser = form.parser(model)
        self._thoughts = Thoughts(open_thoughts(model, prompt))
        self._ids: list[str] = []
        self.message: dict[str, Any] = {"role": "assistant", "content": ""}

    def push(self, text: str, *, last: bool = False) -> list[Delta]:
        """The pieces of the message that more text makes certain; they are added to `message`."""
        thought, said = self._thoughts.push(text, last=last)
        found: list[Delta] = [{"reasoning_content": thought}] if thought else []
        if self._parser is None:
            found += [{"content": said}] if said else []
        else:
            pieces = self._parser.push(said) if said else []
            pieces += self._parser.finish() if last else []
            found += map(self._delta, pieces)
        for delta in found:
            self._add(delta)
        if last and self.called and not self.message["content"]:
            self.message["content"] = None
        return found

    @property
    def called(self) -> bool:
        """Whether the message calls tools."""
        return bool(self.message.get("tool_calls"))

    def _delta(self, piece: str | CallPiece) -> Delta:
        if isinstance(piece, str):
            return {"content": piece}
        function: dict[str, Any] = {"arguments": piece.arguments}
        call: dict[str, Any] = {"index": piece.index, "function": function}
        if piece.name is not None:
            self._ids.append(f"call_{uuid.uuid4().hex[:24]}")
            call |= {"id": self._ids[-1], "type": "function"}
            function["name"] = piece.name
        return {"tool_calls": [call]}

    def _add(self, delta: Delta) -> None:
        message = self.message
        for name in ("content", "reasoning_content"):
            if name in delta:
                message[name] = (message.get(name) or "") + delta[name]
        for call in delta.get("tool_calls", ()):
            calls = message.setdefault("tool_calls", [])
            function = call["function"]
            if "id" in call:
                made = {"name": function["name"], "arguments": function["arguments"]}
                calls.append({"id": call["id"], "type": "function", "function": made})
            else:
                calls[call["index"]]["function"]["arguments"] += function["arguments"]


class Spelled:
    """The log-probabilities of the tokens that the pieces of one streamed reply spell.

    Where the row is in another process, all come with the answer.
    """

    def __init__(self, model: T2Model, job: Job) -> None:
        self._texts = Tokens.of(model).texts
        self._row = job.row
        self._tokens = 0
        self._left = 0  # bytes of text that no token that was told spells

    def push(self, piece: str | Answer) -> list[TokenLogprob]:
        """Those that one more piece makes certain; with the answer the rest."""
        begun = self._tokens
        if isinstance(piece, Answer):
            found = (piece.generation.logprobs or ())[begun:]
            self._tokens += len(found)
            return list(found)
        self._left += len(piece.encode(errors="replace"))
        known = self._row.logprobs
        while self._tokens < len(known):
            size = len(self._texts[known[self._tokens].token])
            if size > self._left:
                break
            self._left -= size
            self._tokens += 1
        return list(known[begun : self._tokens])


def finish_reason(answer: Answer, *, called: bool = False) -> str:
    """Why a reply ended, in OpenAI's words."""
    reason = answer.generation.finish_reason
    return "tool_calls" if called and reason == "stop" else str(reason)


def usage(answers: Iterable[Answer]) -> dict[str, Any]:
    """The tokens of replies to one prompt."""
    found = list(answers)
    read = found[0].generation.prompt_tokens
    written = sum(answer.generation.completion_tokens for answer in found)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def told(job: Job, answer: Answer) -> dict[str, Any]:
    """What the server adds to a reply: the decision, and the seconds of both passes."""
    return {
        "dispatch": answer.decision.to_dict(),
        "seconds": {
            "queue": round(job.waited, 4),
            "first_pass": round(answer.decision.seconds, 4),
            "second_pass": round(answer.seconds, 4),
        },
    }


def headers(job: Job) -> dict[str, str]:
    """The decision in the headers of a reply."""
    decision = job.decision
    weights = decision.mixture.weights.items()
    mixture = "+".join(f"{name}={weight:.3g}" for name, weight in weights)
    return {
        "x-t2agent-strategy": decision.strategy,
        "x-t2agent-mixture": mixture or "base",
        "x-t2agent-in-scope": str(decision.in_scope).lower(),
    }


def text_logprobs(
    model: T2Model, found: Iterable[TokenLogprob] | None, offset: int = 0
) -> dict[str, Any] | None:
    """Log-probabilities in the form of completions; None of a reply of which none were kept.

    offset: characters of the reply before the first of these tokens.
    """
    if found is None:
        return None
    texts = Tokens.of(model).texts
    tokens: list[str] = []
    offsets: list[int] = []
    logs: list[float] = []
    tops: list[Mapping[str, float]] = []
    for one in found:
        text = texts[one.token].decode(errors="replace")
        tokens.append(text)
        offsets.append(offset)
        offset += len(text)
        logs.append(one.logprob)
        tops.append({texts[token].decode(errors="replace"): value for token, value in one.top})
    return {"tokens": tokens, "text_offset": offsets, "token_logprobs": logs, "top_logprobs": tops}
