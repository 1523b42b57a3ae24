from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from t2agent.dispatch import (
    CLASSIFIER,
    ClassifierDispatcher,
    Decision,
    EmbeddingDispatcher,
    FewShotDispatcher,
    Latest,
    PromptDispatcher,
    RefinedDispatcher,
    Request,
)
from t2agent.dispatch.dispatcher import Adapted
from t2agent.dispatch.strategies import NAMES, Strategies, make_dispatcher, version_of
from t2agent.errors import ConfigError, ExpertExistsError, ExpertNotFoundError
from t2agent.experts.expert import ExpertCard, Mixture
from t2agent.experts.registry import Registry
from t2agent.experts.selection import Selection
from tests.experts import WordDispatcher, random_expert
from tests.models import tiny_text_model


@pytest.fixture
def registry() -> Iterator[Registry]:
    """One with the experts a and b."""
    model = tiny_text_model()
    for seed, name in enumerate("ab"):
        model.registry.register(random_expert(model, name, seed), replace=True)
    yield model.registry
    for name in model.registry.names():
        model.registry.unregister(name)


def test_a_selection_is_read_as_the_registry_is(registry: Registry) -> None:
    some = Selection.of(registry, ["b"])
    assert (list(some), len(some), "b" in some, "a" in some) == (["b"], 1, True, False)
    assert some.names("text") == ["b"]
    assert some.names("image") == []
    assert some.fingerprint != Selection.of(registry, ["a"]).fingerprint
    registry.unregister("b")
    assert list(some) == []


def test_experts_and_folders_are_registered_once(registry: Registry, tmp_path: Path) -> None:
    expert = random_expert(tiny_text_model(), "c")
    expert.save(tmp_path / "c")
    assert list(Selection.of(registry, [expert])) == ["c"]
    assert registry.get("c") is expert
    assert list(Selection.of(registry, [str(tmp_path / "c"), tmp_path / "c", "a"])) == ["a", "c"]
    assert registry.get("c") is expert
    with pytest.raises(ExpertExistsError):
        Selection.of(registry, [random_expert(tiny_text_model(), "c", seed=9)])


@pytest.mark.parametrize("experts", ["a", Path("a"), 5])
def test_what_is_no_list_is_refused(registry: Registry, experts: Any) -> None:
    with pytest.raises(ConfigError, match="give a list"):
        Selection.of(registry, experts)


def test_an_unknown_name_is_refused(registry: Registry) -> None:
    with pytest.raises(ExpertNotFoundError):
        Selection.of(registry, ["a", "nobody"])


def test_an_expert_that_was_added_may_be_chosen(registry: Registry) -> None:
    some = Selection.of(registry, ["b"])
    some.add("a")
    assert list(some) == ["a", "b"]


def test_every_strategy_has_its_dispatcher(registry: Registry) -> None:
    model = tiny_text_model()
    registry.register(random_expert(model, CLASSIFIER))
    some, latest = Selection.of(registry, ["b"]), Latest()
    made = {name: make_dispatcher(name, model, some, latest) for name in NAMES}
    kinds = {name: type(one) for name, one in made.items()}
    assert kinds == {
        "embedding": EmbeddingDispatcher,
        "prompt": PromptDispatcher,
        "classifier": ClassifierDispatcher,
        "few-shot": FewShotDispatcher,
        "embedding+few-shot": RefinedDispatcher,
        "off": type(None),
    }
    for name in ("prompt", "classifier"):
        [decision] = made[name].dispatch([Request("Hi")])  # type: ignore[union-attr]
        assert (decision.strategy, set(decision.scores)) == (name, {"b"})
    latest.found = Adapted(Mixture({"a": 0.5}), ExpertCard("examples", examples=("Hi",)))
    [decision] = made["few-shot"].dispatch([Request("Hi")])  # type: ignore[union-attr]
    assert decision.mixture == Mixture({"a": 0.5})
    registry.unregister(CLASSIFIER)
    with pytest.raises(ExpertNotFoundError, match="Train one"):
        make_dispatcher("classifier", model)


def test_a_dispatcher_is_made_from_a_name_or_is_one() -> None:
    model = tiny_text_model()
    own = WordDispatcher("a")
    assert make_dispatcher(own, model) is own
    assert make_dispatcher("off", model) is None
    assert make_dispatcher(None, model) is None
    for wrong in ("nosuch", 5, object()):
        with pytest.raises(ConfigError, match=r"choose one of|needs a method"):
            make_dispatcher(wrong, model)  # type: ignore[arg-type]


def test_a_name_stands_for_one_object(registry: Registry) -> None:
    strategies = Strategies(tiny_text_model(), ["b"])
    assert strategies.dispatcher("embedding") is strategies.dispatcher("embedding")
    assert strategies.dispatcher("off") is None
    assert strategies.experts is not None
    assert list(strategies.experts) == ["b"]
    with pytest.raises(ConfigError, match="choose one of"):
        strategies.dispatcher("nosuch")


@dataclass
class Plain:
    """Neither hashable nor with a version, as a user's may be."""

    name: str = "a"

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        return []


@dataclass(slots=True)
class Unreferable:
    """It takes no weak references."""

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        return []


@pytest.mark.parametrize("kind", [WordDispatcher, Plain])
def test_no_key_is_given_to_a_second_object(kind: Any) -> None:
    """A new object often lies where one lay that is gone."""
    keys, places = set(), set()
    for _ in range(50):
        one = kind()
        keys.add(version_of(one))
        places.add(id(one))
        assert version_of(one) in keys
        del one
    assert len(keys) == 50 > len(places)


def test_what_takes_no_weak_reference_is_never_taken_for_another() -> None:
    one = Unreferable()
    assert version_of(one) != version_of(one)


def test_a_dispatcher_tells_its_version() -> None:
    class Told(Plain):
        version = "3"

    assert version_of(Told()) == version_of(Told())
    assert version_of(Told()).endswith("Told 3")
    assert version_of(None) == "off"
