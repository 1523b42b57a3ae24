"""Each reward by name, with replies that are nearly right or right for the wrong reason."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2agent.errors import ConfigError
from t2agent.tasks.reward import is_right, scores
from t2agent.tasks.rewards.choice import REWARDS, auto, reward_function
from t2agent.train import Example, ExampleTask

TOOLS = tuple(
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("weather", "clock")
)
OSLO = {"name": "weather", "arguments": {"city": "Oslo", "days": 5}}
NOW = {"name": "clock", "arguments": {}}
ONE = Example("Weather?", tools=TOOLS, calls=(OSLO,), answer="")
TWO = Example("Weather and time?", tools=TOOLS, calls=(OSLO, NOW), answer="")
NONE = Example("Thanks!", "You are welcome.", tools=TOOLS)
MUST = Example("Bus?", "At 7:40 am, for $65.", other={"must_say": ["7:40 am", "$65"]})
MOOD = Example("Great!", "joy", other={"labels": ["joy", "anger", "no joy"]})
HEAD = 'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    """\n'
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
BODY = Example(HEAD, "    return a + b", other={"test": CHECK, "entry_point": "add"})
LIST = Example(
    "Write add.", "def add(a, b):\n    return a + b", other={"test_list": ["assert add(1, 2) == 3"]}
)


def written(*calls: tuple[str, dict[str, Any] | None]) -> str:
    return json.dumps([{"name": name, "arguments": given} for name, given in calls])


@pytest.mark.parametrize(
    ("example", "reply", "value"),
    [
        (ONE, written(("weather", {"days": 5, "city": "Oslo"})), 1.0),
        (ONE, written(("weather", {"city": "  oslo ", "days": "5.0"})), 1.0),
        (ONE, written(("weather", {"city": "Oslo", "days": 5, "unit": None})), 1.0),
        (ONE, written(("weather", {"city": "Oslo"})), 0.4),  # 2 of 3
        (ONE, written(("weather", {"city": "Oslo", "days": 5, "unit": "C"})), 0.55),  # 3 of 4
        (ONE, written(("weather", {"city": "Oslo", "days": True})), 0.4),
        (ONE, written(("clock", {"city": "Oslo", "days": 5})), -0.8),  # the wrong tool
        (ONE, written(("Weather", {"city": "Oslo", "days": 5})), -0.8),
        (ONE, written(("weather", None)), -0.35),  # cut short
        (ONE, written(("weather", OSLO["arguments"]), ("clock", {})), 0.1),  # one too many
        (ONE, written(("weather", OSLO["arguments"]), ("weather", OSLO["arguments"])), 0.1),
        (ONE, f"Sure! ```json\n{json.dumps(OSLO)}\n```", -0.4),  # in another form
        (ONE, json.dumps({"function": {"name": "clock", "arguments": "{}"}}), -0.94),
        (ONE, "I use the weather tool.", -0.9),
        (ONE, "I may use weather or clock.", -1.0),  # says everything
        (ONE, "It is sunny.", -1.0),
        (ONE, "", -1.0),
        (ONE, "[" * 5_000, -1.0),
        (TWO, written(("clock", {}), ("weather", OSLO["arguments"])), 1.0),
        (TWO, written(("weather", OSLO["arguments"])), 0.1),
        (NONE, "Glad to help.", 1.0),
        (NONE, "", -1.0),
        (NONE, written(("clock", {})), -1.0),
        (NONE, f"Wait. {json.dumps(OSLO)}", -1.0),
    ],
)
def test_calls(example: Example, reply: str, value: float) -> None:
    assert reward_function("calls")(reply, example) == pytest.approx(value)


