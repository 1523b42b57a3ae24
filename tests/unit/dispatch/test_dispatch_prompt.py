"""Asking the model for the category: the scores are the model's own, in any batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import transformers

from t2agent.dispatch import (
    CLASSIFIER,
    ClassifierDispatcher,
    Dispatcher,
    PromptDispatcher,
    Request,
)
from t2agent.dispatch import prompt as module
from t2agent.dispatch.dispatcher import OTHERS, category_question
from t2agent.errors import ConfigError, ContextLengthError, ExpertNotFoundError
from t2agent.experts.card import ExpertCard
from t2agent.experts.expert import Expert, Mixture
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from tests.experts import random_expert
from tests.models import CONTEXT, END, build_text_model, build_tokenizer, build_vision_model
from tests.unit.dispatch.conftest import Cards

REQUESTS = [
    Request("What is seven times three?"),
    Request("Hi"),
    Request("Write a function that sorts a list of numbers", 1),
]
CARDS = Cards(
    ExpertCard("math"),
    ExpertCard("code"),
    ExpertCard("read", modality="image"),
    ExpertCard(CLASSIFIER),
    ExpertCard(OTHERS),
)


def without_template() -> T2Model:
    """A model of another family, whose reply may start with a space."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT,
        bos_token_id=1, eos_token_id=tokenizer.eos_token_id, pad_token_id=0,
    )  # fmt: skip
    hf = transformers.GPT2LMHeadModel(config)
    for parameter in hf.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return T2Model(hf, tokenizer, name="tiny-gpt2")


BUILD = {"text": build_text_model, "vision": build_vision_model, "gpt2": without_template}


@pytest.fixture(scope="module", params=list(BUILD))
def model(request: pytest.FixtureRequest) -> T2Model:
    return BUILD[request.param]()


@pytest.fixture(scope="module")
def text_model() -> T2Model:
    return build_text_model()


def plainly(model: T2Model, request: Request, names: Sequence[str]) -> dict[str, float]:
    """Probabilities by one unpadded, uncached pass for each spelling."""
    inputs = encode(model, [Prompt.user(category_question(request, names))])
    prompt = inputs["input_ids"][0].tolist()
    odds = {}
    for name in (*names, OTHERS):
        starts = ("", " ") if model.name == "tiny-gpt2" else ("",)
        spelled = {
            (*model.tokenizer.encode(start + name, add_special_tokens=False), end)
            for start in starts
            for end in [model.tokenizer.convert_tokens_to_ids(END)]
        }
        odds[name] = 0.0
        for tokens in spelled:
            with torch.no_grad():
                logits = model.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
            steps = logits.double().log_softmax(-1)[len(prompt) - 1 : -1]
            odds[name] += float(steps.gather(-1, torch.tensor(tokens)[:, None]).sum().exp())
    total = sum(odds.values())
    return {name: odds[name] / total for name in names}


def test_scores_are_the_probabilities_of_the_replies(model: T2Model) -> None:
    decisions = PromptDispatcher(model, CARDS).dispatch(REQUESTS)

    for request, decision in zip(REQUESTS, decisions, strict=True):
        names = ["code", "math", "read"] if request.images else ["code", "math"]
        wanted = plainly(model, request, names)
        assert decision.scores == pytest.approx(wanted, rel=1e-3)
        others = 1 - sum(wanted.values())
        best = max(wanted, key=lambda name: wanted[name])
        inside = wanted[best] > others
        assert decision.mixture == (Mixture({best: 1.0}) if inside else Mixture())
        assert decision.in_scope == inside
        assert decision.strategy == "prompt"


