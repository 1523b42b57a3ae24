"""Rewards of replies, by name or a user's own, and the guard that stands before the latter.

The named ones find the answer in the reply, in [-1, 1]: 1 is right and -1 wrong; `json_fields`
alone gives what is between, to some of the fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, get_args

from t2agent.errors import ConfigError
from t2agent.tasks.task import Example, Task

RewardFunction = Callable[[str, Example], float]
RewardName = Literal["exact", "contains", "number", "label", "json", "auto"]
Reward = RewardName | RewardFunction
_SHOWN = 200  # characters of a prompt or reply that an error message quotes
_NUMBER = re.compile(
    r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?!\w)|\d+(?:\.\d+)?", re.ASCII
)
_ONLY_NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)? ?%?", re.ASCII)
_LABEL_WORDS = 4  # an answer of more is a text, not a label
_WORDY = 40, 4  # a reply may have so many words, and so many for each word of the answer


def exact(reply: str, example: Example) -> float:
    """+1 when reply and answer are equal up to white space, else -1 (paper, sec. 3.2)."""
    return _sign(reply.split() == example.answer.split())


def contains(reply: str, example: Example) -> float:
    """+1 when the answer stands in the reply as whole words, up to white space, else -1.

    Whole words: the answer "3" is in "It is 3." but not in "13" or "3rd".
    """
    answer = re.escape(" ".join(example.answer.split()))
    return _sign(_whole(answer).search(" ".join(reply.split())))


def number(reply: str, example: Example) -> float:
    """+1 when the last number in the reply is the answer's last one, by value: "18.0" is "$18";
    else -1."""
    wanted = last_number(example.answer)
    return _sign(wanted is not None and last_number(reply) == wanted)


def json_fields(reply: str, example: Example) -> float:
    """How many fields of the last JSON object or array in the reply are the answer's ("json").

    -1 for none, or no JSON; +1 for all; between them, by the share that is right of the fields
    that are in either. Anything but an object is right as a whole or not at all. Numbers are
    equal by value; true is not 1.
    """
    found, wanted = last_json(reply), last_json(example.answer)
    if isinstance(found, dict) and isinstance(wanted, dict) and wanted:
        names = found.keys() | wanted.keys()
        right = [name for name in found.keys() & wanted if _same(found[name], wanted[name])]
        return 2 * len(right) / len(names) - 1
    return _sign(wanted is not None and _same(found, wanted))


def label(labels: Iterable[str]) -> RewardFunction:
    """A reward of +1 when the reply names the answer and no other of the labels, else -1.

    Whole words, case aside but for labels of one letter ("A" is no "a"). A label within a longer
    one ("spam" in "not spam") is not named by it.
    """
    known = {" ".join(one.split()) for one in labels if one.strip()}
    longest = sorted(known, key=lambda one: (-len(one), one))
    parts = [f"(?{'i' * (len(one) > 1)}:{re.escape(one)})" for one in longest]
    pattern = _whole("|".join(parts) or "(?!)")

    def one_label(reply: str, example: Example) -> float:
        found = pattern.finditer(" ".join(reply.split()))
        return _sign({_folded(match[0]) for match in found} == {_folded(example.answer)})

    return one_label


def auto(examples: Sequence[Example]) -> RewardFunction:
    """The reward that fits the look of each answer among those of the examples ("auto").

    A number: `number`. A JSON object or array: `json_fields`. Nothing: `exact`. Other words, with
    several of the examples' answers: `label` of all that are words; where these are not a few
    labels that come again, the reply may not be much longer than the answer either, so that no
    reply is right because it says everything.
    """
    texts = [one.answer for one in examples if _kind(one.answer) == "words"]
    distinct = {_folded(text) for text in texts}
    named = label(texts)
    few = 2 * len(distinct) <= len(texts)
    few = few and all(len(one.split()) <= _LABEL_WORDS for one in distinct)

    def words(reply: str, example: Example) -> float:
        most = _WORDY[0] + _WORDY[1] * len(example.answer.split())
        return named(reply, example) if few or len(reply.split()) <= most else -1.0

    kinds = {"number": number, "json": json_fields, "nothing": exact, "words": words}
    return lambda reply, example: kinds[_kind(example.answer)](reply, example)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, None without one."""
    found = [match[0] for match in _NUMBER.finditer(text) if re.search("[0-9]", match[0])]
    return Decimal(found[-1].replace(",", "").replace("$", "")) if found else None


