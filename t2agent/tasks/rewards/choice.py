"""Which reward is meant: by a name, an expression, a sum with weights, or by the examples."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from t2agent.errors import ConfigError
from t2agent.tasks.rewards import programs
from t2agent.tasks.rewards.fields import calls, json_fields, makes_calls
from t2agent.tasks.rewards.named import NamedReward, RewardFunction
from t2agent.tasks.rewards.texts import (
    contains,
    exact,
    f1,
    folded,
    label,
    must_say,
    number,
    options_of,
    pattern,
    values_to_say,
)
from t2agent.tasks.task import Example

Reward = str | Mapping[str, float] | RewardFunction
"""A reward as it is asked for: see `reward_function`."""

_ONLY_NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)? ?%?", re.ASCII)
_LABEL_WORDS = 4  # an answer of more is a text, not a label
_LONG_WORDS = 12  # an answer of more is not found in a reply as it is
_WORDY = 40, 4  # a reply may have so many words, and so many for each word of the answer
_WEIGHT = r"\d+(?:\.\d+)?|\.\d+"
_REGEX = r"/(?:[^/\\]|\\.)+/[imsx]*"
_TERM = re.compile(
    rf"\s*(?:({_WEIGHT})\s*\*\s*)?({_REGEX}|[A-Za-z]\w*)(?:\s*\*\s*({_WEIGHT}))?\s*(?:\+|\Z)",
    re.DOTALL,
)


def _finds_its_answer(name: str, judge: RewardFunction) -> NamedReward:
    """A reward that an example's own answer must earn."""

    def lacks(example: Example) -> str:
        if judge(example.answer, example) >= 1:
            return ""
        return (
            f"the reward {name!r} does not find the answer to {example.prompt!r} in "
            f"{example.answer!r} itself; give another reward, or 'auto'"
        )

    return NamedReward(name, judge, lacks)


def _no_answer(example: Example) -> str:
    if example.answer.strip():
        return ""
    return (
        f"the answer to {example.prompt!r} is empty, so every reply would contain it; give an "
        "answer, or use reward='exact'"
    )


def _no_calls(example: Example) -> str:
    if example.calls:
        given = json.dumps([{k: call[k] for k in ("name", "arguments")} for call in example.calls])
        return "" if calls(given, example) >= 1 else f"the calls {given:.200} are not their own"
    if example.tools:
        return ""
    return (
        f"the example {example.prompt!r} has neither calls nor tools; the reward 'calls' needs "
        "`tools`, and `calls` where some are right"
    )


def _no_test(example: Example) -> str:
    if programs.tests_of(example).strip():
        return ""
    return f"the example {example.prompt!r} has no `test`; the reward 'code' runs that of its row"


def _nothing_to_say(example: Example) -> str:
    if values_to_say(example):
        return ""
    return (
        f"the example {example.prompt!r} has no `must_say`; the reward 'must_say' needs a list of "
        "values in its row"
    )


_PLAIN = {
    "exact": _finds_its_answer("exact", exact),
    "contains": NamedReward("contains", contains, _no_answer, ("contains",)),
    "number": _finds_its_answer("number", number),
    "f1": _finds_its_answer("f1", f1),
    "json": _finds_its_answer("json", json_fields),
    "calls": NamedReward("calls", calls, _no_calls),
    "must_say": NamedReward("must_say", must_say, _nothing_to_say, ("must_say",)),
    "code": NamedReward("code", programs.code, _no_test, together=programs.together),
}

REWARDS = (*_PLAIN, "label", "auto")
"""The rewards that go by a name."""


def reward_function(reward: object, examples: Sequence[Example] = ()) -> RewardFunction:
    """The reward that is asked for.

    Args:
        reward: one of `REWARDS`; a regular expression in slashes, with flags of i, m, s, x
            ("/^[0-9]+$/m"); a sum of these with weights ("json*0.8+exact*0.2"; a weight is 1 where
            none is given); a mapping of the same to their weights; or a function of (reply,
            example), which is given back.
        examples: those whose answers "label" and "auto" look at.

    Raises:
        ConfigError: it is none of these; the message lists what there is.
    """
    if isinstance(reward, str):
        terms = _terms(reward)
        return _weighted(terms, examples) if terms else _unknown(reward)
    if isinstance(reward, Mapping):
        return _weighted(reward, examples)
    known = [one for one in _PLAIN.values() if one.judge is reward]
    if known:
        return known[0]
    return reward if callable(reward) else _unknown(reward)


