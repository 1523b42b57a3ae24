from __future__ import annotations

import pytest
import torch

from t2agent.models.generate import row_seeds
from t2agent.models.options import GenerationOptions
from t2agent.models.sampling import Sampler


def draws(logits: list[float], *, rows: int = 4000, temperature: float = 1.0, top_p: float = 1.0):
    """How often each token is drawn, as a share of the rows."""
    options = GenerationOptions(temperature=temperature, top_p=top_p)
    sampler = Sampler(range(rows), options, limit=1, start=3)
    scores = sampler(torch.zeros(rows, 3), torch.tensor(logits).expand(rows, -1))
    assert ((scores == 0).sum(1) == 1).all()
    assert torch.isneginf(scores).sum() == rows * (len(logits) - 1)
    return torch.bincount(scores.argmax(1), minlength=len(logits)) / rows


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float) -> None:
    logits = [0.0, 1.0, 2.0, -3.0]
    likely = torch.softmax(torch.tensor(logits) / temperature, 0)
    assert torch.allclose(draws(logits, temperature=temperature), likely, atol=0.03)


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    logits = torch.tensor([0.1, 0.5, 0.3, 0.1]).log().tolist()
    assert draws(logits, top_p=0.7)[[0, 3]].tolist() == [0, 0]
    assert torch.allclose(draws(logits, top_p=0.7)[1], torch.tensor(0.5 / 0.8), atol=0.03)
    assert draws(logits, top_p=1e-9)[1] == 1


def test_no_temperature_and_no_logit_overflows() -> None:
    assert draws([1e4, -1e4, 0.0], temperature=1e-30)[0] == 1
    assert draws([-torch.inf, 5.0])[1] == 1


def test_each_row_and_each_step_has_a_draw_of_its_own() -> None:
    sampler = Sampler([7, 7, 8], GenerationOptions(temperature=1.0), limit=8, start=0)
    scores = torch.zeros(3, 1000)
    tokens = torch.stack([sampler(torch.zeros(3, k), scores).argmax(1) for k in range(8)])
    assert tokens[:, 0].tolist() == tokens[:, 1].tolist() != tokens[:, 2].tolist()
    assert len(set(tokens[:, 0].tolist())) > 4


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    draws([0.0, 1.0], rows=3)
    assert torch.equal(before, torch.get_rng_state())


def test_a_rows_seed_is_that_of_the_prompt_alone() -> None:
    alone = row_seeds(1, ["b"], 2)
    assert row_seeds(1, ["a", "b", "c"], 2)[2:4] == alone
    together = row_seeds(1, ["b", "b"], 2)
    assert together[:2] == alone
    assert len(set(together)) == 4
    assert row_seeds(2, ["b"], 2) != alone
    assert row_seeds(None, ["b"], 1) != row_seeds(None, ["b"], 1)
    assert all(0 <= seed < 2**63 for seed in together)


def test_copies_that_stand_for_single_calls_are_seeded_alike() -> None:
    assert row_seeds(1, ["b", "a", "b"], 1, alike=True) == [
        *row_seeds(1, ["b"], 1),
        *row_seeds(1, ["a"], 1),
        *row_seeds(1, ["b"], 1),
    ]
    first, second = row_seeds(None, ["b", "b"], 1, alike=True)
    assert first != second


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"min_p": 0.4}, {0, 1}),
        ({"min_p": 0.6}, {0}),
        ({"top_k": 3, "top_p": 0.5}, {0}),
        ({"top_k": 0, "min_p": 0.0}, {0, 1, 2, 3}),
    ],
)
def test_only_what_is_left_is_drawn(options, left):
    """Of probabilities .5, .25, .15 and .1."""
    scores = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log().repeat(200, 1)
    sampler = Sampler(range(200), GenerationOptions(temperature=1.0, **options), limit=1, start=0)
    assert set(sampler.draw(scores, torch.arange(200), 0).tolist()) == left
