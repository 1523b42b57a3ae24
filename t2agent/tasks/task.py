"""What an expert is trained on: examples, and tasks, which give them and judge replies."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from t2agent.errors import ConfigError, T2Error

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

SPLITS: tuple[str, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """A request and what is wanted for it: a text, or calls of tools.

    The request is a prompt with an image or without, or a conversation. Of a conversation,
    ``prompt`` becomes the text of its last request and ``image`` its first image, so that whatever
    looks at one request can be asked about it, too.

    Attributes:
        prompt: the request, which stands for one message of a user.
        answer: what is wanted; the task says what it means.
        image: stands before the request.
        steps: what has happened since the request and the reply is to go on from, as messages in
            Hugging Face's chat form: the model's calls of tools, and their results.
        reference: a whole reply as it is wanted, where ``answer`` is only its result.
        messages: a conversation that the reply goes on from, in OpenAI's form: roles system (or
            developer), user, assistant and tool; contents a string or parts. An image is a part
            with a PIL image, {"type": "image", "image": image}, or with its bytes (a data: URL,
            base64); paths and addresses are refused. Kept as `t2agent.replies.messages` has it.
        tools: what may be called, as OpenAI's function tools.
        calls: the calls that are wanted, {"name": ..., "arguments": {...}} each; none, with tools:
            a reply in words is.
        other: more fields of the row that the example was made of, for rewards: see
            `t2agent.tasks.rewards`.

    Raises:
        ConfigError: no request, a string or an image that is none, messages, tools or calls of
            another form, or a call of a tool that is not on offer.
        ModalityError: a message holds something else than text and images.
        ImageRefusedError: an image that cannot be decoded, or is not in the message itself.
    """

    prompt: str = ""
    answer: str = ""
    image: Image | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    reference: str = ""
    messages: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    tools: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    calls: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    other: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)

    def __post_init__(self) -> None:
        if self.messages or self.tools or self.calls:
            self._settle()
        if not isinstance(self.prompt, str) or not (self.prompt.strip() or self.messages):
            raise ConfigError(f"got the prompt {self.prompt!r}; needed a string that is not empty")
        if not isinstance(self.answer, str):
            raise ConfigError(
                f"got the answer {self.answer!r} for {self.prompt!r}; needed a string"
            )

    @property
    def images(self) -> tuple[Image, ...]:
        """All images of the request, in their order."""
        if not self.messages:
            return () if self.image is None else (self.image,)
        parts = (part for message in self.messages for part in message["content"])
        return tuple(part["image"] for part in parts if part["type"] == "image")

    def _settle(self) -> None:
        """Bring messages, tools and calls into their one form."""
        from t2agent.replies.messages import asking, function_tools, read_call, text_of

        found: dict[str, Any] = {"tools": function_tools(_listed("tools", self.tools))}
        read = [read_call(one)["function"] for one in _listed("calls", self.calls)]
        names = {tool["function"]["name"] for tool in found["tools"]}
        for call in read:
            if call["name"] not in names:
                raise ConfigError(
                    f"the call of {call['name']!r} is wanted, and the tools are "
                    f"{', '.join(sorted(names)) or 'none'}; give the tools that were on offer"
                )
        found["calls"] = tuple(read)
        if self.messages:
            given = [_message(*one) for one in enumerate(_listed("messages", self.messages))]
            found["messages"] = messages = tuple(_identified(given))
            asked = messages[asking(messages)]
            if asked["role"] != "user":
                raise ConfigError("no message is of the user; needed one that asks for something")
            parts = (part for message in messages for part in message["content"])
            first = next((part["image"] for part in parts if part["type"] == "image"), None)
            prompt = text_of(asked)
            if self.prompt not in ("", prompt) or self.image not in (None, first):
                raise ConfigError(
                    "messages are given, and a prompt or an image that is not theirs; put these "
                    "into the messages"
                )
            found |= {"prompt": prompt, "image": first}
        for name, value in found.items():
            object.__setattr__(self, name, value)


_ROLES = {
    **{role: role for role in ("system", "user", "assistant", "tool")},
    "developer": "system",
    "function": "tool",
}


def _listed(name: str, given: object) -> list[Any]:
    if isinstance(given, list | tuple):
        return list(given)
    raise ConfigError(f"{name!r} is {given!r:.80}; needed a list")


def _message(place: int, given: object) -> dict[str, Any]:
    """A message as of `read_message`, with its images as PIL's."""
    from t2agent.replies.messages import read_message

    role = given.get("role") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or role not in _ROLES:
        raise ConfigError(
            f"messages[{place}] is {given!r:.80}; needed an object with a 'content' and a 'role', "
            f"one of {', '.join(_ROLES)}"
        )
    try:
        return read_message({**given, "role": _ROLES[role]}, _with_image)
    except T2Error as error:
        raise type(error)(f"messages[{place}]: {error}") from error


