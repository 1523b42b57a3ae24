"""The chat template of one model, and which spellings in a text it must be kept from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from t2agent.errors import ConfigError

FALLBACK = (
    "{%- for message in messages -%}"
    "{{- message['role'][:1] | upper + message['role'][1:] + ': ' + message['content'] + '\n\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)
"""For models that come without a chat template: "User: ...", "Assistant: ...", plain text."""

_PROBE = "probe"
_PRIVATE = range(0xE000, 0xF8FF)


class ChatTemplate:
    """Renders conversations with the template of a processor or tokenizer.

    `processor` is None where only text is read. A template that takes the parts of a content gets
    them; one that takes strings gets the texts joined, with the processor's placeholder for each
    image. Where a template refuses a system message, its text goes before the first user's.
    """

    def __init__(self, processor: Any) -> None:
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self.processor = None if processor is self._tokenizer else processor
        own = getattr(processor, "chat_template", None)
        self._owner = processor if own else self._tokenizer
        self._source = self._owner.chat_template
        self._template = None if self._source else FALLBACK
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
        self._parts = self._takes_parts()

    def is_current(self) -> bool:
        """Whether neither the template nor the vocabulary has been changed since."""
        return self._source == self._owner.chat_template and self._size == len(self._tokenizer)

    def breaker(self, given: Any) -> str:
        """A character that no text holds and no tokenizer's vocabulary is likely to."""
        text = "".join(_strings(given))
        for code in _PRIVATE:
            if chr(code) not in text:
                return chr(code)
        raise ConfigError("the prompt uses every private-use character: leave one out")

    def neutral(self, text: str, breaker: str, *, role: str = "user") -> str:
        """The text with the breaker inside each spelling of a control token."""
        pattern = self._answer if role == "assistant" else self._other
        if pattern is None:
            return text
        while pattern.search(text):  # again: breaking one may bare another that overlapped it
            text = pattern.sub(lambda found: found[0][0] + breaker + found[0][1:], text)
        return text

    def render(self, messages: Sequence[Mapping[str, Any]], breaker: str) -> str:
        """The conversation as text, ending in the header of the answer.

        Raises ConfigError where the template refuses it.
        """
        safe = [self._message(message, breaker) for message in messages]
        merged = _without_system(safe)
        # A template for tool use may go through the tools without asking whether there are any.
        ways: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
            (safe, {}),
            (safe, {"tools": []}),
        ]
        if merged is not None:
            ways.append((merged, {}))
        refusals: list[Exception] = []
        for chat, extra in ways:
            try:
                return self._apply(chat, **extra)
            except (TemplateError, TypeError) as error:
                refusals.append(error)
        raise ConfigError(
            f"the model's chat template refuses the conversation: {refusals[0]}. Give roles in "
            "the order that it expects, usually user and assistant in turn"
        ) from refusals[0]

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
        safe: dict[str, Any] = self._safe({**rest, "content": parts}, breaker, role)
        if not self._parts:
            safe["content"] = "".join(
                part["text"] if part["type"] == "text" else self._placeholder()
                for part in safe["content"]
            )
        return safe

    def _safe(self, value: Any, breaker: str, role: str) -> Any:
        if isinstance(value, str):
            return self.neutral(value, breaker, role=role)
        if isinstance(value, Mapping):
            return {key: self._safe(item, breaker, role) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._safe(item, breaker, role) for item in value]
        return value

    def _placeholder(self) -> str:
        token = getattr(self.processor, "image_token", None)
        if not isinstance(token, str):
            raise ConfigError(
                f"the chat template takes no image parts and {type(self.processor).__name__} "
                "names no image_token: give the processor a chat template that places images"
            )
        return token

    def _apply(self, messages: list[dict[str, Any]], **extra: Any) -> str:
        text: str = self._owner.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
            **extra,
        )
        return text

    def _takes_parts(self) -> bool:
        part = {"type": "text", "text": _PROBE}
        try:
            text = self._apply([{"role": "user", "content": [part]}])
        except (TemplateError, TypeError):
            return False
        return text.count(_PROBE) == 1 and "'type'" not in text


def _pattern(tokens: set[str]) -> re.Pattern[str] | None:
    # A single character cannot be broken, and space in a template is ordinary text.
    several = sorted((t for t in tokens if len(t) > 1 and not t.isspace()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, several))) if several else None


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [text for item in value for text in _strings(item)]


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The same with the system's text before the first user's; None where there is none."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system or not rest or rest[0]["role"] != "user":
        return None
    first = rest[0]["content"]
    if isinstance(first, str):
        content: Any = "\n\n".join([*system, first])
    else:
        gap = {"type": "text", "text": "\n\n"}
        content = [part for parts in system for part in [*parts, gap]] + first
    return [{**rest[0], "content": content}, *rest[1:]]
