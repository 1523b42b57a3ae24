from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from t2agent.dispatch.few_shot import space as ascent
from t2agent.dispatch.few_shot.space import Space, climb
from t2agent.experts.mixture import Mixture
from t2agent.models.likelihood import answer_tokens, log_likelihoods
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt
from tests.experts import random_expert
from tests.models import build_text_model

PROMPTS = [Prompt.user("What is seven times three?"), Prompt.user("Hi")]
BOUNDS = (0.0, 1.5)


@pytest.fixture(scope="module")
def model() -> Iterator[T2Model]:
    model = build_text_model()
    for seed, name in enumerate("ab"):
        model.registry.register(random_expert(model, name, seed))
    return model


@pytest.fixture(scope="module")
def targets(model: T2Model) -> list[tuple[Prompt, tuple[int, ...]]]:
    """Replies that a quarter of expert a makes likely: its own most probable tokens."""
    from t2agent.models.generate import generate
    from t2agent.models.options import GenerationOptions

    with model.adapted({"a": 0.25}):
        replies = generate(model, PROMPTS, GenerationOptions(max_tokens=12))
    return [(p, reply.token_ids) for p, reply in zip(PROMPTS, replies, strict=True)]


def likelihood(model: T2Model, mixture: Mixture, targets: list) -> float:
    with torch.no_grad(), model.adapted(mixture):
        found = log_likelihoods(
            model, [p for p, _ in targets], [(i, t) for i, (_, t) in enumerate(targets)]
        )
    return float(found.mean())


def test_it_climbs(model: T2Model, targets: list) -> None:
    space = Space(("a", "b"))
    start = np.zeros((1, 2))
    found = climb(model, space, start, targets, bounds=BOUNDS, steps=15)
    gained = likelihood(model, space.mixture(found), targets)
    assert gained > likelihood(model, Mixture(), targets) + 1
    assert (found >= 0).all()
    assert (found <= 1.5).all()
    assert 0.1 < found[0, 0] < 0.5  # near what the replies were made with
    assert start.tolist() == [[0.0, 0.0]]


def test_a_step_goes_along_the_gradient(
    model: T2Model, targets: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam's first step is the gradient's sign, by finite differences; for each layer."""
    monkeypatch.setattr(ascent, "_RATE", 0.01)
    space = Space.by_layer(("a", "b"), list(model.shapes))
    start = np.full((len(space.prefixes), 2), 0.5)
    base = likelihood(model, space.mixture(start), targets)
    found = climb(model, space, start, targets, bounds=BOUNDS, steps=2)
    slopes = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        moved = start.copy()
        moved[place] += 0.01
        slopes[place] = likelihood(model, space.mixture(moved), targets) - base
    clear = np.abs(slopes) > 1e-3
    assert clear.sum() >= 3
    assert np.allclose((found - start)[clear], 0.01 * np.sign(slopes)[clear], atol=1e-4)


def test_the_best_point_is_kept_and_it_can_be_stopped(model: T2Model, targets: list) -> None:
    space = Space(("a",))
    top = np.array([[0.25]])
    found = climb(model, space, top, targets, bounds=BOUNDS, steps=6)
    assert likelihood(model, space.mixture(found), targets) >= likelihood(
        model, space.mixture(top), targets
    )
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return True

    still = climb(model, space, top, targets, bounds=BOUNDS, steps=6, stop=stop)
    assert (still.tolist(), len(asked)) == ([[0.25]], 1)


def test_the_answer_ends_with_the_end_token(model: T2Model) -> None:
    tokens = answer_tokens(model, "a <|im_end|> b")
    assert tokens[-1] == model.tokenizer.eos_token_id
    assert model.tokenizer.eos_token_id not in tokens[:-1]