def _with_image(block: Mapping[str, Any]) -> dict[str, Any]:
    from t2agent.images import ImagePolicy, read_image

    held = block.get("image")
    return {"type": "image", "image": held if _is_image(held) else read_image(block, ImagePolicy())}


def _is_image(value: object) -> bool:
    return hasattr(value, "tobytes") and hasattr(value, "getpixel")


def _identified(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages with ids for calls and results that have none: a result is of the first call of
    its tool's name, or else of the first, that has no result yet."""
    known = {call["id"] for message in messages for call in message.get("tool_calls", ())}
    fresh = (name for n in itertools.count() if (name := f"call_{n}") not in known)
    waiting: list[tuple[str, str]] = []  # id, name
    for message in messages:
        if calls := message.get("tool_calls"):
            calls = [{**call, "id": call["id"] or next(fresh)} for call in calls]
            waiting = [(call["id"], call["function"]["name"]) for call in calls]
            yield {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            number = message.get("tool_call_id")
            if not number:
                named = [one for one in waiting if one[1] == message.get("name")] or waiting
                number = named[0][0] if named else next(fresh)
            waiting = [one for one in waiting if one[0] != number]
            yield {**message, "tool_call_id": number}
        else:
            yield message


@runtime_checkable
class Task(Protocol):
    """Where examples come from and how a reply is judged.

    A task may also have an integer ``max_tokens``: the longest reply that is sampled for it,
    unless the caller of `train_expert` says otherwise. Short limits make training fast. And it may
    have a method ``reference(example) -> str``: a whole reply that earns the full reward, in place
    of ``example.reference``; next-token training learns it rather than ``example.answer``. And
    where many replies at once are judged faster than one by one, a method ``rewards(replies,
    examples) -> list[float]``: the `reward` of each.
    """

    @property
    def name(self) -> str:
        """The task's name, also the expert's unless another is given."""

    def sample(self, n: int, *, seed: int, split: str = "train") -> list[Example]:
        """``n`` examples of "train", "val" or "test", which never overlap; set by the seed."""

    def reward(self, reply: str, example: Example) -> float:
        """How good a reply is, in [-1, 1]."""


def longest_reply(task: Task) -> int:
    """How many tokens a reply has at most: the task's ``max_tokens``, else 128."""
    return int(getattr(task, "max_tokens", 128))


def whole_reply(task: Task, example: Example) -> str:
    """The whole reply that is wanted: the task's ``reference(example)`` where it has that, else
    the example's own ``reference``; "" where neither is known.

    Raises:
        ConfigError: the task's reference is not a string.
    """
    own = getattr(task, "reference", None)
    reply = example.reference if own is None else own(example)
    if not isinstance(reply, str):
        raise ConfigError(
            f"the reference of task {task.name!r} for {example.prompt!r} is a "
            f"{type(reply).__name__}; needed a string, the whole reply that is wanted"
        )
    return reply


def check_split(split: str) -> None:
    """Raise ConfigError for what is none of `SPLITS`."""
    if split not in SPLITS:
        raise ConfigError(f"got the split {split!r}; needed one of {', '.join(SPLITS)}")


def drawn(pool: Sequence[T], n: int, seed: int, split: str) -> list[T]:
    """``n`` of the members of a split, by the seed: without repeats while there are enough."""
    rng = random.Random(f"{seed} {split}")
    found = rng.sample(pool, min(n, len(pool)))
    return found + rng.choices(pool, k=n - len(found))


def distinct(examples: Sequence[Example]) -> list[Example]:
    """Without repeats, which a small split has when more are asked for than there are."""
    found = {
        (example_key(e), e.answer, _json(e.calls), repr(e.steps), e.reference): e for e in examples
    }
    return list(found.values())


def example_key(example: Example) -> bytes:
    """A hash of what is asked: prompt and image, or the messages with theirs, and the tools."""
    if example.messages:
        digest = hashlib.sha256(_json(example.messages).encode())
    else:
        digest = hashlib.sha256(example.prompt.encode("utf-8", "surrogatepass"))
    if example.tools:
        digest.update(f"\0{_json(example.tools)}\0".encode())
    for image in example.images:
        digest.update(f"\0{image.mode} {image.size}\0".encode())
        digest.update(image.tobytes())
    return digest.digest()


def answer_text(example: Example) -> str:
    """What is wanted, as a reward sees a reply: the calls as JSON, a list of {"name",
    "arguments"}, else the answer."""
    return json.dumps(list(example.calls), ensure_ascii=False) if example.calls else example.answer


def _json(value: Any) -> str:
    """One text for equal values, without the images."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> dict[Any, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None
