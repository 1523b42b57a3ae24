"""Samples decoded from one copy of a prompt are those of repeated prompts."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from t2agent.models import branching
from t2agent.models.generate import Generation, Prompt, generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.models import build_vision_model
from tests.unit.models.test_completions import PROMPTS, build, some_expert

SHARED = ("rotary positions", "absolute positions", "offset positions")


def sampled(model: T2Model, prompts: list[Prompt], **options: object) -> list[Generation]:
    hyper = GenerationOptions(max_tokens=10, temperature=0.7, seed=3, **options)  # type: ignore[arg-type]
    return generate(model, prompts, hyper, samples=3)


def both(model: T2Model, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch, **options: object):
    """Samples by branching, whether it was done, and samples without it."""
    ran = []
    decode = branching.decode

    def watched(*args: object, **kwargs: object) -> torch.Tensor:
        ran.append(1)
        return decode(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(branching, "decode", watched)
    found = sampled(model, prompts, **options)
    did = bool(ran) and branching._BRANCHES[model.model]
    monkeypatch.setitem(branching._BRANCHES, model.model, False)
    return found, did, sampled(model, prompts, **options)


@pytest.mark.filterwarnings("ignore:not adapted")
@pytest.mark.parametrize("kind", SHARED)
def test_equal_to_repeated_prompts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(kind)
    found, did, wanted = both(model, PROMPTS, monkeypatch)
    assert did
    assert found == wanted
    assert len({one.token_ids for one in found}) > 3


def test_rows_that_end_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("rotary positions")
    texts = [one.text for one in sampled(model, PROMPTS)]
    stops = tuple({text[2:4] for text in texts[::2] if len(text) > 4})
    found, did, wanted = both(model, PROMPTS, monkeypatch, stop=stops)
    assert did
    assert found == wanted
    assert len({len(one.token_ids) for one in found}) > 1


def test_with_images(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.linear_gradient("L").convert("RGB")
    prompts = [Prompt.user("What is it?", image), Prompt.user("No image here")]
    found, did, wanted = both(build_vision_model(), prompts, monkeypatch)
    assert did
    assert found == wanted


@pytest.mark.filterwarnings("ignore:not adapted")
@pytest.mark.parametrize("kind", ["alibi", "sliding window", "recurrent layers"])
def test_others_repeat_the_prompts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, did, wanted = both(build(kind), PROMPTS, monkeypatch)
    assert not did
    assert found == wanted


def test_a_mixture_for_each_row_repeats_the_prompts() -> None:
    model = build("rotary positions")
    with model.adapted([some_expert(model)] * 9):
        assert model.mixed
        assert len(sampled(model, PROMPTS)) == 9
