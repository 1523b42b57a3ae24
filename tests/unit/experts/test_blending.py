"""A mixture as one expert."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from t2agent.errors import ConfigError, ExpertMismatchError, ExpertNotFoundError
from t2agent.experts.blend import blend, blended
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from tests.experts import random_expert
from tests.models import build_text_model

LAYERED = Mixture({"a": 0.5}, {"model.layers.1": {"a": 0.0, "b": 1.25}})
MIXTURES = [Mixture({"a": 0.5, "b": -0.25}), LAYERED]


@pytest.fixture(scope="module")
def model() -> T2Model:
    model = build_text_model()
    for seed, name in enumerate("ab"):
        model.registry.register(random_expert(model, name, seed))
    return model


def logits(model: T2Model, what: object) -> torch.Tensor:
    inputs = encode(model, [Prompt.user("What is seven times three?")])
    with torch.no_grad(), model.adapted(what):  # type: ignore[arg-type]
        return model.model(**inputs).logits


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_blend_does_what_the_mixture_does(model: T2Model, mixture: Mixture) -> None:
    one = model.registry.blend(mixture, "c")
    torch.testing.assert_close(logits(model, one), logits(model, mixture), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(model, one), logits(model, None), rtol=1e-2, atol=1e-2)
    assert "c" not in model.registry


@pytest.mark.parametrize("mixture", [*MIXTURES, Mixture()])
def test_the_vectors_of_all_layers(model: T2Model, mixture: Mixture) -> None:
    z = blended(*model.resolve(mixture), model.shapes)
    assert z.keys() == model.shapes.keys()
    one = Expert(ExpertCard("c"), z)
    torch.testing.assert_close(logits(model, one), logits(model, mixture), rtol=1e-4, atol=1e-4)


def test_the_card(model: T2Model) -> None:
    a, b = (model.registry.get(name) for name in "ab")
    a = a.renamed("a", examples=("one", "two"), license="MIT", modality="image")
    b = b.renamed("b", examples=("two", "three"), license="MIT")
    card = blend(LAYERED, [b, a], "c", description="Both.").card
    assert (card.name, card.description, card.license) == ("c", "Both.", "MIT")
    assert (card.base, card.base_fingerprint) == (model.name, model.fingerprint)
    assert card.examples == ("two", "three", "one")
    assert card.modality == "image"
    assert card.training["mixture"] == LAYERED.to_dict()
    assert card.training["experts"] == {"a": a.digest(), "b": b.digest()}
    # What is taken away is not what the blend is for.
    less = blend(Mixture({"a": -1.0, "b": 0.5}), [a, b], "c").card
    assert (less.examples, less.modality) == (("two", "three"), "text")
    assert blend(Mixture({"a": 1.0}), [a, replace(b, card=b.card)], "c").card.license == "MIT"


def test_a_base_model_that_is_not_loaded(model: T2Model, t2agent_home) -> None:
    for name in "ab":
        model.registry.get(name).save(t2agent_home / "experts" / "tiny-text" / name)
    registry = Registry("tiny-text")
    one = registry.blend({"a": 0.5, "b": 2.0}, "c")
    registry.register(one, persist=True)
    assert Registry("tiny-text").get("c").digest() == one.digest()
    same = 0.5 * registry.get("a") + 2 * registry.get("b")
    for module, z in one.z.items():
        torch.testing.assert_close(z, same.z[module], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_blended(model: T2Model) -> None:
    with pytest.raises(ExpertNotFoundError):
        model.registry.blend({"nobody": 1.0}, "c")
    with pytest.raises(ConfigError, match="base model"):
        model.registry.blend(None, "c")
    with pytest.raises(ConfigError, match="cannot name"):
        model.registry.blend("a", "no name")
    a = model.registry.get("a")
    with pytest.raises(ConfigError, match="'b'"):
        blend(Mixture({"a": 1.0, "b": 1.0}), [a], "c")
    other = a.renamed("b", base_fingerprint="other")
    with pytest.raises(ExpertMismatchError):
        blend(Mixture({"a": 1.0, "b": 1.0}), [a, other], "c")
    assert model.registry.blend(a, "c").digest() == a.digest()
