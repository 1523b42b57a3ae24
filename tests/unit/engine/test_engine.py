from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from t2agent.chat.chat_model import ChatT2
from t2agent.dispatch import Decision, Dispatcher, Request, ToolAware
from t2agent.dispatch.strategies import version_of
from t2agent.dispatch.tool_offers import offer
from t2agent.engine.break_even import BreakEven
from t2agent.engine.two_passes import Answer, Engine, Given
from t2agent.errors import ConfigError, ContextLengthError, ExpertNotFoundError
from t2agent.experts.expert import Expert, Mixture
from t2agent.models.compiling import Tokens, compiled
from t2agent.models.generate import Generation, Prompt, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import render
from t2agent.models.template import ChatTemplate
from t2agent.replies.constraint import json_constraint
from tests.experts import WordDispatcher, random_expert
from tests.models import CONTEXT, build_text_model, build_vision_model

OPTIONS = GenerationOptions(max_tokens=12)
LONG = GenerationOptions(max_tokens=200)


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    return model


@pytest.fixture
def engine(model: T2Model) -> Engine:
    return Engine(model, WordDispatcher("alpha", "beta"))


def users(*texts: str) -> list[Prompt]:
    return [Prompt.user(text) for text in texts]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.generation.text for answer in answers]


def by_hand(model: T2Model, text: str, what: object) -> str:
    with model.adapted(what):  # type: ignore[arg-type]
        return generate(model, users(text), OPTIONS)[0].text


def test_the_chosen_expert_answers(model: T2Model, engine: Engine) -> None:
    alpha, beta, base = engine.answer(users("an alpha one", "a beta one", "another"), OPTIONS)
    assert [one.decision.mixture for one in (alpha, beta, base)] == [
        Mixture({"alpha": 1.0}),
        Mixture({"beta": 1.0}),
        Mixture(),
    ]
    assert alpha.generation.text == by_hand(model, "an alpha one", "alpha")
    assert beta.generation.text == by_hand(model, "a beta one", "beta")
    assert base.generation.text == by_hand(model, "another", None)
    assert alpha.generation.text != by_hand(model, "an alpha one", None)
    assert not base.decision.in_scope


def test_a_batch_is_answered_as_one_by_one(engine: Engine) -> None:
    prompts = users("alpha first", "beta second and longer than it", "third", "alpha and beta")
    alone = [engine.answer([prompt], OPTIONS)[0] for prompt in prompts]
    assert engine.answer(prompts, OPTIONS) == alone


@pytest.mark.parametrize("choice", ["off", None])
def test_without_dispatch_the_base_answers(model: T2Model, choice: str | None) -> None:
    engine = Engine(model, choice)
    [answer] = engine.answer(users("an alpha one"), OPTIONS)
    assert answer.decision.strategy == "off"
    assert answer.decision.mixture == Mixture()
    assert answer.generation.text == by_hand(model, "an alpha one", None)


def test_the_base_model_needs_no_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = build_text_model()
    monkeypatch.setattr(fresh, "decompose", lambda progress=True: pytest.fail("decomposed"))
    Engine(fresh, "off").answer(users("hello"), OPTIONS)


@pytest.mark.parametrize("what", ["beta", {"alpha": 0.5, "beta": -0.3}, Mixture({"beta": 1.0})])
def test_a_given_mixture_answers(model: T2Model, engine: Engine, what: object) -> None:
    [answer] = engine.answer(users("an alpha one"), OPTIONS, choice=Given(what))  # type: ignore[arg-type]
    assert answer.decision.strategy == "given"
    assert answer.generation.text == by_hand(model, "an alpha one", what)


def test_a_given_expert_need_not_be_registered(model: T2Model, engine: Engine) -> None:
    expert = random_expert(model, "gamma", 7)
    [answer] = engine.answer(users("an alpha one"), OPTIONS, choice=Given(expert))
    assert answer.decision.mixture == Mixture({"gamma": 1.0})
    assert answer.generation.text == by_hand(model, "an alpha one", expert)


def test_an_unknown_expert(engine: Engine) -> None:
    with pytest.raises(ExpertNotFoundError, match="delta"):
        engine.answer(users("hello"), OPTIONS, choice=Given("delta"))


