"""Prompts, and how they become a model's input: chat template, control tokens, left padding.

Text of a message never becomes a control token, whatever the family. Control tokens are the
tokenizer's special tokens, the added tokens that the chat template writes and the placeholders of
the processor. Where one is spelled out in a text, a private-use character is put inside it before
the template and the processor see it, and its tokens are taken out of the result: the model reads
the very characters of the text, as ordinary tokens. Prompts without such text are encoded exactly
as transformers does it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from PIL.Image import Image
from pydantic import StrictBool
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature

from t2agent.errors import ConfigError, ModalityError
from t2agent.images import as_rgb
from t2agent.models.installed import NANO
from t2agent.models.model import T2Model
from t2agent.models.options import check_option, needs
from t2agent.models.template import ChatTemplate
from t2agent.replies.format import ToolFormat
from t2agent.replies.messages import Message
from t2agent.tasks.task import Example

_ImagesFirst = Annotated[StrictBool, needs("true or false in the checkpoint's config.json")]


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
        parts = image_parts(self.messages)
        if parts != len(self.images):
            raise ConfigError(
                f"the messages have {parts} image parts, but {len(self.images)} images were "
                "given: one image is needed for each part"
            )

    @classmethod
    def user(cls, text: str, image: Image | None = None) -> Prompt:
        """One message of a user: an image, if given, and then the text.

        The image is seen as a message's is. Raises ImageRefusedError where it cannot be.
        """
        content: list[dict[str, str]] = [] if image is None else [{"type": "image"}]
        content.append({"type": "text", "text": text})
        images = () if image is None else (as_rgb(image),)
        return cls(({"role": "user", "content": content},), images)

    @classmethod
    def of(cls, example: Example) -> Prompt:
        """An example's request, with the tools on offer, and what has happened since.

        It is the prompt that `t2agent.ChatT2` makes of the same conversation with the same tools.
        All tools are shown, also for models of which ChatT2 shows the best few of many: which
        these are depends on the dispatcher and on what experts have learned by then, and of an
        expert that has learned to use its tools it shows all together.
        """
        if example.messages:
            asked = cls(tuple(map(_bare, example.messages)), example.images)
        else:
            asked = cls.user(example.prompt, example.image)
        return cls((*asked.messages, *map(dict, example.steps)), asked.images, example.tools)


def image_parts(messages: Iterable[Message]) -> int:
    """How many parts of messages are images."""
    return sum(
        part.get("type") == "image"
        for message in messages
        if not isinstance(message["content"], str)
        for part in message["content"]
    )


def _bare(message: Mapping[str, Any]) -> Message:
    """A message of an example with its images' places alone."""
    parts = [{"type": "image"} if p["type"] == "image" else p for p in message["content"]]
    return {**message, "content": parts}


@dataclass(frozen=True)
class RenderedPrompt(Prompt):
    """A prompt with its text by a chat template: see `render`.

    ``text`` ends in the header of the answer; ``breaker`` is the character that stands inside the
    control tokens that the messages spell out.
    """

    template: ChatTemplate = field(kw_only=True, repr=False)
    breaker: str = field(init=False)
    text: str = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        breaker = self.template.breaker([(self.messages, self.tools)])
        object.__setattr__(self, "breaker", breaker)
        text = self.template.render(self.messages, breaker, self.tools)
        object.__setattr__(self, "text", text)


def render(model: T2Model, prompt: Prompt) -> RenderedPrompt:
    """The prompt with its text by the model's chat template; itself where it has that already.

    A request is rendered once: all that depends on the text takes the prompt that this returns.

    Raises ModalityError for images where the model reads text only, ConfigError for a conversation
    that the chat template refuses.
    """
    template = _template(model)
    if isinstance(prompt, RenderedPrompt) and prompt.template is template:
        return prompt
    if prompt.images and "image" not in model.modalities:
        raise ModalityError(
            f"{len(prompt.images)} image(s) were given to {model.name}, which reads text "
            f"only: leave them out, or use a vision-language model, such as {NANO}, which comes "
            "with t2agent"
        )
    return RenderedPrompt(prompt.messages, prompt.images, prompt.tools, template=template)


def encode(model: T2Model, prompts: Sequence[Prompt | str]) -> BatchFeature:
    """The model's input for a batch: ``input_ids`` and ``attention_mask``, (n, P), and images.

    Prompts go through the chat template, with the header of the answer; plain texts do not and
    are to be continued as they are. Padding is on the left, tensors are on the model's device and
    images in its dtype.

    Raises what `render` raises, and ConfigError for prompts and plain texts in one batch.
    """
    chats = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
    if chats and len(chats) != len(prompts):
        raise ConfigError("a batch holds prompts or plain texts, but both were given")
    template = _template(model)
    if chats:
        rendered = [render(model, chat) for chat in chats]
        breakers = [chat.breaker for chat in rendered]
        texts = [chat.text for chat in rendered]
    else:
        plain = [as_unicode(str(prompt)) for prompt in prompts]
        breakers = [template.breaker(text) for text in plain]
        texts = list(map(template.neutral, plain, breakers))
    if chats and template.processor is not None:
        inputs = _processed(model, texts, chats)
    else:
        inputs = _plain(model, texts, special=not chats)
    put = [one if one in text else None for one, text in zip(breakers, texts, strict=True)]
    if any(put):
        _mend(model, inputs, put)
    return inputs.to(model.device, dtype=model.model.dtype)


def tool_format(model: T2Model) -> ToolFormat:
    """How the model writes tool calls."""
    return _template(model).tool_format


