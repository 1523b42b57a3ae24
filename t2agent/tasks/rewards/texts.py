"""Rewards of what a reply says: words, numbers, labels, patterns."""

from __future__ import annotations

import re
import string
import warnings
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

from t2agent.errors import ConfigError
from t2agent.tasks.rewards.named import RewardFunction, sign, strings_of
from t2agent.tasks.task import Example

_NUMBER = re.compile(
    r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?!\w)|\d+(?:\.\d+)?", re.ASCII
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SECONDS = 0.5  # of the processor, that a user's expression may search a reply for


def exact(reply: str, example: Example) -> float:
    """+1 when reply and answer are equal up to white space, else -1 (paper, sec. 3.2)."""
    return sign(reply.split() == example.answer.split())


def contains(reply: str, example: Example) -> float:
    """+1 when the answer stands in the reply as whole words, up to white space, else -1.

    Whole words: the answer "3" is in "It is 3." but not in "13" or "3rd". A reply that says
    everything has it, too: `label` or `number` tell such replies from right ones.
    """
    answer = re.escape(spaced(example.answer))
    return sign(_whole(answer).search(spaced(reply)))


def number(reply: str, example: Example) -> float:
    """+1 when the last number in the reply is the answer's last one, by value: "18.0" is "$18";
    else -1."""
    wanted = last_number(example.answer)
    return sign(wanted is not None and last_number(reply) == wanted)


def f1(reply: str, example: Example) -> float:
    """How many words reply and answer share: twice their F1, less 1.

    As in SQuAD (arXiv 1606.05250): case, punctuation, articles and order do not count. Words that
    the answer has not cost as much as those that are missing.
    """
    found, wanted = (Counter(_squad(text)) for text in (reply, example.answer))
    words = found.total() + wanted.total()
    return 4 * (found & wanted).total() / words - 1 if words else 1.0


def must_say(reply: str, example: Example) -> float:
    """The share of the values of the row's ``must_say`` that stand in the reply: -1 for none, +1
    for all.

    Whole words, up to white space and case. A reply that says everything has them, too.
    """
    values = values_to_say(example)
    text = spaced(reply).casefold()
    said = sum(bool(_whole(re.escape(spaced(one).casefold())).search(text)) for one in values)
    return 2 * said / len(values) - 1 if values else -1.0


def values_to_say(example: Example) -> tuple[str, ...]:
    """The values of the row's ``must_say``."""
    return strings_of(example, "must_say")


def label(labels: Iterable[str]) -> RewardFunction:
    """A reward of +1 when the reply names the answer and no other of the labels, else -1.

    The labels are those of the example's row (``labels``) where it has them, else these. Whole
    words, case aside but for labels of one letter ("A" is no "a"). A label within a longer one
    ("spam" in "not spam") is not named by it.
    """
    known = tuple(dict.fromkeys(labels))
    among = frozenset(known)

    def one_label(reply: str, example: Example) -> float:
        own = options_of(example)
        options = own or known
        if example.answer not in (own or among):  # else one pattern serves all the examples
            options = (*options, example.answer)
        pattern = _any_of(options)
        return sign(_named(pattern, reply) == {folded(example.answer)})

    return one_label


def options_of(example: Example) -> tuple[str, ...]:
    """The labels of the example's own row."""
    return strings_of(example, "labels")


def named_labels(labels: Iterable[str], reply: str) -> set[str]:
    """Those of the labels that the reply names, as `label` reads it and as `folded` has them."""
    return _named(_any_of(tuple(dict.fromkeys(labels))), reply)


def pattern(expression: str, flags: str = "") -> RewardFunction:
    """A reward of +1 when a regular expression is found in the reply, else -1.

    The answer does not count. ``flags``: of i, m, s, x, as in Python's re. An expression that
    searches one reply for more than half a second, since it tries too many ways, counts as not
    found there, and a warning says so.

    Raises:
        ConfigError: it is no regular expression.
    """
    import regex

    given = f"(?{''.join(sorted(set(flags)))}){expression}" if flags else expression
    try:
        compiled = regex.compile(given)
    except regex.error as error:
        told = f"got the reward /{expression}/, which is no regular expression: {error}"
        raise ConfigError(told) from error

    def found(reply: str, example: Example) -> float:  # noqa: ARG001 - a reward's arguments
        try:
            return sign(compiled.search(reply, timeout=_SECONDS))
        except TimeoutError:
            warnings.warn(
                f"the reward /{expression}/ searched a reply of {len(reply)} characters for more "
                f"than {_SECONDS} s and counts as not found; write it so that it cannot match the "
                "same text in many ways",
                stacklevel=2,
            )
            return -1.0

    return found


def last_number(text: str) -> Decimal | None:
    """The last number in a text, None without one."""
    found = [match[0] for match in _NUMBER.finditer(text) if re.search("[0-9]", match[0])]
    return Decimal(found[-1].replace(",", "").replace("$", "")) if found else None


def folded(text: str) -> str:
    """A label without regard to white space, and to case unless it is one letter."""
    text = spaced(text)
    return text if len(text) == 1 else text.casefold()


def spaced(text: str) -> str:
    """A text with one space where it has white space."""
    return " ".join(text.split())


def _squad(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _named(pattern: re.Pattern[str], reply: str) -> set[str]:
    return {folded(match[0]) for match in pattern.finditer(spaced(reply))}


@lru_cache(maxsize=256)
def _any_of(labels: tuple[str, ...]) -> re.Pattern[str]:
    """Where one of the labels stands; the longest, where several begin there."""
    known = {spaced(one) for one in labels if one.strip()}
    longest = sorted(known, key=lambda one: (-len(one), one))
    parts = [f"(?{'i' * (len(one) > 1)}:{re.escape(one)})" for one in longest]
    return _whole("|".join(parts) or "(?!)")


def _whole(pattern: str) -> re.Pattern[str]:
    """Where a pattern fits whole words."""
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")