@pytest.mark.parametrize("name", ["nonsense", "prompts", ""])
def test_an_unknown_strategy(model: T2Model, engine: Engine, name: str) -> None:
    with pytest.raises(ConfigError, match=r"embedding, prompt, .*, off"):
        Engine(model, name)
    with pytest.raises(ConfigError, match=r"embedding, prompt, .*, off"):
        engine.answer(users("hello"), OPTIONS, choice=name)


def test_what_is_no_dispatcher(model: T2Model) -> None:
    with pytest.raises(ConfigError, match="int was given"):
        Engine(model, 3)  # type: ignore[arg-type]


def test_a_dispatcher_that_forgets_a_request(model: T2Model) -> None:
    class Forgetful:
        def dispatch(self, requests: object) -> list[Decision]:
            return []

    assert isinstance(Forgetful(), Dispatcher)
    with pytest.raises(ConfigError, match="Forgetful"):
        Engine(model, Forgetful()).answer(users("hello"), OPTIONS)


def test_the_dispatcher_sees_the_last_request_and_the_images() -> None:
    dispatcher = WordDispatcher()
    engine = Engine(build_vision_model(), dispatcher)
    image = Image.new("RGB", (8, 8))
    parts = [
        {"type": "text", "text": "What "},
        {"type": "image"},
        {"type": "text", "text": "is it?"},
    ]
    prompt = Prompt(
        (
            {"role": "user", "content": [{"type": "image"}]},
            {"role": "assistant", "content": "A square."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "Hm."},
        ),
        (image, image),
    )
    engine.decide([prompt, "a plain text"])
    assert dispatcher.requests == [Request("What is it?", 2), Request("a plain text")]


def test_the_dispatcher_sees_the_question_that_stands_before_its_image() -> None:
    dispatcher = WordDispatcher()
    question = {"role": "user", "content": "What is it?"}
    picture = {"role": "user", "content": [{"type": "image"}]}
    image = Image.new("RGB", (8, 8))
    two = Prompt((question, picture), (image,))
    start, end = ({"type": "text", "text": text} for text in ("What is", "it?"))
    one = Prompt(({"role": "user", "content": [start, {"type": "image"}, end]},), (image,))
    later = Prompt((question, {"role": "assistant", "content": "Show it."}, picture), (image,))
    Engine(build_vision_model(), dispatcher).decide([two, one, later])
    assert [request.text for request in dispatcher.requests] == ["What is it?", "What is it?", ""]


def test_the_pieces_of_a_stream_are_the_answer(engine: Engine) -> None:
    [expected] = engine.answer(users("an alpha one"), OPTIONS)
    *pieces, last = engine.stream(users("an alpha one")[0], OPTIONS)
    assert last == expected
    assert len(pieces) > 3
    assert "".join(pieces) == expected.generation.text  # type: ignore[arg-type]


def test_closing_a_stream_ends_the_generation(engine: Engine) -> None:
    known = set(threading.enumerate())  # a scheduler's of other tests may be idle
    steps = _Steps(engine.model)
    stream = engine.stream(users("hello")[0], LONG)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    made = steps.count
    assert made < 50
    time.sleep(0.1)
    assert steps.count == made
    new = set(threading.enumerate()) - known
    assert not [thread for thread in new if "t2agent" in thread.name]


def test_an_error_reaches_the_reader_of_a_stream(engine: Engine) -> None:
    with pytest.raises(ContextLengthError):
        list(engine.stream(users("word " * CONTEXT)[0], OPTIONS))


def test_rows_short_of_room_do_not_shorten_the_others(engine: Engine) -> None:
    prompts = users("alpha hello", "7" * (CONTEXT - 40), "beta hello")
    options = GenerationOptions(max_tokens=60)
    alone = [engine.answer([prompt], options)[0] for prompt in prompts]
    pieces: dict[int, str] = {0: "", 1: "", 2: ""}

    def collect(row: int, piece: str) -> None:
        pieces[row] += piece

    together = engine.answer(prompts, options, on_text=collect)
    assert together == alone
    assert together[0].generation.completion_tokens == 60 > alone[1].generation.completion_tokens
    assert list(pieces.values()) == texts(together)


def test_threads_do_not_disturb_one_another(engine: Engine) -> None:
    prompts = users("alpha one", "beta two", "three", "alpha four")
    expected = [engine.answer([prompt], OPTIONS)[0] for prompt in prompts]
    got: list[list[Answer]] = [[] for _ in prompts]

    def work(row: int) -> None:
        for _ in range(3):
            got[row] += engine.answer([prompts[row]], OPTIONS)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[one] * 3 for one in expected]