def auto(examples: Sequence[Example]) -> NamedReward:
    """The reward that fits each example ("auto").

    By what the example has, the first of: calls, or tools and no answer (`calls`); tests of code
    (`code`); values to say (`must_say`); labels of its own (`label`). Else by the look of its
    answer: a number (`number`); a JSON object or array (`json`); nothing (`exact`); one of a few
    short answers that come again (`label`); more than twelve words (`f1`); else the reply must
    name the answer and none of the other such answers, and may not be much longer than it, so that
    no reply is right because it says everything. Where an example has tools and wants no call, one
    is wrong whatever it says.
    """
    texts = [one.answer for one in examples if _kind(one) == "text"]
    distinct = {folded(text) for text in texts}
    few = 1 < len(distinct) <= len(texts) / 2
    few = few and all(len(one.split()) <= _LABEL_WORDS for one in distinct)
    named = label(texts)

    def kind_of(example: Example) -> str:
        kind = _kind(example)
        if kind != "text":
            return kind
        if few:
            return "label"
        return "f1" if len(example.answer.split()) > _LONG_WORDS else "text"

    def text(reply: str, example: Example) -> float:
        most = _WORDY[0] + _WORDY[1] * len(example.answer.split())
        return named(reply, example) if len(reply.split()) <= most else -1.0

    by_kind = {**_PLAIN, "label": _finds_its_answer("label", named)}
    by_kind["text"] = _finds_its_answer("text", text)

    def judge(reply: str, example: Example) -> float:
        if example.tools and not example.calls and makes_calls(reply):
            return -1.0
        return by_kind[kind_of(example)](reply, example)

    def together(replies: Sequence[str], asked: Sequence[Example]) -> list[float]:
        found = [0.0] * len(replies)
        programs_at = [i for i, one in enumerate(asked) if kind_of(one) == "code"]
        for place in set(range(len(replies))).difference(programs_at):
            found[place] = judge(replies[place], asked[place])
        ran = programs.together([replies[i] for i in programs_at], [asked[i] for i in programs_at])
        for place, value in zip(programs_at, ran, strict=True):
            found[place] = value
        return found

    kinds = Counter(map(kind_of, examples))
    labels = distinct.union(*(map(folded, options_of(one)) for one in examples))
    shown = [f"label of {len(labels)}" if one == "label" else one for one, _ in kinds.most_common()]
    return NamedReward(
        " and ".join(shown) or "auto",
        judge,
        lambda example: by_kind[kind_of(example)].lacks(example),
        tuple(one for one in kinds if by_kind[one].earned_by_saying_everything),
        together if "code" in kinds else None,
    )


def _kind(example: Example) -> str:
    """What an example is judged by, as far as it tells alone; "text" where others must."""
    answer = example.answer.strip()
    if example.calls or (example.tools and not answer):
        return "calls"
    if "assert" in programs.tests_of(example):
        return "code"
    if values_to_say(example):
        return "must_say"
    if folded(answer) in map(folded, options_of(example)):
        return "label"
    if not answer:
        return "exact"
    if _ONLY_NUMBER.fullmatch(answer):
        return "number"
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return "text"
    # NaN is not equal to itself.
    return (
        "json" if isinstance(found, dict | list) and json_fields(answer, example) == 1 else "text"
    )


def _terms(text: str) -> list[tuple[str, float]]:
    """The rewards of a sum with their weights; none where it is no sum."""
    found: list[tuple[str, float]] = []
    at = 0
    while at < len(text) or not found:
        term = _TERM.match(text, at)
        if term is None or (term[1] and term[3]):
            return []
        found.append((term[2], float(term[1] or term[3] or 1)))
        at = term.end()
    return [] if text.rstrip().endswith("+") else found


def _weighted(
    parts: Mapping[str, float] | Sequence[tuple[str, float]], examples: Sequence[Example]
) -> NamedReward:
    """The mean of rewards by their weights; of one alone, that one itself."""
    pairs = list(parts.items()) if isinstance(parts, Mapping) else list(parts)
    weights = [weight for _, weight in pairs]
    good = [isinstance(w, int | float) and math.isfinite(w) and w > 0 for w in weights]
    if not pairs or not all(good):
        raise ConfigError(
            f"got the rewards {dict(pairs)!r}; needed one or more, each with a weight above 0"
        )
    found = [_named(name, examples) for name, _ in pairs]
    if len(found) == 1:
        return found[0]
    total = sum(weights)

    def mean(values: Sequence[float]) -> float:
        if len(set(values)) == 1:
            return values[0]  # exactly: a full reward is 1
        return sum(w * value for w, value in zip(weights, values, strict=True)) / total

    def together(replies: Sequence[str], asked: Sequence[Example]) -> list[float]:
        each = [one.many(replies, asked) for one in found]
        return [mean(values) for values in zip(*each, strict=True)]

    return NamedReward(
        "+".join(f"{one.name}*{weight:g}" for one, weight in zip(found, weights, strict=True)),
        lambda reply, example: mean([one(reply, example) for one in found]),
        lambda example: next(filter(None, (one.lacks(example) for one in found)), ""),
        tuple(name for one in found for name in one.earned_by_saying_everything),
        together if any(one.together for one in found) else None,
    )


def _named(name: object, examples: Sequence[Example]) -> NamedReward:
    if not isinstance(name, str):
        return _unknown(name)
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "auto":
        return auto(examples)
    if name == "label":
        answers = [one.answer for one in examples]
        known = {folded(text) for text in answers}
        known = known.union(*(map(folded, options_of(one)) for one in examples))
        judge = _finds_its_answer("label", label(answers))
        return NamedReward(f"label of {len(known)}", judge.judge, judge.lacks)
    if re.fullmatch(_REGEX, name, re.DOTALL):
        expression, _, flags = name[1:].rpartition("/")
        return NamedReward(name, pattern(expression.replace("\\/", "/"), flags), lambda _: "")
    return _unknown(name)


def _unknown(reward: object) -> NamedReward:
    names = ", ".join(map(repr, REWARDS))
    raise ConfigError(
        f"got the reward {reward!r}; needed {names}, a regular expression in slashes such as "
        "'/^[0-9]+$/', a sum of these with weights such as 'json*0.8+exact*0.2', or a "
        "function of (reply, example)"
    )
