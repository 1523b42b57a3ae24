"""What the request is about counts for which tool is called, and for when the calls end."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from t2agent.engine.batching import Call, answer_together
from t2agent.engine.scheduler import Scheduler
from t2agent.engine.two_passes import Engine, Given
from t2agent.models import call_weights
from t2agent.models.compiling import Tokens
from t2agent.models.constrained import Constrained
from t2agent.models.decoding import end_tokens
from t2agent.models.generate import Prompt
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.replies.constraint import Constraint, tools_constraint
from t2agent.replies.format import GENERAL, ToolFormat
from t2agent.replies.tool_fit import Part, ToolFit
from tests.unit.models.test_name_prior import NAMES, callers, held, tools
from tests.unit.replies.test_parsing import FORMATS

WEATHER, TIME, CONVERT = range(3)


@pytest.fixture(scope="module")
def model() -> T2Model:
    return callers()


def fit(*parts: tuple[float, ...]) -> ToolFit:
    return ToolFit("", parts[0], tuple(Part("", True, one) for one in parts))


def compared(
    model: T2Model, text: str, first: Constraint, second: Constraint
) -> list[tuple[bytes, int, dict[int, float]]]:
    """For each token of a reply: what is written before, itself, and how much more each token has
    by the second constraint."""
    tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    size = len(model.tokenizer)
    rows = [
        Constrained(model, [one], ends=frozenset(), limit=2000, start=0) for one in (first, second)
    ]
    found, written = [], b""
    for at, token in enumerate(tokens):
        ids, scores = torch.tensor([tokens[:at]]), torch.zeros(1, size)
        plain, other = (row(ids, scores)[0] for row in rows)
        change = (other - plain).nan_to_num()
        moved = {int(one): float(change[one]) for one in change.nonzero()[:, 0]}
        found.append((written, token, moved))
        written += Tokens.of(model).texts[token]
    return found


def test_caution_is_of_a_reply_s_first_token_alone(model: T2Model) -> None:
    constraint = tools_constraint(GENERAL, tools(*NAMES))
    cautious = replace(constraint, caution=3.0)
    for written, token, moved in compared(model, GENERAL.begin, constraint, cautious):
        assert bool(moved) == (not written)
        assert set(moved.values()) <= {-3.0}
        assert written or token in moved


def test_a_tool_that_fits_better_is_likelier_by_so_many_nats(model: T2Model) -> None:
    plain = held(model)
    assert plain.prior is not None
    fits = (0.1, 0.9, 0.4)
    text = GENERAL.write([(NAMES[TIME], {"a": "x"})])
    for written, token, moved in compared(model, text, plain, replace(plain, fit=fit(fits))):
        if not moved:
            continue
        name = written.rpartition(plain.prior.anchor)[2]
        gained = {
            way[name]: max(
                call_weights._FIT * one
                for other, one in zip(plain.prior.ways, fits, strict=True)
                if other.get(name) == way[name]
            )
            for way in plain.prior.ways
            if name in way
        }
        for other, nats in gained.items():  # what all of them share is nothing
            assert moved[token] - moved[other] == pytest.approx(gained[token] - nats, abs=1e-3)


@pytest.mark.parametrize(
    "form",
    [one for one in FORMATS.values() if one.parallel],
    ids=[name for name, one in FORMATS.items() if one.parallel],
)
def test_calls_do_not_end_while_a_part_of_the_request_is_left(
    model: T2Model, form: ToolFormat
) -> None:
    constraint = held(model, form)
    left = replace(constraint, fit=fit((0.8, 0.1, 0.1), (0.1, 0.8, 0.1)))
    calls = [(NAMES[WEATHER], {"a": "x"}), (NAMES[TIME], {"a": "y"})]
    written = form.write(calls)
    first = len(form.write(calls[:1]).removesuffix(form.after))
    places = [
        (len(before), token, moved)
        for before, token, moved in compared(model, written, constraint, left)
        if -call_weights._LEFT in moved.values()
    ]
    # Once the first call is whole, or as good as, until the next begins; what leads there is free.
    assert places
    second = first + len(form.separator + form.begin)
    assert all(first - len(left.end) <= at < second for at, _, _ in places)
    assert all(token not in moved for _, token, moved in places)
    if not form.before:  # free text may follow, and the end of the reply
        assert any({*end_tokens(model)} <= moved.keys() for _, _, moved in places)
    texts = Tokens.of(model).texts
    for at, _, moved in places:
        rest = left.end.encode()[len(left.end) - (first - at) :] if at < first else b""
        assert all(texts[token].startswith(rest) for token in moved)


def test_what_is_left_does_not_hold_where_one_call_is_all(model: T2Model) -> None:
    prompt = replace(Prompt.user("?"), tools=tools(*NAMES))
    one = tools_constraint(GENERAL, prompt.tools, parallel=False)
    assert one.separator is None
    left = fit((0.8, 0.1, 0.1), (0.1, 0.8, 0.1))
    with_prior = replace(one, prior=held(model).prior)
    text = GENERAL.write([(NAMES[WEATHER], {"a": "x"})])
    for _, _, moved in compared(model, text, with_prior, replace(with_prior, fit=left)):
        assert -call_weights._LEFT not in moved.values()


def test_the_request_counts_until_a_tool_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_weights, "_FIT", 1000.0)
    model = callers()
    offered = tools("get_weather", "exchange_money")
    engine = Engine(model, "off")
    asked = {"weather": "Is it raining in Oslo today?", "money": "Change 30 euros into dollars."}

    def called(*messages: dict[str, Any]) -> str:
        call = Call(
            engine,
            Prompt(tuple(messages), tools=offered),
            GenerationOptions(max_tokens=80),
            Given("caller"),
            tools_constraint(GENERAL, offered, choice="required", parallel=False),
        )
        [answer] = answer_together([call])
        scheduler = Scheduler(model)
        scheduled = scheduler.submit(call).future.result(60)
        scheduler.close()
        assert scheduled.generation == answer.generation
        [name] = re.findall("weather|money", answer.generation.text)[:1]
        return str(name)

    def user(text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    back = {"role": "assistant", "content": "Certainly?"}
    for name, text in asked.items():
        assert called(user(text)) == name
        assert called(user(text), back, user("Yes, please.")) == name
    call = {"id": "one", "type": "function", "function": {"name": "look", "arguments": {}}}
    result = (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "one", "content": "done"},
    )
    after = {called(user(text), *result) for text in asked.values()}
    assert len(after) == 1  # whatever was asked
    assert called(user(asked["weather"]), *result, back, user(asked["money"])) == "money"
    # Of tools that are shown and may not be called, nothing is known: nobody is favoured.
    more = replace(Prompt.user(asked["money"]), tools=(*offered, *tools("look")))
    some = engine.held(more, tools_constraint(GENERAL, offered), model.resolve("caller"))
    assert some is not None
    assert some.prior is not None
    assert some.fit is None
