"""Prompts, and how they become a model's input: chat template, control tokens, left padding.

Text of a message never becomes a control token, whatever the family. Control tokens are the
tokenizer's special tokens, the added tokens that the chat template writes and the placeholders of
the processor. Where one is spelled out in a text, a private-use character is put inside it before
the template and the processor see it, and its tokens are taken out of the result: the model reads
the very characters of the text, as ordinary tokens. Prompts without such text are encoded exactly
as transformers does it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import BatchFeature

from t2agent.errors import ConfigError, ModalityError
from t2agent.models.model import T2Model
from t2agent.models.template import ChatTemplate
from t2agent.replies.format import ToolFormat

Message = dict[str, Any]

TOKENIZER_LOCK = threading.Lock()
"""Held while a tokenizer is used: fast ones refuse to be used by two threads at once."""
_TEMPLATES: WeakKeyDictionary[T2Model, ChatTemplate] = WeakKeyDictionary()


@dataclass(frozen=True)
class Prompt:
    """A conversation that the model is to continue.

    ``messages`` are in Hugging Face's chat form, {"role": ..., "content": [{"type": "text",
    "text": ...} | {"type": "image"}]} (or "content" a string); ``images`` in the order of the
    image parts. ``tools``: what the model may call, as OpenAI's function tools.

    Raises ConfigError for messages of another form, text that is not Unicode, and where the
    images are not as many as the image parts.
    """

    messages: tuple[Message, ...]
    images: tuple[Image, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for message in self.messages:
            _check_message(message)
        parts = sum(
            part.get("type") == "image"
            for message in self.messages
            if not isinstance(message["content"], str)
            for part in message["content"]
        )
        if parts != len(self.images):
            raise ConfigError(
                f"the messages have {parts} image parts, but {len(self.images)} images were "
                "given: one image is needed for each part"
            )

    @classmethod
    def user(cls, text: str, image: Image | None = None) -> Prompt:
        """One message of a user: an image, if given, and then the text."""
        content: list[dict[str, str]] = [] if image is None else [{"type": "image"}]
        content.append({"type": "text", "text": text})
        return cls(({"role": "user", "content": content},), () if image is None else (image,))


def text_of(message: Message) -> str:
    """The text of a message, without its images."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def encode(model: T2Model, prompts: Sequence[Prompt | str]) -> BatchFeature:
    """The model's input for a batch: ``input_ids`` and ``attention_mask``, (n, P), and images.

    Prompts go through the chat template, with the header of the answer; plain texts do not and
    are to be continued as they are. Padding is on the left, tensors are on the model's device and
    images in its dtype.

    Raises ModalityError for images where the model reads text only, ConfigError for a
    conversation that the chat template refuses, or for prompts and plain texts in one batch.
    """
    with TOKENIZER_LOCK:
        template = _template(model)
        chats = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
        if not chats:
            texts = [as_unicode(str(prompt)) for prompt in prompts]
            breaker = template.breaker(texts)
            broken = [template.neutral(text, breaker) for text in texts]
            inputs = _plain(model, broken, special=True)
        elif len(chats) == len(prompts):
            _check_images(model, chats)
            breaker = template.breaker([(chat.messages, chat.tools) for chat in chats])
            broken = [template.render(chat.messages, breaker, chat.tools) for chat in chats]
            if template.processor is None:
                inputs = _plain(model, broken, special=False)
            else:
                inputs = _processed(model, broken, chats)
        else:
            raise ConfigError("a batch holds prompts or plain texts, but both were given")
        if any(breaker in text for text in broken):
            _mend(model, inputs, breaker, broken)
    return inputs.to(model.device, dtype=model.model.dtype)


def tool_format(model: T2Model) -> ToolFormat:
    """How the model writes tool calls."""
    with TOKENIZER_LOCK:
        return _template(model).tool_format


def open_thoughts(model: T2Model, prompt: Prompt) -> str | None:
    """What ends the thoughts that the prompt of a reply has begun, such as </think>; None where
    it has not.

    Raises ConfigError as `encode`.
    """
    with TOKENIZER_LOCK:
        template = _template(model)
        breaker = template.breaker([(prompt.messages, prompt.tools)])
        return template.open_thoughts(template.render(prompt.messages, breaker, prompt.tools))