def test_small_passes_give_the_same(text_model: T2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = PromptDispatcher(text_model, CARDS)
    whole = dispatcher.dispatch(REQUESTS)
    for rows in (1, 2, 5):
        monkeypatch.setattr(module, "rows_per_pass", lambda *_, rows=rows: rows)
        parts = dispatcher.dispatch(REQUESTS)
        for one, other in zip(whole, parts, strict=True):
            assert other.scores == pytest.approx(one.scores, rel=1e-4)


def test_the_classifier_expert_answers_the_question(model: T2Model) -> None:
    expert = random_expert(model, "own-classifier", 3)
    dispatcher = ClassifierDispatcher(model, CARDS, expert=expert)

    [decision] = dispatcher.dispatch(REQUESTS[:1])
    with model.adapted(expert):
        wanted = plainly(model, REQUESTS[0], ["code", "math"])
    assert decision.scores == pytest.approx(wanted, rel=1e-3)
    assert decision.strategy == "classifier"
    with model.adapted(expert):  # the prompt strategy asks the base model wherever it is called
        [base] = PromptDispatcher(model, CARDS).dispatch(REQUESTS[:1])
    assert base.scores == pytest.approx(plainly(model, REQUESTS[0], ["code", "math"]), rel=1e-3)


def test_the_expert_that_answers_is_never_chosen(text_model: T2Model) -> None:
    expert = random_expert(text_model, "math", 3)
    [decision] = ClassifierDispatcher(text_model, CARDS, expert=expert).dispatch(REQUESTS[:1])
    assert set(decision.scores) == {"code"}


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Planted log-likelihoods of replies by their text."""
    planted: dict[str, float] = {}

    def likelihoods(
        model: T2Model, prompts: object, completions: Sequence[tuple[int, Sequence[int]]]
    ) -> torch.Tensor:
        texts = [model.tokenizer.decode(list(tokens[:-1])) for _, tokens in completions]
        return torch.tensor([planted.get(text, -50.0) for text in texts])

    monkeypatch.setattr(module, "log_likelihoods", likelihoods)
    return planted


def test_others_is_the_base_model(text_model: T2Model, replies: dict[str, float]) -> None:
    dispatcher = PromptDispatcher(text_model, CARDS)
    replies |= {"math": -1.0, OTHERS: -0.5}
    [decision] = dispatcher.dispatch(REQUESTS[:1])
    assert (decision.mixture, decision.in_scope) == (Mixture(), False)
    assert sum(decision.scores.values()) < 0.5

    replies |= {"math": -0.1}
    [decision] = dispatcher.dispatch(REQUESTS[:1])
    assert (decision.mixture, decision.in_scope) == (Mixture({"math": 1.0}), True)
    [blank] = dispatcher.dispatch([Request(" \n")])
    assert (blank.mixture, blank.in_scope) == (Mixture(), False)


def test_image_experts_are_for_requests_with_images(
    text_model: T2Model, replies: dict[str, float]
) -> None:
    replies |= {"read": -0.1}
    without, with_image = PromptDispatcher(text_model, CARDS).dispatch(REQUESTS[1:])
    assert set(without.scores) == {"code", "math"}
    assert with_image.mixture == Mixture({"read": 1.0})


def test_at_a_step_one_of_its_experts_answers(
    text_model: T2Model, replies: dict[str, float]
) -> None:
    bills = ExpertCard("bills", examples=("Invoice 31: two chairs, 90 euros",), step="json")
    people = ExpertCard("people", examples=("Ann Lee is a nurse",), step="json")
    dispatcher = PromptDispatcher(text_model, Cards(ExpertCard("math"), bills, people))
    replies |= {"math": -0.1, OTHERS: -0.2, "bills": -5.0, "people": -4.0}
    asked = [Request("Eva Orr is a cook", json=True), Request("Eva Orr is a cook")]
    step, text = dispatcher.dispatch(asked)
    assert (step.mixture, step.in_scope) == (Mixture({"people": 1.0}), True)
    assert set(step.scores) == {"bills", "people"}
    assert (text.mixture, set(text.scores)) == (Mixture({"math": 1.0}), {"math"})


def test_without_experts_the_base_model_answers(text_model: T2Model) -> None:
    [decision] = PromptDispatcher(text_model, Cards()).dispatch(REQUESTS[:1])
    assert (decision.mixture, dict(decision.scores), decision.in_scope) == (Mixture(), {}, False)
    assert PromptDispatcher(text_model, CARDS).dispatch([]) == []


def test_a_long_request_loses_its_middle(
    text_model: T2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = module._ask

    def ask(request: Request, names: Sequence[str]) -> Prompt:
        asked.append(request.text)
        return real(request, names)

    monkeypatch.setattr(module, "_ask", ask)
    text = "first " + "word " * 2_000 + "last"
    decisions = PromptDispatcher(text_model, CARDS).dispatch([Request(text), REQUESTS[0]])
    read = asked[-1]
    assert read.startswith("first word")
    assert " ... " in read
    assert read.endswith("word last")
    assert len(read) > 200  # as much as fits
    assert len(decisions) == 2


def test_more_names_than_fit(text_model: T2Model) -> None:
    many = Cards(*(ExpertCard(f"expert-number-{k}") for k in range(60)))
    with pytest.raises(ContextLengthError, match="names 60 experts"):
        PromptDispatcher(text_model, many).dispatch(REQUESTS[:1])


def test_a_missing_classifier_says_how_to_train_one(text_model: T2Model) -> None:
    with pytest.raises(ExpertNotFoundError, match=r"'classifier'.*Train one: .*ClassificationTask"):
        ClassifierDispatcher(text_model, CARDS)
    with pytest.raises(ConfigError, match="give a name or an Expert"):
        ClassifierDispatcher(text_model, CARDS, expert=5)  # type: ignore[arg-type]


def test_a_classifier_that_goes_away(text_model: T2Model) -> None:
    text_model.registry.register(random_expert(text_model, CLASSIFIER))
    dispatcher = ClassifierDispatcher(text_model, CARDS)
    assert isinstance(dispatcher, Dispatcher)
    assert dispatcher.dispatch(REQUESTS[:1])
    text_model.registry.unregister(CLASSIFIER)
    with pytest.raises(ExpertNotFoundError, match="Train one"):
        dispatcher.dispatch(REQUESTS[:1])


def test_the_version_tells_classifiers_apart(text_model: T2Model) -> None:
    experts = [random_expert(text_model, "c", seed) for seed in (1, 2)]
    versions = {ClassifierDispatcher(text_model, CARDS, expert=e).version for e in experts}
    same = Expert(experts[0].card, dict(experts[0].z))
    versions.add(ClassifierDispatcher(text_model, CARDS, expert=same).version)
    assert len(versions | {PromptDispatcher(text_model, CARDS).version}) == 3
