"""The search, on a random model: the replies of a planted mixture are what is rewarded."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from random import Random
from typing import Any

import pytest

from t2agent.dispatch import SearchOptions, SearchResult
from t2agent.dispatch.few_shot.search import Finalist, best_finalist, search
from t2agent.dispatch.few_shot.shots import gather
from t2agent.dispatch.few_shot.trials import Stop, Trial, Trials
from t2agent.errors import ConfigError, ExpertNotFoundError, NoSignalWarning
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.models.decoding import reader
from t2agent.models.generate import Prompt, generate
from t2agent.models.likelihood import log_likelihoods
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.progress import Bar
from tests.experts import random_expert
from tests.models import build_text_model

PLANTED = Mixture({"a": 0.7, "b": 0.2})
REQUESTS = ["What is seven times three?", "Hi", "Write a function", "Who?", "Sort this list"]
TOKENS = 8
OPTIONS = SearchOptions(iterations=2, population=6, climb=4, max_tokens=TOKENS)
SIMPLE = SearchOptions(iterations=0, climb=0, max_tokens=TOKENS)


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
    assert tried[:4] == [
        Mixture(),
        Mixture({"a": 1.0}),
        Mixture({"b": 1.0}),
        Mixture({"a": 0.5, "b": 0.5}),
    ]
    (best,) = tried[4].weights
    # The pair at .5 each is the uniform mixture of two.
    assert tried[4:6] == [Mixture({best: 0.5}), Mixture({best: 1.5})]
    assert len(set(tried)) == len(tried)
    assert [phase for phase, *_ in result.history][:2] == ["first", "second"]
    weights = [w for trial in result.tried for w in trial.mixture.weights.values()]
    assert all(0 < w <= 1.5 for w in weights)


def test_the_result_is_compared_with_what_is_simple_and_its_score_true(
    model: T2Model, pairs: list[tuple[str, str]], result: SearchResult
) -> None:
    (found,) = [one for one in result.finalists if one.trial.mixture == result.mixture]
    assert (result.score, result.kept) == (found.trial.score, 2)
    assert found.trial.examples == len(REQUESTS)
    shots = gather(pairs, alike)
    again = [shots.score(text, row) for row, text in enumerate(replies(model, result.mixture))]
    assert found.trial.reward == pytest.approx(sum(again) / len(again))
    base, single, *_ = result.finalists
    assert base.trial.mixture == Mixture()
    assert len(single.trial.mixture.weights) == 1
    assert found.kept > found.against
    assert result.complete
    assert result.signal


@pytest.mark.parametrize("seed", range(4))
def test_it_is_never_worse_on_what_was_kept_out(
    model: T2Model, pairs: list[tuple[str, str]], seed: int
) -> None:
    """With replies that are rewarded at random, the best of many mixtures is one by chance."""

    def chance(reply: str, example: Any) -> float:
        return Random(f"{seed} {reply} {example.prompt}").choice([-1.0, 1.0])

    options = SearchOptions(population=6, climb=0, max_tokens=TOKENS, samples=1, seed=seed)
    found = search(model, pairs, chance, options=options, progress=False)
    (place,) = [i for i, one in enumerate(found.finalists) if one.trial.mixture == found.mixture]
    mine, simpler = found.finalists[place], found.finalists[:place]
    assert mine.kept > mine.against
    assert mine.clear
    if place > 1:
        assert mine.trial.score > max(one.trial.score for one in simpler)
    elif place == 0 and len(found.finalists) > 1:
        assert found.finalists[1].kept <= mine.kept


@pytest.mark.parametrize(
    ("kept", "against", "clear", "best"),
    [
        ((0.5, 0.5, 0.5), (0.5, 0.5), True, "base"),  # equal ones: the simplest
        ((0.5, 0.6, 0.6), (0.5, 0.6), True, "single"),
        ((0.5, 0.6, 0.7), (0.5, 0.6), False, "single"),  # not clearly better on all
        ((0.5, 0.6, 0.7), (0.5, 0.6), True, "mixture"),
        ((0.5, 0.4, 0.6), (0.5, 0.5), True, "mixture"),
        ((0.5, 0.4, 0.6), (0.5, 0.7), True, "base"),
        ((0.5, 0.6, -math.inf), (0.5, -math.inf), True, "mixture"),  # none kept out
        ((0.5, 0.6, -math.inf), (0.5, -math.inf), False, "single"),
    ],
)
def test_which_finalist_is_best(
    kept: tuple[float, ...], against: tuple[float, ...], clear: bool, best: str
) -> None:
    mixtures = {"base": Mixture(), "single": Mixture({"a": 1.0}), "mixture": PLANTED}
    finalists = [
        Finalist(Trial(mixture, 0.6, 0.6, 5), out, other, clear or mixture != PLANTED)
        for mixture, out, other in zip(mixtures.values(), kept, (-math.inf, *against), strict=True)
    ]
    found = best_finalist(finalists)
    assert found is not None
    assert found.trial.mixture == mixtures[best]


@pytest.mark.parametrize(
    ("others", "clear"),
    [
        ([-1, -1, -1, -1, -1], True),
        ([-1, -1, -1, 1, -1], True),  # by 1.6, with a standard error of .4
        ([-1, 1, -1, 1, 1], False),  # by .8, with .49
        ([1, 1, 1, 1, 1], False),
        ([-1], False),  # one example alone tells nothing of its error
    ],
)
def test_a_mixture_must_be_better_by_two_standard_errors(
    model: T2Model, others: list[int], clear: bool
) -> None:
    """It is right in all examples; the only expert in some of them."""
    shots = [(request, "x") for request in REQUESTS[: len(others)]]
    wanted = replies(model, PLANTED)

    def planted(reply: str, example: Any) -> float:
        row = REQUESTS.index(example.prompt)
        return 1.0 if reply == wanted[row] else float(others[row])

    options = replace(SIMPLE, samples=0, kept=0.0)
    found = search(model, shots, planted, start=[PLANTED], options=options, progress=False)
    mixed = [one for one in found.finalists if one.trial.mixture == PLANTED]
    assert [one.clear for one in mixed] == [clear] * len(mixed)
    assert (found.mixture == PLANTED) == clear
    assert mixed or 1 in others


def test_of_equal_experts_the_one_that_is_surest_of_its_right_replies_is_best() -> None:
    """Where only a bare answer is known; replies that were not rewarded count for nothing."""
    own = build_text_model()
    for seed, name in enumerate("abc"):
        own.registry.register(random_expert(own, name, seed))
    single = [Mixture({name: 1.0}) for name in "abc"]
    shots = gather([(r, "x") for r in REQUESTS], lambda reply, example: 1.0, max_tokens=TOKENS)
    shots = replace(shots, bare=True)
    trials, rows = Trials(own, shots, rows=64, stop=Stop(None, None)), range(len(REQUESTS))
    trials.run(single, rows, 0, Bar(None))
    sure = {}
    for mixture in single:
        with own.adapted(mixture):
            prompts = [Prompt.user(request) for request in REQUESTS]
            texts = generate(own, prompts, GenerationOptions(max_tokens=TOKENS))
            done = [(row, text.token_ids) for row, text in enumerate(texts)]
            sure[mixture] = log_likelihoods(own, prompts, done).exp().mean().item()
    order = sorted(single, key=lambda mixture: -sure[mixture])
    assert len(set(sure.values())) == 3
    assert trials.best(single, rows) == trials.best(single[::-1], rows) == order


def test_samples_count_as_much_as_the_greedy_reply(model: T2Model) -> None:
    texts = replies(model, Mixture())
    shots = gather(
        [(request, "x") for request in REQUESTS],
        lambda reply, example: 1.0 if reply == texts[REQUESTS.index(example.prompt)] else 0.0,
        max_tokens=TOKENS,
    )
    trials, rows = Trials(model, shots, rows=64, stop=Stop(None, None)), range(len(REQUESTS))
    for samples in (0, 4):
        trials.run([Mixture()], rows, samples, Bar(None))
        rewards = [r for (_, draw), (r, _) in trials._replies[Mixture()].items() if draw]
        sampled = sum(rewards) / len(rewards) if samples else 1.0
        assert sampled < 1 or not samples
        assert trials[Mixture()].score == pytest.approx((1 + sampled) / 2)
        assert trials[Mixture()].reward == 1.0


def test_without_any_signal_the_base_model_is_returned_and_it_is_told(model: T2Model) -> None:
    nothing = [(request, "no reply has this") for request in REQUESTS]
    with pytest.warns(NoSignalWarning, match=r"5 example.* they tell nothing"):
        found = search(model, nothing, options=OPTIONS, progress=False)
    assert (found.mixture, found.signal, found.score) == (Mixture(), False, -1.0)
    assert {trial.mixture for trial in found.tried} == {
        Mixture(), Mixture({"a": 1.0}), Mixture({"b": 1.0}), Mixture({"a": 0.5, "b": 0.5})
    }  # fmt: skip


def test_the_better_half_goes_on_and_no_reply_is_generated_twice(
    model: T2Model, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Mixture, int, int]] = []
    real = Trials._answer

    def count(self: Trials, part: Any, draws: Any) -> Any:
        asked.extend((mixture, row, draw) for mixture, row in part for draw in draws)
        return real(self, part, draws)

    monkeypatch.setattr(Trials, "_answer", count)
    found = look(model, pairs, options=OPTIONS)
    assert len(asked) == len(set(asked)) == found.generated
    assert {trial.examples for trial in found.tried} == {2, 3, 5}  # few, seen, all
    # 3 replies to 2 examples of all, then to the others of the better halves; at the end, 7 to
    # all examples of four at most.
    assert found.generated <= 6 * 2 * 3 + 3 * 3 * 3 + 1 * 1 * 3 + 4 * 5 * 7
    assert found.generated < 0.7 * len(found.tried) * len(REQUESTS) * 7


def test_a_perfect_expert_ends_the_search(model: T2Model) -> None:
    wanted = list(zip(REQUESTS, replies(model, Mixture({"a": 1.0})), strict=True))
    options = SearchOptions(max_tokens=TOKENS, samples=0)
    found = search(model, wanted, "exact", options=options, progress=False)
    assert (found.mixture, found.score) == (Mixture({"a": 1.0}), 1.0)
    assert [phase for phase, *_ in found.history] == ["first"]


def test_the_seed_sets_the_search(
    model: T2Model, pairs: list[tuple[str, str]], result: SearchResult
) -> None:
    same, other = look(model, pairs), look(model, pairs, options=SearchOptions(
        iterations=2, population=6, climb=4, max_tokens=TOKENS, seed=1
    ))  # fmt: skip
    assert [t.mixture for t in same.tried] == [t.mixture for t in result.tried]
    assert same.mixture == result.mixture
    assert other.tried != result.tried


def test_small_batches_and_one_mixture_at_a_time_give_the_same(
    model: T2Model, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = look(model, pairs, options=SIMPLE)
    small = look(model, pairs, options=replace(SIMPLE, rows=2))
    monkeypatch.setattr(T2Model, "per_row", False)
    apart = look(model, pairs, options=SIMPLE)
    assert small.tried == apart.tried == wanted.tried


def test_equal_rewards_are_told_apart_by_likelihood(
    model: T2Model, pairs: list[tuple[str, str]]
) -> None:
    """Of whole replies, where all are known; where no reply is right, the order stands."""
    single = [Mixture({name: 1.0}) for name in "ab"]
    for shots, order in (
        (gather(pairs, lambda reply, example: 0.25), [PLANTED, *single]),
        (gather(pairs, "contains"), None),
    ):
        trials = Trials(model, shots, rows=64, stop=Stop(None, None))
        rows = range(len(REQUESTS))
        trials.run([*single, PLANTED], rows, 0, Bar(None))
        if order is not None:
            assert trials.best([*single, PLANTED], rows)[0] == PLANTED
        else:
            assert {trials.score(m, [1]) for m in single} == {-1.0}
            assert trials.best(single, [1]) == single
            assert trials.best(single[::-1], [1]) == single[::-1]


def test_a_start_is_tried_and_found_better(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    found = look(model, pairs, start=[PLANTED], options=replace(SIMPLE, samples=0))
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
    assert {phase for phase, *_ in found.history} >= {"second", "generation 1 by layer"}
    assert flat


@contextmanager
def cancelling(event: threading.Event, batches: int) -> Iterator[list[int]]:
    """Sets the event once so many batches were generated."""
    done: list[int] = []
    real = Trials._answer

    def count(self: Trials, part: Any, draws: Any) -> Any:
        done.append(1)
        if len(done) > batches:
            event.set()
        return real(self, part, draws)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "_answer", count)
        yield done


def test_it_can_be_cancelled(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    """What was tried until then counts."""
    event = threading.Event()
    options = replace(SIMPLE, samples=0)
    with cancelling(event, 2) as batches:  # the first ones, and their better half
        found = look(model, pairs, options=options, cancel=event)
    assert len(batches) == 3
    assert found.tried[0].mixture == Mixture()
    assert len(found.tried) == 4
    assert len(found.finalists) == 2
    assert not found.complete

    at_once = look(model, pairs, options=options, cancel=event)
    assert (at_once.mixture, at_once.tried, at_once.complete) == (Mixture(), (), False)
    assert at_once.signal  # nothing is known


def test_its_time_is_bounded(model: T2Model, pairs: list[tuple[str, str]]) -> None:
    options = SearchOptions(max_tokens=TOKENS, max_seconds=1e-6)
    found = look(model, pairs, options=options)
    assert (found.tried, found.complete) == ((), False)


def test_replies_that_were_rewarded_become_references(model: T2Model) -> None:
    """The bare result "x" is no whole reply, so the gradient is that of replies with reward."""
    texts = replies(model, Mixture({"a": 1.0}))
    judge = lambda reply, example: 0.5 if reply in texts[1:] else -1.0  # noqa: E731
    shots = gather([(request, "x") for request in REQUESTS], judge, max_tokens=TOKENS)
    trials = Trials(model, shots, rows=64, stop=Stop(None, None))
    rows, mixtures = range(len(REQUESTS)), [Mixture(), Mixture({"a": 1.0})]
    trials.run(mixtures, rows, 0, Bar(None))
    targets = trials.targets(mixtures, rows)
    assert [reader(model.tokenizer)(tokens) for _, tokens in targets] == texts[1:]


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
        {"kept": 1.0},
        {"samples": -1},
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
