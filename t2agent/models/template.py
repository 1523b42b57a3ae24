"""The chat template of one model, and which spellings in a text it must be kept from."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from t2agent.errors import ConfigError
from t2agent.replies.conversation import MARKS, Way, alternating, images_first, ways, without_system
from t2agent.replies.format import ToolFormat
from t2agent.replies.inference import REFUSALS, as_parts, infer, is_form

FALLBACK = (
    "{%- for message in messages -%}"
    "{{- message['role'][:1] | upper + message['role'][1:] + ': ' + message['content'] + '\n\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)
"""For models that come without a chat template: "User: ...", "Assistant: ...", plain text."""

_PROBE = "probe"
_PRIVATE = range(0xE000, 0xF8FF)
_MARK = re.compile(r"<[^<>\s'\"{}%]+>|\[/?[A-Z][A-Z_]+\]")
_THOUGHTS = re.compile(
    r"(<|\[)((?:\w+:)?\w*think\w*|thoughts?|reasoning|THINK)(>|\])\s*$"
    r"|(<\|)START(_THINKING\|>)\s*$"
)


class ChatTemplate:
    """Renders conversations with the template of a processor or tokenizer.

    images_first: whether the images of a user's turn go before its text, all of it one message.

    `processor` is None where only text is read. A template that takes the parts of a content gets
    them; one that takes strings gets the texts joined, with the processor's placeholder for each
    image. Where a template refuses a system message, its text goes before the first user's.
    """

    def __init__(self, processor: Any, *, images_first: bool = False) -> None:
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self.processor = None if processor is self._tokenizer else processor
        own = getattr(processor, "chat_template", None)
        self._owner = processor if own else self._tokenizer
        self._source = self._owner.chat_template
        self._images_first = images_first
        self._template = None if self._source else FALLBACK
        self._extra: dict[str, Any] = {}
        self._size = len(self._tokenizer)
        written = str(self._source or "")
        added = self._tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        special |= set(self._tokenizer.all_special_tokens)
        for name, value in vars(processor).items():
            if name.endswith("_token") and isinstance(value, str):
                special.add(value)
        named = {token.content for token in added if token.content in written}
        # An answer may hold marks that are no special tokens, such as </think>: its template
        # looks for them.
        self._answer = _pattern(special)
        self._other = _pattern(special | named)
        self._parts: frozenset[str] = frozenset()
        self._parts = self._parts_roles()
        if self._try(("user", _PROBE)) is None:
            self._extra = {"functions": "[]", "datetime": datetime.now(UTC).strftime("%Y-%m-%d")}

    def is_current(self) -> bool:
        """Whether neither the template nor the vocabulary has been changed since."""
        return self._source == self._owner.chat_template and self._size == len(self._tokenizer)

    def breaker(self, given: Any) -> str:
        """A character that no text holds and no tokenizer's vocabulary is likely to."""
        text = json.dumps(given, ensure_ascii=False, skipkeys=True, default=_mapping)
        for code in _PRIVATE:
            if chr(code) not in text:
                return chr(code)
        raise ConfigError("the prompt uses every private-use character: leave one out")

    @staticmethod
    def open_thoughts(text: str) -> str | None:
        """What ends the thoughts that a rendered prompt has begun, such as </think>; None where it
        has not."""
        found = _THOUGHTS.search(text)
        if found is None:
            return None
        return f"{found[4]}END{found[5]}" if found[4] else f"{found[1]}/{found[2]}{found[3]}"

    def neutral(self, text: str, breaker: str, *, role: str = "user") -> str:
        """The text with the breaker inside each spelling of a control token.

        role: "assistant" for an earlier answer, and "tool" for what tools say: there, a space is
        put inside the marks of turns and calls that are ordinary text, too.
        """
        text = text.encode(errors="replace").decode()  # arguments may hold half a surrogate pair
        pattern = self._answer if role == "assistant" else self._other
        if pattern is None:
            return text
        while pattern.search(text):  # again: breaking one may bare another that overlapped it
            text = pattern.sub(lambda found: found[0][0] + breaker + found[0][1:], text)
        if role == "tool":
            while self._written.search(text):
                text = self._written.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", text)
        return text

    @functools.cached_property
    def _written(self) -> re.Pattern[str]:
        """The marks of turns and of calls that the template writes."""
        turns = [(role, _PROBE) for role in ("system", "user", "assistant", "user")]
        shown = self._try(*turns) or self._try(*turns[1:]) or ""
        marks = set(_MARK.findall(f"{self._source or self._template}{shown}"))
        marks |= {*MARKS, *self.tool_format.marks}
        # Headers of plain text, such as "User:".
        between = {part.strip() for part in shown.split(_PROBE)[1:]}
        marks |= {one for one in between if not _MARK.search(one)}
        pattern = _pattern(marks)
        assert pattern is not None
        return pattern

    @functools.cached_property
    def tool_format(self) -> ToolFormat:
        """How the model writes tool calls."""
        image = getattr(self.processor, "image_token", None)
        return infer(self._apply, parts=self._parts, image=image)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        breaker: str,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The conversation as text, ending in the header of the answer.

        tools: on offer, as OpenAI's function tools.

        Raises ConfigError where the template refuses it.
        """
        refusals: list[Exception] = []
        for chat, extra in self._ways(messages, breaker, tools):
            try:
                return self._apply(chat, **extra)
            except REFUSALS as error:
                refusals.append(error)
        raise ConfigError(
            f"the model's chat template refuses the conversation: {refusals[0]}. Give roles in "
            "the order that it expects, usually user and assistant in turn"
        ) from refusals[0]

    def _ways(
        self,
        messages: Sequence[Mapping[str, Any]],
        breaker: str,
        tools: Sequence[Mapping[str, Any]],
    ) -> Iterator[Way]:
        """Forms of the conversation that the template may take, with the tools under their name.

        The first is the one that it is made for; the others leave less and less to it.
        """
        turns = images_first(messages) if self._images_first else messages
        safe = [self._message(message, breaker) for message in turns]
        chats: list[Way] = [(safe, {})]
        if tools or any(m.get("tool_calls") or m["role"] == "tool" for m in safe):
            offered = [self.safe(tool, breaker, "tool") for tool in tools]
            chats = ways(safe, offered, self.tool_format)
        for chat, given in chats:
            told = without_system(chat)
            if told and self._images_first:
                told = [*images_first(told[:1]), *told[1:]]
            orders = [chat, told]
            orders = orders if self._shows_system else orders[::-1]
            whole = [one for one in orders if one is not None]
            for one in [*whole, *filter(None, map(alternating, whole))]:
                yield one, given
                # A template for tool use may go through the tools without asking for any.
                yield one, {"tools": [], **given}

    @functools.cached_property
    def _shows_system(self) -> bool:
        """Whether the template writes a system message, or refuses it."""
        return "system probe" in (
            self._try(("system", "system probe"), ("user", _PROBE)) or "system probe"
        )

    @functools.cached_property
    def turn_end(self) -> str:
        """What it writes after the last answer of a conversation, such as <|im_end|>."""
        text = self._try(("user", "Hi"), ("assistant", _PROBE), generation=False) or ""
        return text.rpartition(_PROBE)[2]

    def _try(self, *turns: tuple[str, str], generation: bool = True) -> str | None:
        """What the template makes of messages of (role, text); None where it refuses them."""
        messages: list[dict[str, Any]] = [
            {"role": role, "content": as_parts(text) if role in self._parts else text}
            for role, text in turns
        ]
        ways: tuple[dict[str, Any], ...] = ({}, {"tools": []})
        for extra in ways:
            try:
                return self._apply(messages, generation=generation, **extra)
            except REFUSALS:
                continue
        return None

    def _message(self, message: Mapping[str, Any], breaker: str) -> dict[str, Any]:
        role = message["role"]
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        parts: list[dict[str, Any]] = []
        for part in content:
            # Texts side by side are one: a control token must not form between them.
            if part["type"] == "text" and parts and parts[-1]["type"] == "text":
                parts[-1] = {"type": "text", "text": parts[-1]["text"] + part["text"]}
            else:
                parts.append(dict(part))
        rest = {key: value for key, value in message.items() if key != "content"}
        if not rest.get("tool_calls", True):  # some templates ask whether there is a list at all
            del rest["tool_calls"]
        safe: dict[str, Any] = self.safe(rest, breaker, "user")
        safe["content"] = self.safe(parts, breaker, role)
        parts = safe["content"]
        images = any(part["type"] == "image" for part in parts)
        if not (self._parts and (images or role in self._parts)):
            safe["content"] = "".join(
                part["text"] if part["type"] == "text" else self._placeholder() for part in parts
            )
        return safe

    def safe(self, value: Any, breaker: str, role: str) -> Any:
        """The value with `neutral` of all its texts."""
        if isinstance(value, str):
            return self.neutral(value, breaker, role=role)
        if isinstance(value, Mapping):
            return {
                self.safe(key, breaker, role): self.safe(item, breaker, role)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.safe(item, breaker, role) for item in value]
        return value

    def _placeholder(self) -> str:
        token = getattr(self.processor, "image_token", None)
        if not isinstance(token, str):
            raise ConfigError(
                f"the chat template takes no image parts and {type(self.processor).__name__} "
                "names no image_token: give the processor a chat template that places images"
            )
        return token

    def _apply(
        self, messages: list[dict[str, Any]], *, generation: bool = True, **extra: Any
    ) -> str:
        text: str = self._owner.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=generation,
            **{**self._extra, **extra},
        )
        return text

    def _parts_roles(self) -> frozenset[str]:
        """The roles whose contents it takes as lists of parts; of no role if not of the user."""

        def writes(place: int, role: str, content: Any) -> bool:
            chat = [{"role": "user", "content": as_parts("Hi")}] if role != "user" else []
            chat.insert(place, {"role": role, "content": content})
            try:
                text = self._apply(chat)
            except REFUSALS:
                return False
            return _PROBE in text and not is_form(text, _PROBE)

        if not writes(0, "user", as_parts(_PROBE)):
            return frozenset()
        others = {
            role
            for place, role in enumerate(("system", "assistant"))
            if writes(place, role, as_parts(_PROBE)) or not writes(place, role, _PROBE)
        }
        return frozenset({"user", "tool", *others})


def _pattern(tokens: set[str]) -> re.Pattern[str] | None:
    # A single character cannot be broken, and space in a template is ordinary text.
    several = sorted((t for t in tokens if len(t) > 1 and not t.isspace()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, several))) if several else None


def _mapping(value: object) -> dict[Any, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None
