"""Examples from rows in the forms that people have: TRL's and OpenAI's, and t2agent's own.

| a row | what is wanted |
|---|---|
| {"prompt", "answer"}, {"prompt", "completion"} | the answer |
| {"messages"} | the assistant's last message, a text or calls of tools |
| {"prompt": messages, "completion": messages} | the same, of the completion |
| {"prompt"} or {"messages"}, and {"calls"} or {"answer"} | the calls, the answer |
| {..., "answer", "reference"} | the reference, a whole reply of which the answer is the result |

Beside these, a row may have "tools" and "image" or "images". Sources: the dataset formats of TRL's
documentation (conversational language modelling and prompt-completion, tool calling, vision) and
the chat format of OpenAI's fine-tuning, its old "functions" and "function_call" among it. What
belongs to no reply is passed over ("parallel_tool_calls", a message's thoughts).

Deviation from TRL: a prompt and completion of plain text are a user's message and its answer, not
a text that is to be continued.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from t2agent.errors import ConfigError, T2Error
from t2agent.tasks.task import Example

if TYPE_CHECKING:
    from PIL.Image import Image

Turns = Literal["last", "all"]
LoadImage = Callable[[object], "Image"]
"""The image that a row holds or names."""

KNOWN = (
    "prompt", "answer", "image", "images", "messages", "completion", "tools", "calls", "functions",
    "parallel_tool_calls", "reference",
)  # fmt: skip
"""The fields of a row that are read; others are ignored."""
FOR_REWARDS = ("labels", "must_say", "test", "test_list", "entry_point")
"""Fields that rewards look at: an example keeps them as ``other``."""
NEEDED = (
    'needed {"prompt": string, "answer": string} and optionally "image": path; or {"messages": '
    '[...]}, {"prompt", "completion"}, {"prompt" or "messages", "calls"}, and optionally "tools"'
)


def examples_of(row: Mapping[str, Any], load: LoadImage, turns: Turns = "last") -> list[Example]:
    """The examples of a row: one, or with ``turns`` "all" one of each assistant's turn that
    answers a user.

    An assistant's message of "weight" 0 is not wanted. A conversation goes up to the message that
    is wanted; what comes after it is left out.

    Raises:
        ConfigError, ModalityError, ImageRefusedError: as `Example`, and where the row is of none
            of the forms; the message names the field.
    """
    more = {
        "tools": tuple(map(_tool, _list("tools" if row.get("tools") else "functions", row))),
        "other": {name: row[name] for name in FOR_REWARDS if name in row},
    }
    told = _told(row)
    history, start = _history(row, told is not None)
    history = _placed(history, _images(row, load), load)
    if told is not None:
        if history[-1].get("role") == "assistant":
            raise ConfigError(
                "the messages end with the assistant's, and an 'answer' or 'calls' is given "
                "besides; leave one of them out"
            )
        if not isinstance(reference := row.get("reference") or "", str):
            raise ConfigError(f"'reference' is {reference!r:.80}, not a string; {NEEDED}")
        return [_example(history, {**more, "reference": reference}, *told)]
    wanted = [
        place
        for place, message in enumerate(history)
        if place >= start and message.get("role") == "assistant" and message.get("weight", 1) != 0
    ]
    if not wanted or history[-1].get("role") != "assistant":
        raise ConfigError(
            "the conversation does not end with a message of the assistant, from which it could "
            "be learned; give one, or an 'answer' or 'calls'"
        )
    if turns == "last":
        wanted = wanted[-1:]
    else:  # greetings answer nobody
        asked = next((n for n, one in enumerate(history) if one.get("role") == "user"), 0)
        wanted = [place for place in wanted if place > asked] or wanted[-1:]
    return [_example(history[:at], more, *_reply(history[at], at)) for at in wanted]


def _history(row: Mapping[str, Any], told: bool) -> tuple[list[dict[str, Any]], int]:
    """The messages of a row, and the place from which one of them may be wanted.

    told: whether the row names what is wanted besides its messages.
    """
    prompt, messages, completion = (row.get(name) for name in ("prompt", "messages", "completion"))
    if prompt is not None and messages is not None:
        raise ConfigError("both 'prompt' and 'messages' are given; leave one of them out")
    if prompt is None and messages is None:
        raise ConfigError(f"no 'prompt' among the fields {sorted(row)}; {NEEDED}")
    if isinstance(prompt, str):
        history = [{"role": "user", "content": prompt}]
    elif prompt is not None:
        history = _messages("prompt", prompt)
    else:
        history = _messages("messages", messages)
    if isinstance(completion, list | tuple):
        return [*history, *_messages("completion", completion)], len(history)
    if messages is None and not told:
        raise ConfigError(f"no 'answer' among the fields {sorted(row)}; {NEEDED}")
    return history, 0


def _messages(name: str, given: object) -> list[dict[str, Any]]:
    """Messages, with OpenAI's old form of a call brought into the new one."""
    if not isinstance(given, list | tuple) or not given:
        raise ConfigError(
            f"{name!r} is {given!r:.80}, not a string or a list of messages; {NEEDED}"
        )
    found = []
    for place, message in enumerate(given):
        if not isinstance(message, Mapping):
            raise ConfigError(f"{name}[{place}] is {message!r:.80}; needed an object")
        old = message.get("function_call")
        found.append({**message, "tool_calls": [old]} if old else dict(message))
    return found