def last_json(text: str) -> Any:
    """The last JSON object or array in a text that is not within another; None without one."""
    found, at = None, 0
    while start := re.compile(r"[{[]").search(text, at):
        try:
            found, at = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
    return found


def reward_function(reward: object, examples: Sequence[Example] = ()) -> RewardFunction:
    """The reward of a name, or the function itself.

    examples: those whose answers "label" and "auto" look at. Raises ConfigError for what is
    neither.
    """
    plain = {"exact": exact, "contains": contains, "number": number, "json": json_fields}
    if isinstance(reward, str) and reward in plain:
        return plain[reward]
    if reward == "label":
        return label(example.answer for example in examples)
    if reward == "auto":
        return auto(examples)
    if callable(reward):
        return reward
    names = ", ".join(map(repr, get_args(RewardName)))
    raise ConfigError(
        f"got the reward {reward!r}; needed {names} or a function of (reply, example)"
    )


def _kind(answer: str) -> str:
    """What an answer looks like: a number, JSON, words, or nothing."""
    text = answer.strip()
    if not text:
        return "nothing"
    if _ONLY_NUMBER.fullmatch(text):
        return "number"
    try:
        return "json" if isinstance(json.loads(text), dict | list) else "words"
    except (ValueError, RecursionError):
        return "words"


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON values: Python alone takes true for 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _whole(pattern: str) -> re.Pattern[str]:
    """Where a pattern fits whole words."""
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")


def _folded(text: str) -> str:
    """A label without regard to white space, and to case unless it is one letter."""
    text = " ".join(text.split())
    return text if len(text) == 1 else text.casefold()


def _sign(right: object) -> float:
    return 1.0 if right else -1.0


def score(task: Task, reply: str, example: Example) -> float:
    """``task.reward`` of a reply, checked.

    Raises:
        ConfigError: the reward raised, or gave something else than a number in [-1, 1]; the
            message quotes the example and the reply.
    """
    try:
        value = float(task.reward(reply, example))
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"the reward of task {task.name!r} raised {raised}; for {_where(reply, example)}. "
            "A reward takes (reply, example) and returns a number in [-1, 1], for bad replies too"
        ) from error
    return _in_range(task, value, reply, example)


def scores(task: Task, replies: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """`score` of each reply to the example of the same place.

    A task that has ``rewards`` is asked once for all of them.

    Raises:
        ConfigError: as `score`; or ``rewards`` gave another number of them.
    """
    together = getattr(task, "rewards", None)
    if not callable(together) or not replies:
        return [score(task, *pair) for pair in zip(replies, examples, strict=True)]
    try:
        values = [float(value) for value in together(replies, examples)]
    except Exception as error:
        raise ConfigError(
            f"`rewards` of task {task.name!r} raised {type(error).__name__}: {error}; for "
            f"{len(replies)} replies, the first {_where(replies[0], examples[0])}. It takes "
            "(replies, examples) and returns a number in [-1, 1] for each, for bad replies too"
        ) from error
    if len(values) != len(replies):
        raise ConfigError(
            f"`rewards` of task {task.name!r} returned {len(values)} number(s) for {len(replies)} "
            "replies; it must return one for each"
        )
    rows = zip(values, replies, examples, strict=True)
    return [_in_range(task, *row) for row in rows]


def _in_range(task: Task, value: float, reply: str, example: Example) -> float:
    if math.isnan(value) or not -1.0 <= value <= 1.0:
        raise ConfigError(
            f"the reward of task {task.name!r} returned {value}; for {_where(reply, example)}. "
            "A reward must be a number in [-1, 1]; scale or clip it"
        )
    return value


def _where(reply: str, example: Example) -> str:
    return f"prompt {_quote(example.prompt)}, reply {_quote(reply)}"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
