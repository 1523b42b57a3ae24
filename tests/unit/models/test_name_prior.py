"""What a model makes of tools' names of itself is divided out of what it makes of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from t2agent.engine.batching import Call, answer_together
from t2agent.engine.scheduler import Scheduler
from t2agent.engine.two_passes import Engine, Given
from t2agent.errors import ContextLengthError
from t2agent.experts.expert import Expert
from t2agent.models import name_prior
from t2agent.models.compiling import Tokens
from t2agent.models.constrained import Constrained
from t2agent.models.generate import Prompt
from t2agent.models.likelihood import log_likelihoods
from t2agent.models.model import T2Model
from t2agent.models.name_prior import SHARE, calibrated
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import render
from t2agent.replies.constraint import Constraint, tools_constraint
from t2agent.replies.format import GENERAL, ToolFormat
from tests.experts import random_expert
from tests.models import build_text_model, build_vision_model
from tests.unit.replies.test_parsing import FORMATS

NAMES = ("get_weather", "get_time", "convert")


def tools(*names: str) -> tuple[dict[str, Any], ...]:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    return tuple(
        {"type": "function", "function": {"name": name, "parameters": parameters}} for name in names
    )


def callers() -> T2Model:
    """With an expert for text, and one for calls with the same z."""
    model = build_text_model(context=2048)
    own = random_expert(model, "any")
    model.registry.register(own)
    model.registry.register(Expert(replace(own.card, name="caller", step="calls"), own.z))
    return model


@pytest.fixture(scope="module")
def model() -> T2Model:
    return callers()


def held(model: T2Model, form: ToolFormat = GENERAL) -> Constraint:
    prompt = replace(Prompt.user("?"), tools=tools(*NAMES))
    constraint = tools_constraint(form, tools(*NAMES))
    return calibrated(model, constraint, prompt, model.resolve("caller"))


def test_it_is_the_likelihood_after_an_empty_request(model: T2Model) -> None:
    prior = held(model).prior
    assert prior is not None
    texts = Tokens.of(model).texts
    blank = replace(Prompt.user(""), tools=tools(*NAMES))
    for name in tools_constraint(GENERAL, tools(*NAMES)).names:
        row = model.tokenizer(name, add_special_tokens=False)["input_ids"]
        seen = 0
        for at, token in enumerate(row):
            before = b"".join(texts[one] for one in row[:at])
            _, anchor, rest = before.partition(prior.anchor)
            weight = prior.weights.get(rest, {}).get(token) if anchor else None
            if weight is None:
                continue
            with model.adapted("caller"), torch.no_grad():
                longer = log_likelihoods(model, [blank], [(0, row[: at + 1])])
                shorter = log_likelihoods(model, [blank], [(0, row[:at])])
            assert weight == pytest.approx(SHARE * float(longer - shorter), abs=1e-3)
            seen += 1
        assert seen  # each name is told from the others somewhere


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
def test_the_prior_holds_at_the_names_of_every_call_and_nowhere_else(
    model: T2Model, form: ToolFormat
) -> None:
    constraint = held(model, form)
    assert constraint.prior is not None
    calls = [("convert", {"a": "get_time"}), ("get_time", {"a": "convert"})]
    text = form.write(calls if form.parallel else calls[:1])
    tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    size = len(model.tokenizer)
    row = Constrained(model, [constraint], ends=frozenset(), limit=2000, start=0)
    free = Constrained(
        model, [replace(constraint, prior=None)], ends=frozenset(), limit=2000, start=0
    )
    written, changed = b"", []
    for at in range(len(tokens)):
        ids, scores = torch.tensor([tokens[:at]]), torch.zeros(1, size)
        given, wanted = row(ids, scores), free(ids, scores)
        if not torch.equal(given, wanted):
            changed.append(written)
            weights = constraint.prior.weights[written.rpartition(constraint.prior.anchor)[2]]
            moved, named = (given - wanted)[0], list(weights)
            assert tokens[at] in weights
            assert max(weights.values()) <= 0  # log-probabilities are taken away
            shift = moved[named] + torch.tensor(list(weights.values()))
            assert torch.allclose(shift, shift[0].expand(len(named)), atol=1e-5)
            # A call as such becomes no likelier by it.
            assert torch.allclose(given.logsumexp(-1), wanted.logsumexp(-1), atol=1e-5)
        written += Tokens.of(model).texts[tokens[at]]
    heads = [form.begin + form.name(name) for name, _ in calls[: 1 + form.parallel]]
    ends = [text.index(head) + len(head) for head in heads]
    starts = [text.index(head) + len(form.begin) for head in heads]
    places = [range(start, end + 1) for start, end in zip(starts, ends, strict=True)]
    assert all(any(len(before) in place for place in places) for before in changed)
    assert all(any(len(before) in place for before in changed) for place in places)


def test_it_is_read_once_for_tools_and_a_mixture(
    model: T2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    known = name_prior.read_prompt
    monkeypatch.setattr(
        name_prior, "read_prompt", lambda *args: read.append(args[1]) or known(*args)
    )
    other = tools_constraint(GENERAL, tools("one", "two"))
    for text in "abc":
        prompt = replace(Prompt.user(text), tools=tools("one", "two"))
        assert calibrated(model, other, prompt, model.resolve("caller")).prior is not None
    assert len(read) == 1
    prompt = replace(Prompt.user("a"), tools=tools("one"))
    one = tools_constraint(GENERAL, tools("one"))
    assert calibrated(model, one, prompt, model.resolve("caller")) is one  # nothing to choose
    assert len(read) == 1


def test_a_system_message_may_hold_an_image() -> None:
    model = build_vision_model(context=2048)
    own = random_expert(model, "caller")
    model.registry.register(Expert(replace(own.card, step="calls"), own.z))
    messages = (
        {"role": "system", "content": [{"type": "image"}, {"type": "text", "text": "Look."}]},
        {"role": "user", "content": "?"},
    )
    constraint = tools_constraint(GENERAL, tools(*NAMES))
    priors = [
        calibrated(
            model,
            constraint,
            Prompt(messages, (Image.new("RGB", (64, 64), colour),), tools(*NAMES)),
            model.resolve("caller"),
        ).prior
        for colour in ("red", "blue")
    ]
    assert None not in priors
    assert priors[0] != priors[1]  # each image's own


def test_tools_that_are_too_long_are_not_run_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_prior, "read_prompt", lambda *_: pytest.fail("they were run"))
    model = callers()
    many = tools(*(f"tool_{number}" for number in range(200)))
    call = Call(
        Engine(model, "off"),
        replace(Prompt.user("?"), tools=many),
        GenerationOptions(max_tokens=8),
        Given("caller"),
        tools_constraint(GENERAL, many[:2]),
    )
    with pytest.raises(ContextLengthError):
        answer_together([call])
    with pytest.raises(ContextLengthError):
        Scheduler(model).submit(call)


def test_a_cautious_expert_begins_fewer_calls() -> None:
    model = callers()
    own = model.registry.get("caller")
    cards = {"bold": -20.0, "timid": 20.0}
    for name, caution in cards.items():
        card = replace(own.card, name=name, caution=caution)
        model.registry.register(Expert(card, own.z))
    prompt = replace(Prompt.user("?"), tools=tools(*NAMES))
    engine = Engine(model, "off")
    free, must = (tools_constraint(GENERAL, prompt.tools, choice=c) for c in ("auto", "required"))

    def begins(who: str, held: Constraint) -> bool:
        call = Call(engine, prompt, GenerationOptions(max_tokens=60), Given(who), held)
        [answer] = answer_together([call])
        first = Tokens.of(model).texts[answer.generation.token_ids[0]]
        return GENERAL.begin.encode().startswith(first)

    assert begins("bold", free)
    assert not begins("timid", free)
    assert begins("timid", must)  # a call that has to come does not hang on it
    both = engine.held(prompt, free, model.resolve({"bold": 0.5, "timid": 0.5}))
    assert both is not None
    assert both.caution == 0


def test_experts_for_calls_answer_by_it_alone_and_on_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_prior, "SHARE", 9.0)  # what is likely of itself is not chosen at all
    model = callers()
    engine, scheduler = Engine(model, "off"), Scheduler(model)
    pairs = [("left", "right"), ("open", "close"), ("buy", "sell"), ("read", "write")]
    found: dict[str, list[str]] = {"any": [], "caller": []}
    for pair in pairs:
        prompt = render(model, replace(Prompt.user("?"), tools=tools(*pair)))
        held = tools_constraint(GENERAL, tools(*pair), choice="required", parallel=False)
        for name, called in found.items():
            call = Call(engine, prompt, GenerationOptions(max_tokens=80), Given(name), held)
            [answer] = answer_together([call])
            assert scheduler.submit(call).future.result(60).generation == answer.generation
            called += re.findall(r'"name": "(\w+)"', answer.generation.text)
        prior = calibrated(model, held, prompt, model.resolve("caller")).prior
        assert prior is not None
        first = prior.weights[b""]
        least = Tokens.of(model).texts[min(first, key=first.__getitem__)].decode()
        assert found["caller"][-1].startswith(least)
    scheduler.close()
    assert found["any"] != found["caller"]