def _told(row: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    """The answer and the calls that a row names besides its messages."""
    completion, answer, calls = (row.get(name) for name in ("completion", "answer", "calls"))
    name = "answer"
    if completion is not None and not isinstance(completion, list | tuple):
        name, answer = "completion", completion
    if answer is None and calls is None:
        return None
    if answer is not None and not isinstance(answer, str):
        raise ConfigError(f"{name!r} is {answer!r:.80}, not a string; {NEEDED}")
    return answer or "", _list("calls", row)


def _reply(message: Mapping[str, Any], place: int) -> tuple[str, list[Any]]:
    """The text and the calls of an assistant's message."""
    from t2agent.replies.messages import read_message, text_of

    try:
        found = read_message(message, _refused)
        text, calls = text_of(found), found.get("tool_calls", [])
        if not text and not calls:
            raise ConfigError("the reply that is wanted has neither a content nor tool_calls")
    except T2Error as error:
        raise type(error)(f"messages[{place}]: {error}") from error
    return text, calls


def _refused(_: Mapping[str, Any]) -> dict[str, Any]:
    raise ConfigError(
        "the reply that is wanted holds an image, and models write text; leave it out"
    )


def _example(
    messages: Sequence[Mapping[str, Any]],
    more: Mapping[str, Any],
    answer: str,
    calls: Sequence[Any],
) -> Example:
    """A user's only message is a prompt, so that one request is the same in all forms."""
    more = {**more, "calls": tuple(calls)}
    if len(messages) == 1 and messages[0].get("role") == "user":
        content = messages[0].get("content")
        match [content] if isinstance(content, str) else content:
            case [str(text)] | [{"type": "text", "text": str(text)}]:
                return Example(text, answer, **more)
            case [{"type": "image", "image": image}, {"type": "text", "text": str(text)}]:
                return Example(text, answer, cast("Image", image), **more)
    return Example(answer=answer, messages=tuple(messages), **more)


def _tool(given: Any) -> Any:
    """A tool in OpenAI's form; a bare function, as "functions" has them, is put into one."""
    given = _json("tools", given) if isinstance(given, str) else given
    if isinstance(given, Mapping) and "name" in given and "function" not in given:
        return {"type": "function", "function": given}
    return given


def _list(name: str, row: Mapping[str, Any]) -> list[Any]:
    """A field that is a list, or its JSON, as TRL keeps tools of different forms."""
    given = row.get(name)
    given = _json(name, given) if isinstance(given, str) else given
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{name!r} is {given!r:.80}; needed a list, or its JSON")
    return list(given)


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name!r} is no JSON ({error}): {text!r:.80}; needed a list") from error


def _images(row: Mapping[str, Any], load: LoadImage) -> list[Image]:
    one, several = row.get("image"), row.get("images")
    if one is not None and several is not None:
        raise ConfigError("both 'image' and 'images' are given; leave one of them out")
    if several is None:
        return [] if one is None else [load(one)]
    if not isinstance(several, list | tuple):
        raise ConfigError(f"'images' is {several!r:.80}; needed a list of images")
    return list(map(load, several))


def _placed(
    history: list[dict[str, Any]], images: list[Image], load: LoadImage
) -> list[dict[str, Any]]:
    """The messages with their images in them.

    The row's are put in the places that are kept for them, in order; where there are none, before
    the first message of the user, as TRL does it.
    """
    from t2agent.images import holds_image, is_image_block

    rest = list(images)

    def filled(part: Any) -> Any:
        if not (isinstance(part, Mapping) and is_image_block(part)):
            return part
        part = {key: value for key, value in part.items() if value is not None}
        if (held := part.get("image")) is not None:
            return {"type": "image", "image": load(held)}
        named = part.get("path", part.get("image_url", part.get("url")))
        named = named.get("url") if isinstance(named, Mapping) else named
        if part.keys() == {"type"}:
            if not rest:
                raise ConfigError(
                    f"the messages have more places for images than the {len(images)} images that "
                    "are given; needed as many"
                )
            return {"type": "image", "image": rest.pop(0)}
        return part if holds_image(part) else {"type": "image", "image": load(named)}

    found = [
        {**message, "content": list(map(filled, message["content"]))}
        if isinstance(message.get("content"), list | tuple)
        else message
        for message in history
    ]
    if len(rest) == len(images) > 0:
        for message in found:
            if message.get("role") == "user":
                content = message.get("content") or ""
                text = [{"type": "text", "text": content}] if isinstance(content, str) else content
                message["content"] = [*({"type": "image", "image": one} for one in rest), *text]
                return found
    if rest:
        raise ConfigError(
            f"{len(images)} images are given, and the messages have places for "
            f"{len(images) - len(rest)}; needed as many"
        )
    return found
