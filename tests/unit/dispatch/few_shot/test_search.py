"""The search, on a random model: the replies of a planted mixture are what is rewarded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import pytest

from t2agent.dispatch import SearchOptions, SearchResult
from t2agent.dispatch.few_shot.search import search
from t2agent.dispatch.few_shot.shots import gather
from t2agent.dispatch.few_shot.trials import Stop, Trials
from t2agent.errors import ConfigError, ExpertNotFoundError
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.models.decoding import reader
from t2agent.models.generate import Prompt, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.progress import Bar
from tests.experts import random_expert
from tests.models import build_text_model

PLANTED = Mixture({"a": 0.7, "b": 0.2})
REQUESTS = ["What is seven times three?", "Hi", "Write a function"]
TOKENS = 8
OPTIONS = SearchOptions(iterations=2, population=6, climb=4, max_tokens=TOKENS)


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate("ab"):
        strong = random_expert(model, name, seed)
        z = {module: 1 + 0.2 * (vector - 1) for module, vector in strong.z.items()}
        model.registry.register(Expert(strong.card, z))
    return model


def replies(model: T2Model, mixture: Mixture) -> list[str]:
    prompts = [Prompt.user(request) for request in REQUESTS]
    with model.adapted(mixture):
        found = generate(model, prompts, GenerationOptions(max_tokens=TOKENS))
    return [one.text for one in found]


def alike(reply: str, example: Any) -> float:
    """1 for the answer, less for one that has only its beginning."""
    pairs = zip(reply, example.answer, strict=False)
    common = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return 2 * common / max(1, len(reply), len(example.answer)) - 1


@pytest.fixture(scope="module")
def pairs(model: T2Model) -> list[tuple[str, str]]:
    return list(zip(REQUESTS, replies(model, PLANTED), strict=True))


def look(model: T2Model, pairs: list[tuple[str, str]], **changes: Any) -> SearchResult:
    options = changes.pop("options", OPTIONS)
    return search(model, pairs, alike, options=options, progress=False, **changes)


@pytest.fixture(scope="module")
def result(model: T2Model, pairs: list[tuple[str, str]]) -> SearchResult:
    return look(model, pairs)


def test_what_is_simple_is_tried_first(result: SearchResult) -> None:
    tried = [trial.mixture for trial in result.tried]
    assert tried[:8] == [
        Mixture(),
        Mixture({"a": 1.0}),
        Mixture({"b": 1.0}),
        Mixture({"a": 0.5, "b": 0.5}),
        *(Mixture({name: scale}) for scale in (0.5, 1.5) for name in "ab"),
    ]
    assert len(set(tried)) == len(tried)
    assert [phase for phase, *_ in result.history][:3] == ["first", "scaled", "gradient"]
    weights = [w for trial in result.tried for w in trial.mixture.weights.values()]
    assert all(0 < w <= 1.5 for w in weights)


def test_the_result_is_the_best_and_its_score_true(
    model: T2Model, pairs: list[tuple[str, str]], result: SearchResult
) -> None:
    assert (result.score, result.likelihood) == max(trial.rank for trial in result.tried)
    shots = gather(pairs, alike)
    again = [shots.score(text, row) for row, text in enumerate(replies(model, result.mixture))]
    assert result.score == pytest.approx(sum(again) / len(again))
    # It found more than what is simple.
    assert (result.score, result.likelihood) > max(trial.rank for trial in result.tried[:8])
    assert result.complete


def test_the_seed_sets_the_search(
    model: T2Model, pairs: list[tuple[str, str]], result: SearchResult
) -> None:
    same, other = look(model, pairs), look(model, pairs, options=SearchOptions(
        iterations=2, population=6, climb=4, max_tokens=TOKENS, seed=1
    ))  # fmt: skip
    assert [t.mixture for t in same.tried] == [t.mixture for t in result.tried]
    assert same.mixture == result.mixture
    assert [t.mixture for t in other.tried] != [t.mixture for t in result.tried]


def test_small_batches_and_one_mixture_at_a_time_give_the_same(
    model: T2Model, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    simple = SearchOptions(iterations=0, climb=0, max_tokens=TOKENS)
    wanted = look(model, pairs, options=simple)
    small = look(
        model, pairs, options=SearchOptions(iterations=0, climb=0, max_tokens=TOKENS, rows=2)
    )
    monkeypatch.setattr(T2Model, "per_row", False)
    apart = look(model, pairs, options=simple)
    for other in (small, apart):
        for one, two in zip(wanted.tried, other.tried, strict=True):
            assert (two.mixture, two.reward) == (one.mixture, one.reward)
            assert two.likelihood == pytest.approx(one.likelihood, rel=1e-4)


def test_equal_rewards_are_told_apart_by_likelihood(
    model: T2Model, pairs: list[tuple[str, str]]
) -> None:
    options = SearchOptions(iterations=0, climb=0, max_tokens=TOKENS)
    found = search(
        model, pairs, lambda reply, example: 0.25, options=options, progress=False, start=[PLANTED]
    )
    assert {trial.reward for trial in found.tried} == {0.25}
    likelihoods = {trial.mixture: trial.likelihood for trial in found.tried}
    assert found.mixture == max(likelihoods, key=lambda mixture: likelihoods[mixture])
    assert PLANTED in likelihoods
    assert len(set(likelihoods.values())) == len(likelihoods)


def test_a_start_is_tried_and_a_perfect_mixture_ends_the_search(
    model: T2Model, pairs: list[tuple[str, str]]
) -> None:
    found = look(model, pairs, start=[PLANTED])
    assert (found.mixture, found.score, len(found.tried)) == (PLANTED, 1.0, 5)


def test_the_number_of_mixtures_is_bounded(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    found = look(model, pairs, options=SearchOptions(max_evaluations=3, max_tokens=TOKENS))
    assert len(found.tried) == 3
    assert found.tried[0].mixture == Mixture()


def test_weights_for_each_layer_start_from_the_flat_optimum(
    model: T2Model, pairs: list[tuple[str, str]]
) -> None:
    options = SearchOptions(iterations=1, population=4, climb=2, per_layer=True, max_tokens=TOKENS)
    found = look(model, pairs, options=options)
    flat = [trial for trial in found.tried if not trial.mixture.layers]
    layered = [trial for trial in found.tried if trial.mixture.layers]
    assert {"model.layers.0", "model.layers.1"} >= set(layered[0].mixture.layers)
    assert (found.score, found.likelihood) >= max(trial.rank for trial in flat)


@contextmanager
def cancelling(event: threading.Event, trials: int) -> Iterator[list[int]]:
    """Sets the event once so many batches were generated."""
    done: list[int] = []
    real = Trials._replies

    def count(self: Trials, part: Any) -> Any:
        done.append(1)
        if len(done) > trials:
            event.set()
        return real(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "_replies", count)
        yield done


def test_it_can_be_cancelled(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    event = threading.Event()
    options = SearchOptions(max_tokens=TOKENS, rows=3)
    with cancelling(event, 2) as batches:
        found = look(model, pairs, options=options, cancel=event)
    assert len(batches) == 3
    assert [trial.mixture for trial in found.tried] == [Mixture(), Mixture({"a": 1.0})]
    assert not found.complete

    at_once = look(model, pairs, options=options, cancel=event)
    assert (at_once.mixture, at_once.tried, at_once.complete) == (Mixture(), (), False)


def test_its_time_is_bounded(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    options = SearchOptions(max_tokens=TOKENS, max_seconds=1e-6)
    found = look(model, pairs, options=options)
    assert (found.tried, found.complete) == ((), False)


def test_replies_that_were_rewarded_become_references(model: T2Model) -> None:
    """The bare result "x" is no whole reply, so the likelihood is that of a reply with reward."""
    texts = replies(model, Mixture({"a": 1.0}))
    judge = lambda reply, example: 0.5 if reply in texts else -1.0  # noqa: E731
    shots = gather([(request, "x") for request in REQUESTS], judge, max_tokens=TOKENS)
    trials = Trials(model, shots, rows=64, stop=Stop(None, None))
    trials.run([Mixture(), Mixture({"a": 1.0})], Bar(None))
    assert [reader(model.tokenizer)(tokens) for _, tokens in trials.targets] == texts
    assert trials[Mixture({"a": 1.0})].likelihood > trials[Mixture()].likelihood


def test_which_experts_are_mixed(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    own = build_text_model()
    with pytest.raises(ConfigError, match="no experts to mix"):
        look(own, pairs)
    for seed, (name, modality) in enumerate(
        {"a": "text", "see": "image", "classifier": "text"}.items()
    ):
        expert = random_expert(own, name, seed)
        card = ExpertCard(name, modality=modality, base_fingerprint=own.fingerprint)  # type: ignore[arg-type]
        own.registry.register(Expert(card, expert.z))
    simple = SearchOptions(iterations=0, climb=0, scales=(), max_tokens=TOKENS)
    found = look(own, pairs, options=simple)
    assert {n for t in found.tried for n in t.mixture.experts()} == {"a"}
    with pytest.raises(ExpertNotFoundError):
        look(model, pairs, experts=["a", "nobody"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"examples": 0},
        {"population": 1},
        {"elite": 1.5},
        {"elite": 0},
        {"spread": float("nan")},
        {"highest": "1"},
        {"scales": (0.5, -1)},
        {"max_seconds": 0},
        {"max_tokens": 0},
        {"rows": True},
        {"bogus": 1},
    ],
)
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SearchOptions(**wrong)