@pytest.mark.parametrize(
    ("reply", "answer", "value"),
    [
        ('{"a": {"x": 1, "y": 2}}', '{"a": {"x": 1, "y": 3}}', 0.0),  # nested fields count
        ('{"a": {"x": 1}, "b": [1, 2, 3]}', '{"a": {"x": 1}, "b": [1, 2, 4]}', 0.5),
        ('{"a": 1, "b": 2, "c": 3, "d": 4}', '{"a": 1}', -0.5),  # more fields cost
        ('{"who": ["Bo"]}', '{"who": ["Al", "Bo"]}', 0.0),  # found though one is missing
        ('{"who": ["Bo", "Al"]}', '{"who": ["Al", "Bo"]}', -1 / 3),  # the order counts
        ('{"a": []}', '{"a": [1]}', -1.0),
        ('{"a": {}}', '{"a": {}}', 1.0),
        ("{}", '{"a": 1}', -1.0),
        ('{"a": "1"}', '{"a": 1}', -1.0),
        ('{"a": ' + "[" * 500 + "]" * 500 + "}", '{"a": 1}', -1.0),
    ],
)
def test_json(reply: str, answer: str, value: float) -> None:
    assert reward_function("json")(reply, Example("?", answer)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("reward", "example", "reply", "value"),
    [
        ("label", MOOD, "Joy!", 1.0),
        ("label", MOOD, "no joy", -1.0),
        ("label", MOOD, "joy, not anger", -1.0),  # several labels
        ("f1", Example("?", "The cat sat."), "a CAT, sat", 1.0),
        ("f1", Example("?", "the cat sat"), "cat", 1 / 3),
        ("f1", Example("?", "the cat sat"), "cat sat on that mat there", 0.0),
        ("f1", Example("?", "cat"), "cat cat cat", 0.0),
        ("f1", Example("?", "cat"), "", -1.0),
        ("must_say", MUST, "Take the one at 7:40 AM. It costs $65.", 1.0),
        ("must_say", MUST, "Take the one at 7:40 am.", 0.0),
        ("must_say", MUST, "It costs $650.", -1.0),
        (r"/^\d+$/", Example("?", "x"), "12", 1.0),
        (r"/^\d+$/", Example("?", "x"), "12 or so", -1.0),
        ("/^YES/im", Example("?", "x"), "Well\nyes.", 1.0),
        (r"/a\/b/", Example("?", "x"), "a/b", 1.0),
        ("json*0.75+exact*0.25", Example("?", '{"a": 1}'), 'So: {"a": 1}', 0.5),
        ({"json": 3, "exact": 1}, Example("?", '{"a": 1}'), 'So: {"a": 1}', 0.5),
        ("0.1*exact + 0.2*number+f1*0.7", Example("?", "4"), "4", 1.0),
        (r"/a+b*2/*1+exact", Example("?", "x"), "ab2", 0.0),
    ],
)
def test_others(reward: object, example: Example, reply: str, value: float) -> None:
    assert reward_function(reward, [example])(reply, example) == pytest.approx(value)


def test_code_runs_the_tests_of_its_row() -> None:
    replies = [
        (BODY, "    return a + b"),
        (BODY, f"```python\n{HEAD}    return a + b\n```"),
        (LIST, "```python\ndef add(a, b):\n    return b + a\n```"),
        (BODY, "    return a - b"),
        (LIST, "def add(a, b): import os; os._exit(0)"),
    ]
    examples = [example for example, _ in replies]
    for reward in ("code", "auto"):
        task = ExampleTask("t", [BODY, LIST], reward)
        assert scores(task, [reply for _, reply in replies], examples) == [1, 1, 1, -1, -1]
    assert task.reward_name == "code"
    both = ExampleTask("t", [LIST], "code*1+exact*1")
    assert scores(both, [LIST.answer, LIST.answer + "\n# done"], [LIST, LIST]) == [1.0, 0.0]


def test_a_pattern_that_tries_too_many_ways_ends() -> None:
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="counts as not found"):
        assert reward_function("/^(a|aa)+$/")("a" * 200 + "b", Example("?", "x")) == -1.0
    assert time.monotonic() - begin < 20  # it would take longer than the sun has


@pytest.mark.parametrize(
    ("examples", "name", "replies"),
    [
        ([ONE, TWO, NONE], "calls and text", {written(("weather", OSLO["arguments"])): 1.0}),
        ([MOOD], "label of 3", {"joy": 1.0, "joy anger": -1.0}),
        ([MUST], "must_say", {"7:40 am": 0.0}),
        ([Example(str(n), "$1,200") for n in range(3)], "number", {"So 1200.": 1.0}),
        ([Example("?", '{"a": 1}')], "json", {'{"a": 1, "b": 1}': 0.0}),
        ([Example(str(n), "good" if n % 2 else "bad") for n in range(9)], "label of 2",
         {"bad": 1.0, "good or bad": -1.0}),
        ([Example("?", " ".join("abcdefghijklmnopqrst"))], "f1", {"b c d": -1 + 12 / 22}),
        ([Example("?", "x", other={"test": "yes", "labels": 3, "must_say": "x"})], "text",
         {"x": 1}),
        ([Example("?", "[NaN]")], "text", {"[NaN]": 1.0}),
    ],
)  # fmt: skip
def test_auto_chooses_by_the_examples(
    examples: list[Example], name: str, replies: dict[str, float]
) -> None:
    assert ExampleTask("t", examples).reward_name == name
    reward = auto(examples)
    assert reward.name == name
    for reply, value in replies.items():
        assert reward(reply, examples[0]) == pytest.approx(value)