def _template(model: T2Model) -> ChatTemplate:
    template = _TEMPLATES.get(model)
    if template is None or not template.is_current():
        template = _TEMPLATES[model] = ChatTemplate(model.processor)
    return template


def _check_message(message: object) -> None:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ConfigError(f"{message!r:.80} is no message; give a dict with a role and a content")
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise ConfigError(f"the content of a message is {content!r:.80}; give a string or parts")
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            as_unicode(part["text"])
        elif kind != "image":
            raise ConfigError(
                f'{part!r:.80} is no part of a message; give {{"type": "text", "text": ...}} or '
                '{"type": "image"}'
            )


def as_unicode(text: str) -> str:
    """The text. Raises ConfigError where it is not Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"a text is not Unicode: character {error.start} is half of a surrogate pair; "
            'mend it where it was read, or with text.encode(errors="replace").decode()'
        ) from error
    return text


def _check_images(model: T2Model, prompts: Sequence[Prompt]) -> None:
    if "image" in model.modalities:
        return
    for prompt in prompts:
        if prompt.images:
            raise ModalityError(
                f"{len(prompt.images)} image(s) were given to {model.name}, which reads text "
                "only: leave them out, or use a vision-language model"
            )


def _plain(model: T2Model, texts: list[str], *, special: bool) -> BatchFeature:
    tokenizer = model.tokenizer
    rows = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else _pad(tokenizer)
    rows = [row or [start] for row in rows]  # a model cannot continue nothing at all
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), _pad(tokenizer))
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return BatchFeature({"input_ids": ids, "attention_mask": mask})


def _processed(model: T2Model, texts: list[str], prompts: Sequence[Prompt]) -> BatchFeature:
    tokenizer = model.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # processors pad, and refuse to without one
    images = [list(prompt.images) for prompt in prompts]
    # The rule of ProcessorMixin.apply_chat_template: a template that writes BOS writes them all.
    begun = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
    inputs: BatchFeature = model.processor(
        text=texts,
        images=images if any(images) else None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        **({"add_special_tokens": False} if begun else {}),
    )
    return inputs


def _pad(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = tokenizer.eos_token_id
    return 0 if pad is None else int(pad)


def _mend(model: T2Model, inputs: BatchFeature, breaker: str, texts: list[str]) -> None:
    """Take the breaker's tokens out of the rows, where each of them stands for itself."""
    tokenizer = model.tokenizer
    around = tokenizer("<" + breaker + "|", add_special_tokens=False)["input_ids"]
    left = tokenizer("<", add_special_tokens=False)["input_ids"]
    right = tokenizer("|", add_special_tokens=False)["input_ids"]
    unit = around[len(left) : len(around) - len(right)]
    if not unit or around != [*left, *unit, *right]:
        return  # it is dropped, or melts into its neighbours: it stays, and does no harm
    ids: Tensor = inputs["input_ids"]
    keep = torch.ones_like(ids, dtype=torch.bool)
    for i, row in enumerate(ids.tolist()):
        for start in _places(row, unit):
            keep[i, start : start + len(unit)] = False
    shortest = int((inputs["attention_mask"].bool() & keep).sum(1).max())
    for name, value in list(inputs.items()):
        if isinstance(value, Tensor) and value.shape == ids.shape:
            empty = _pad(tokenizer) if name == "input_ids" else 0
            rows = torch.full((len(texts), shortest), empty, dtype=value.dtype)
            for i in range(len(texts)):
                kept = value[i][keep[i]][-shortest:]
                rows[i, shortest - len(kept) :] = kept
            inputs[name] = rows


def _places(row: list[int], unit: list[int]) -> list[int]:
    places, i = [], 0
    while i <= len(row) - len(unit):
        if row[i : i + len(unit)] == unit:
            places.append(i)
            i += len(unit)
        else:
            i += 1
    return places