def test_some_experts_only(model: T2Model) -> None:
    engine = Engine(model, "off", experts=["beta"])
    assert engine.registry is not None
    assert list(engine.registry) == ["beta"]
    assert "alpha" not in engine.registry
    assert (
        engine.registry.fingerprint != Engine(model, "off", experts=["alpha"]).registry.fingerprint
    )  # type: ignore[union-attr]
    with pytest.raises(ExpertNotFoundError):
        Engine(model, "off", experts=["delta"])
    with pytest.raises(ConfigError, match="list"):
        Engine(model, "off", experts="beta")


def test_given_experts_are_registered() -> None:
    fresh = build_text_model()
    expert = random_expert(fresh, "mine")
    for _ in range(2):
        Engine(fresh, "off", experts=[expert])
    assert fresh.registry.get("mine").digest() == expert.digest()


@pytest.fixture
def _merging_repays(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.break_even, "repays", lambda *_a, **_k: True)


@pytest.mark.usefixtures("_merging_repays")
def test_a_merged_answer_is_the_adapted_one(
    model: T2Model, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = users("an alpha one", "another alpha one")
    before = {name: p.clone() for name, p in model.model.named_parameters()}
    adapted = Engine(model, engine.dispatcher, merging=False).answer(prompts, OPTIONS)
    monkeypatch.setattr(model, "adapted", lambda _what: pytest.fail("not merged"))
    assert engine.answer(prompts, OPTIONS) == adapted
    assert all(torch.equal(p, before[name]) for name, p in model.model.named_parameters())


@pytest.mark.usefixtures("_merging_repays")
def test_different_mixtures_are_not_merged(
    model: T2Model, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "merged", lambda _what: pytest.fail("merged"))
    engine.answer(users("alpha", "beta"), OPTIONS)


def test_the_version_tells_dispatchers_apart(model: T2Model) -> None:
    one, other = WordDispatcher(), WordDispatcher()
    versions = {version_of(Engine(model, d).dispatcher) for d in (one, other, "off")}
    assert len(versions) == 3
    first, second = (version_of(Engine(model, one).dispatcher) for _ in range(2))
    assert first == second


def test_an_engine_by_another_dispatcher_shares_what_is_fitted(model: T2Model) -> None:
    engine = Engine(model, "embedding", experts=["beta"], merging=False)
    assert engine.dispatching("embedding") is engine
    own = WordDispatcher()
    other = engine.dispatching(own)
    assert (other.dispatcher, other.merging) == (own, False)
    assert other.registry is engine.registry
    assert other.break_even is engine.break_even
    assert other.dispatching("embedding").dispatcher is engine.dispatcher
    assert other.serves(model, ["beta"])
    assert other.similarity is not engine.similarity
    refined = engine.dispatching("embedding+few-shot")
    assert refined.similarity is refined.dispatcher.tool_similarity  # type: ignore[union-attr]


CLOCK = {
    "type": "function",
    "function": {
        "name": "current_time",
        "description": "Tells the time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def with_tools(text: str) -> Prompt:
    return replace(Prompt.user(text), tools=(CLOCK,))


def test_a_users_dispatcher_may_tell_whether_tools_are_wanted(model: T2Model) -> None:
    class Telling(WordDispatcher):
        def wants_tools(self, request: Request) -> bool:
            assert request.tools == (CLOCK,)
            return "time" in request.text

    telling, silent = Telling(), WordDispatcher()
    assert isinstance(telling, ToolAware)
    assert not isinstance(silent, ToolAware)
    wanted = {
        (kind, text): Engine(model, kind).wants_tools(with_tools(text))
        for kind in (telling, silent, "off")
        for text in ("What time is it?", "Hello")
    }
    assert [text for (_, text), wants in wanted.items() if not wants] == ["Hello"]
    assert not wanted[telling, "Hello"]


@pytest.mark.parametrize("strategy", ["embedding", "embedding+few-shot"])
def test_strategies_that_embed_know_whether_tools_are_wanted(strategy: str) -> None:
    model = build_text_model()
    learned = {
        "sums": [f"What is {a} + {b}?" for a in range(3, 9) for b in range(2, 6)],
        "calls": [
            offer([CLOCK]) + f"What time is it in {city}?" for city in ("Rome", "Oslo", "Lima")
        ],
    }
    for name, texts in learned.items():
        expert = random_expert(model, name)
        model.registry.register(Expert(replace(expert.card, examples=tuple(texts)), expert.z))
    engine = Engine(model, strategy)
    assert engine.wants_tools(with_tools("What time is it in Cairo?"))
    assert not engine.wants_tools(with_tools("What is 4 + 5?"))


def test_what_is_known_of_a_mixture_is_not_taken_for_another_experts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new expert often lies where one lay that is gone."""
    model = build_text_model()
    model.expert_cache.budget = 0
    engine = Engine(model, "off")
    keys: set[Any] = set()
    places: set[int] = set()

    def repays(_model: object, _what: object, key: Any, **_: object) -> bool:
        keys.add(key)
        return False

    monkeypatch.setattr(engine.break_even, "repays", repays)
    for _ in range(40):
        expert = random_expert(model, "mine")
        places.add(id(expert))
        for _ in range(2):
            engine.answer(users("hello"), GenerationOptions(max_tokens=1), choice=Given(expert))
        del expert
    assert len(keys) == 40 > len(places)


class _Steps:
    """Counts the forward passes of a model."""

    def __init__(self, model: T2Model) -> None:
        self.count = 0
        model.model.lm_head.register_forward_hook(self._see)

    def _see(self, *_args: object) -> None:
        self.count += 1


def test_nothing_is_left_of_a_model_that_is_gone() -> None:
    model = build_text_model()
    chat = ChatT2(model, dispatch="off", max_tokens=2)
    chat.bind(response_format={"type": "json_object"}).invoke("Hi")
    # By what it was made: the template, the tokens, the break-even and the gatherer.
    assert len(model._attached) == 4
    assert model.attached(BreakEven) is chat.engine.break_even
    kept = [Tokens.of(model).compiler, render(model, Prompt.user("Hi")).template]
    kept += [compiled(model, json_constraint(True)), model.tokenizer, model, model.model]
    kept += [one for one in model._attached.values() if not isinstance(one, Tokens)]
    left = list(map(weakref.ref, kept))
    assert len(left) == 9
    del model, chat, kept
    gc.collect()
    assert [one() for one in left] == [None] * 9


def test_prompts_that_run_apart_are_rendered_once(
    model: T2Model, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = users("word " * 20, "another")
    expected = [texts(engine.answer([one], LONG))[0] for one in prompts]
    render_one, count = ChatTemplate.render, [0]

    def counted(*args: object) -> str:
        count[0] += 1
        return render_one(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(ChatTemplate, "render", counted)
    lengths = [one.generation.prompt_tokens for one in engine.answer(prompts, LONG)]
    assert max(lengths) + LONG.max_tokens > CONTEXT >= min(lengths) + LONG.max_tokens
    assert count == [2]
    assert texts(engine.answer(prompts, LONG)) == expected


def _see(self, *_args: object) -> None:
    self.count += 1


def test_an_answer_tells_its_facts_in_plain_json() -> None:
    decision = Decision(Mixture({"alpha": 0.5}), "test", {"alpha": 0.9}, True, 0.25)
    answer = Answer(Generation("six", (4, 5, 6), "length", 11), decision, 0.75)
    facts = answer.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "text": "six",
        "finish_reason": "length",
        "usage": {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14},
        "dispatch": decision.to_dict(),
        "seconds": 0.75,
        "first_pass_share": 0.25,
    }


def test_experts_for_labels_answer_with_one_that_is_offered(model: T2Model) -> None:
    own = random_expert(model, "sorts", 5)
    model.registry.register(Expert(replace(own.card, step="labels"), own.z))
    try:
        engine = Engine(model)
        offered = (
            "The train was late again.\n\nWhich label fits the text: praise, complaint, spam?",
            "praise, complaint or spam? The train was late again.",
            "Choose one.\nLabels:\n- praise\n- complaint\n- spam\n\nText: The train was late.",
        )
        other = "Tell me about trains."
        labels = {"praise", "complaint", "spam"}
        answers = engine.answer(users(*offered, other), LONG, choice=Given("sorts"))
        assert {text in labels for text in texts(answers[:3])} == {True}
        assert texts(answers)[3] not in labels
        assert answers[0].generation.finish_reason == "stop"
        # Those for other steps say what they like, and so does the base model.
        for choice in (Given("alpha"), "off"):
            free = engine.answer(users(*offered), OPTIONS, choice=choice)
            assert not labels & set(texts(free))
    finally:
        model.registry.unregister("sorts")