def test_with_tools_and_an_answer_a_call_is_wrong() -> None:
    reward = auto([NONE])
    assert reward("You are welcome.", NONE) == 1.0
    assert reward(written(("clock", {"say": "You are welcome."})), NONE) == -1.0


@pytest.mark.parametrize(
    "reward",
    ["", "fuzzy", "json*", "json+", "2*json*2", "json exact", "/(/", "json*0", {}, {"json": -1},
     {"json": float("nan")}, 3, [], "weighted", "//"],
)  # fmt: skip
def test_a_wrong_one_is_refused(reward: object) -> None:
    with pytest.raises(ConfigError, match="got the reward") as caught:
        reward_function(reward)
    if reward in ("fuzzy", ""):
        assert all(repr(name) in str(caught.value) for name in REWARDS)


@pytest.mark.parametrize(
    ("reward", "example", "message"),
    [
        ("calls", Example("Which?", "x"), "neither calls nor tools"),
        ("code", Example("Which?", "x"), "no `test`"),
        ("must_say", Example("Which?", "x"), "no `must_say`"),
        ("exact*0.5+number*0.5", Example("Which?", "x"), "'number' does not find"),
    ],
)
def test_what_an_example_lacks(reward: str, example: Example, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExampleTask("t", [example], reward)


# --- what does not count --------------------------------------------------------------------

VALUES = st.one_of(
    st.integers(-999, 999), st.booleans(), st.text("aB é1", max_size=4), st.lists(st.integers(0, 9))
)
FIELDS = st.dictionaries(st.sampled_from("pqrs"), VALUES, max_size=3)
IN_PROCESS = [*(name for name in REWARDS if name != "code"), "/a|b/", "f1+exact*2"]
CALLS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["weather", "clock"]), "arguments": FIELDS}),
    min_size=1,
    max_size=3,
)


def disguised(value: Any) -> Any:
    """The same argument, written otherwise."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return [float(value), str(value), f"{value}.0"][value % 3]
    if isinstance(value, str):
        return f" {value.upper().replace(' ', '   ')} "
    return [disguised(one) for one in value]


@settings(max_examples=60, deadline=None)
@given(CALLS, CALLS, st.randoms(use_true_random=False))
def test_order_and_writing_of_calls_do_not_count(found: Any, wanted: Any, rng: Any) -> None:
    reward = reward_function("calls")
    example = Example("?", "", tools=TOOLS, calls=tuple(wanted))
    shuffled = []
    for call in rng.sample(found, len(found)):
        items = rng.sample(list(call["arguments"].items()), len(call["arguments"]))
        shuffled.append({"name": call["name"], "arguments": {k: disguised(v) for k, v in items}})
    value = reward(json.dumps(found), example)
    assert -0.8 - 1e-9 <= value <= 1
    assert reward(json.dumps(shuffled), example) == pytest.approx(value)
    assert reward(json.dumps(wanted), example) == 1.0
    assert is_right(value) == (value > 1 - 1e-6)
    # In words it is worth less than in the model's form, and a call too many is not free.
    assert reward("Here: " + json.dumps(found), example) < value
    assert reward(json.dumps([*wanted, {"name": "clock", "arguments": {"z": 1}}]), example) < 1


@settings(max_examples=60, deadline=None)
@given(FIELDS, FIELDS, st.randoms(use_true_random=False))
def test_order_of_json_fields_does_not_count_and_more_of_them_cost(
    found: Any, wanted: Any, rng: Any
) -> None:
    reward, example = reward_function("json"), Example("?", json.dumps(wanted))
    value = reward(json.dumps(found), example)
    assert -1 <= value <= 1
    assert is_right(value) == (
        json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)
    )
    items = rng.sample(list(found.items()), len(found))
    assert reward("It is " + json.dumps(dict(items), indent=2), example) == value
    more = reward(json.dumps({**found, "z": 1}), example)
    assert more < value or more == value == -1


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20), st.sampled_from(IN_PROCESS))
def test_every_reward_is_in_range_for_any_reply(reply: str, answer: str, name: str) -> None:
    for example in (
        Example("?", answer), Example("?", answer, tools=TOOLS, calls=(OSLO,)),
        Example("?", answer, other={"must_say": [answer or "x"], "labels": [answer, "b"]}),
    ):  # fmt: skip
        assert -1 <= reward_function(name, [example])(reply, example) <= 1


@given(st.lists(st.sampled_from(["cat", "dog", "the", "ox"]), max_size=6), st.randoms())
def test_f1_does_not_see_order_case_and_marks(words: list[str], rng: Any) -> None:
    reward, example = reward_function("f1"), Example("?", " ".join(words))
    assert reward(", ".join(rng.sample(words, len(words))).upper() + "!", example) == 1.0
