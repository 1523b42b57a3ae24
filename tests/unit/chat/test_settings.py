from __future__ import annotations

from typing import Any

import pytest
import torch

from t2agent.chat.settings import Settings, digests
from t2agent.engine.two_passes import Given
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, ExpertCard
from tests.experts import WordDispatcher
from tests.models import build_text_model, tiny_text_model


def settings(**fields: Any) -> Settings:
    return Settings(tiny_text_model(), dispatch="off", **fields)


def test_a_call_overrides_the_object() -> None:
    own = settings(temperature=0.5, max_tokens=7, stop=["x"])
    options, choice = own._options(None, {})
    assert (options.temperature, options.max_tokens, options.stop) == (0.5, 7, ("x",))
    assert choice is None
    options, _ = own._options(["y"], {"max_tokens": 3, "seed": 1})
    assert (options.temperature, options.max_tokens, options.stop) == (0.5, 3, ("y",))
    assert options.seed == 1
    assert own._options([], {})[0].stop == ()


def test_an_expert_and_no_dispatch_are_choices() -> None:
    own = settings()
    assert own._options(None, {"expert": "math"})[1] == Given("math")
    assert own._options(None, {"mixture": None})[1] == Given(None)
    assert own._options(None, {"dispatch": None})[1] == "off"


@pytest.mark.parametrize(
    "given",
    [{"bogus": 1}, {"expert": "a", "mixture": "b"}, {"temperature": "hot"}, {"stop": 5}],
)
def test_unusable_options_of_a_call_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        settings()._options(given.pop("stop", None), given)


@pytest.mark.parametrize(
    "fields",
    [
        {"bogus": 1},
        {"temperature": -1},
        {"max_tokens": "many"},
        {"stop": 5},
        {"stop": [""]},
        {"experts": "math"},
        {"experts": 5},
        {"seed": -1},
        {"allow_models": "t2-nano"},
        {"allow_models": 1},
    ],
)
def test_unusable_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        settings(**fields)


def test_a_refused_field_is_told_by_name_with_what_was_got() -> None:
    with pytest.raises(ConfigError, match=r"^max_tokens is 'many'; it must be a valid integer"):
        settings(max_tokens="many")
    with pytest.raises(ConfigError, match=r"^unknown option\(s\) bogus; known: .*temperature"):
        settings(bogus=1)


def test_a_caches_key_tells_experts_of_one_name_apart() -> None:
    one, other = (Expert(ExpertCard("e"), {"a": torch.full((2,), v)}) for v in (1.0, 2.0))
    assert digests({"expert": one}) != digests({"expert": other})
    assert digests({"expert": "math", "seed": 1}) == {"expert": "math", "seed": 1}


def test_a_caches_key_tells_dispatchers_and_base_models_by_no_place_in_memory() -> None:
    model, dispatcher = tiny_text_model(), WordDispatcher()
    given = {"dispatch": dispatcher, "model": model}
    assert digests(given) == digests(given)
    assert digests(given)["model"] == (model.name, model.fingerprint)
    assert digests(given)["dispatch"] != digests({"dispatch": WordDispatcher()})["dispatch"]
    assert "0x" not in repr(digests(given))
    assert digests({"dispatch": "off", "model": "t2-nano"}) == {
        "dispatch": "off",
        "model": "t2-nano",
    }
    assert digests({"dispatch": None}) == {"dispatch": None}


def test_three_other_base_models_are_kept() -> None:
    own = settings(temperature=0.5)
    models = [build_text_model() for _ in range(4)]
    first, *rest = (own.other(model) for model in models)
    assert first.t2 is models[0]
    assert first.temperature == 0.5
    assert own.other(own.t2) is own
    assert own.other(own.t2.name) is own
    assert all(own.other(model) is one for model, one in zip(models[1:], rest, strict=True))
    again = own.other(models[0])  # the first had been forgotten, and now the second is
    assert again is not first
    assert own.other(models[3]) is rest[2]
    assert own.other(models[1]) is not rest[0]


@pytest.mark.parametrize("allowed", [False, [], ["this", "that"]])
def test_other_base_models_can_be_refused(allowed: Any) -> None:
    own = settings(allow_models=allowed)
    for model in ("/no/such/model", build_text_model()):
        with pytest.raises(ConfigError, match=r"a call names the model.*'tiny-text'.*allow_models"):
            own.other(model)
    assert own.other(own.t2.name) is own


def test_base_models_that_are_named_are_allowed() -> None:
    other = build_text_model()
    other.name = "this"
    own = settings(allow_models=["this", "/no/such/model"])
    assert own.other(other).t2 is other
    with pytest.raises(ConfigError, match="no such folder"):
        own.other("/no/such/model")
    with pytest.raises(ConfigError, match=r"names the model 'that'.*'this'"):
        own.other("that")