def turn_end(model: T2Model) -> str:
    """What the chat template writes after an answer, white space around it left out; "" where
    there is no template."""
    owners = (model.processor, model.tokenizer)
    own = any(getattr(one, "chat_template", None) for one in owners)
    return _template(model).turn_end.strip() if own else ""


def reply_tokens(
    model: T2Model,
    text: str,
    calls: Sequence[tuple[str, Mapping[str, Any]]],
    form: ToolFormat,
    *,
    before: str = "",
) -> list[int]:
    """The tokens of a reply: its text, and then its calls, (name, arguments) each, in a format.

    ``before`` and the format's marks are the control tokens that they spell; what text and calls
    spell is text.
    """
    template = _template(model)
    breaker = template.breaker([text, calls])
    said = template.neutral(text, breaker, role="assistant")
    written = form.write(template.safe(calls, breaker, "user"))
    whole = before + (f"{said}\n{written}" if said else written)
    with model.tokenizer_lock:
        ids = list(model.tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"])
    unit = _unit(model, breaker) if breaker in whole else []
    for start in reversed(_places(ids, unit)):
        del ids[start : start + len(unit)]
    return ids


def open_thoughts(model: T2Model, prompt: Prompt) -> str | None:
    """What ends the thoughts that the prompt of a reply has begun, such as </think>; None where
    it has not.

    Raises what `render` raises.
    """
    return ChatTemplate.open_thoughts(render(model, prompt).text)


def keeps_system_in_place(model: T2Model) -> bool:
    """Whether a system message amid a conversation is shown there, by the chat template; else it is
    moved to the beginning, or refused."""
    said = (("user", "asked"), ("assistant", "told"), ("system", "later"), ("user", "so"))
    prompt = Prompt(tuple({"role": role, "content": text} for role, text in said))
    try:
        text = render(model, prompt).text
    except ConfigError:
        return False
    return -1 < text.find("told") < text.find("later")


def _template(model: T2Model) -> ChatTemplate:
    return model.attached(_chat_template, ChatTemplate.is_current)


def _chat_template(model: T2Model) -> ChatTemplate:
    """Whether images go first, "images_first" under "t2agent" in the config.json says."""
    first = model.asks.get("images_first", False)
    check_option("images_first", first, _ImagesFirst)
    return ChatTemplate(model.processor, images_first=first)


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


def _plain(model: T2Model, texts: list[str], *, special: bool) -> BatchFeature:
    tokenizer = model.tokenizer
    with model.tokenizer_lock:
        rows = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else _pad(tokenizer)
    rows = [row or [start] for row in rows]  # a model cannot continue nothing at all
    ids = [torch.tensor(row) for row in rows]
    mask = [torch.ones_like(row) for row in ids]
    return BatchFeature(
        {"input_ids": _padded(ids, _pad(tokenizer)), "attention_mask": _padded(mask)}
    )


def _processed(model: T2Model, texts: list[str], prompts: Sequence[Prompt]) -> BatchFeature:
    tokenizer = model.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # processors pad, and refuse to without one
    images = [list(prompt.images) for prompt in prompts]
    # The rule of ProcessorMixin.apply_chat_template: a template that writes BOS writes them all.
    begun = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
    processor = copy.copy(model.processor)
    processor.tokenizer = _OneAtATime(model)
    inputs: BatchFeature = processor(
        text=texts,
        images=images if any(images) else None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        **({"add_special_tokens": False} if begun else {}),
    )
    return inputs


class _OneAtATime:
    """A model's tokenizer as its processor sees it: called under its lock, which is free while the
    processor reads the images."""

    def __init__(self, model: T2Model) -> None:
        self._tokenizer = model.tokenizer
        self._lock = model.tokenizer_lock

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._locked(self._tokenizer)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tokenizer, name)
        return self._locked(value) if inspect.ismethod(value) else value

    def _locked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return call(*args, **kwargs)

        return locked


def _padded(rows: list[Tensor], value: int = 0) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value, padding_side="left")


def _pad(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = tokenizer.eos_token_id
    return 0 if pad is None else int(pad)


def _mend(model: T2Model, inputs: BatchFeature, breakers: Sequence[str | None]) -> None:
    """Take the tokens of the breaker out of each row that holds one."""
    units = {one: _unit(model, one) if one else [] for one in set(breakers)}
    ids: Tensor = inputs["input_ids"]
    keep = torch.ones_like(ids, dtype=torch.bool)
    for i, row in enumerate(ids.tolist()):
        unit = units[breakers[i]]
        for start in _places(row, unit):
            keep[i, start : start + len(unit)] = False
    shortest = int((inputs["attention_mask"].bool() & keep).sum(1).max())
    for name, value in list(inputs.items()):
        if isinstance(value, Tensor) and value.shape == ids.shape:
            rows = [row[kept][-shortest:] for row, kept in zip(value, keep, strict=True)]
            inputs[name] = _padded(rows, _pad(model.tokenizer) if name == "input_ids" else 0)


def _unit(model: T2Model, breaker: str) -> list[int]:
    """The tokens of a breaker; none where it is dropped, or melts into its neighbours: then it
    stays, and does no harm."""
    with model.tokenizer_lock:
        around, left, right = (
            list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in ("<" + breaker + "|", "<", "|")
        )
    unit = around[len(left) : len(around) - len(right)]
    return unit if around == [*left, *unit, *right] else []


def _places(row: list[int], unit: list[int]) -> list[int]:
    places, i = [], 0
    while unit and i <= len(row) - len(unit):
        if row[i : i + len(unit)] == unit:
            places.append(i)
            i += len(unit)
        else:
            i += 1
    return places
