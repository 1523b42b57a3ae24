from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from t2agent import EmbeddingDispatcher, Expert, ExpertCard, Mixture, Registry
from t2agent.chat.remote.endpoint import Endpoint
from t2agent.chat.remote.routing import Router, _base
from t2agent.dispatch import Decision, Request
from t2agent.engine.two_passes import Given
from t2agent.errors import ConfigError, EndpointError, ExpertNotFoundError
from tests.openai_server import OpenAIServer, serving
from tests.remote_models import CODE, MATH, STRANGE


class Bare:
    """What a server needs where nobody asks for an answer."""

    registry: tuple[str, ...] = ()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(Bare(), {"math": "math", "code": "code"}) as found:
        yield found


def router(
    server: OpenAIServer,
    *,
    experts: Any = ("math", "code"),
    served: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    model: str = "t2-nano",
) -> Router:
    return Router(Endpoint(url=server.url, retries=0), model, registry, experts, served)


class Fixed:
    """Decides always the same."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        return [Decision(self.mixture, "fixed") for _ in requests]


def test_requests_go_to_the_experts_that_are_meant(server: OpenAIServer) -> None:
    ours = router(server)
    for text, expert in ((MATH, "math"), (CODE, "code")):
        route = ours.route(Request(text), "embedding")
        assert (route.model, route.expert, route.exact) == (expert, expert, True)
        assert route.decision.strategy == "embedding"
        assert route.decision.mixture == Mixture({expert: 1.0})
    route = ours.route(Request(STRANGE), "embedding")
    assert (route.model, route.expert, route.decision.in_scope) == ("t2-nano", None, False)
    assert server.listed == 1


def test_the_decision_is_that_of_the_dispatcher(server: OpenAIServer) -> None:
    registry = Registry("t2-nano")
    server.experts = {name: name for name in registry}
    ours, there = router(server, experts=None), EmbeddingDispatcher(registry)
    requests = [Request(MATH), Request(CODE), Request("What number?", 1), Request("")]
    for request, wanted in zip(requests, there.dispatch(requests), strict=True):
        decision = ours.route(request, "embedding").decision
        assert (decision.mixture, decision.in_scope) == (wanted.mixture, wanted.in_scope)
        assert dict(decision.scores) == pytest.approx(dict(wanted.scores), abs=1e-6)


def test_an_expert_that_is_not_served_is_left_out_and_named_once(server: OpenAIServer) -> None:
    del server.experts["code"]
    ours = router(server)
    with pytest.warns(UserWarning, match="expert 'code' is not served") as told:
        route = ours.route(Request(CODE), "embedding")
    assert len(told) == 1
    assert route.expert != "code"
    assert set(route.decision.scores) == {"math"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.refresh()
        ours.route(Request(CODE), "embedding")


def test_what_is_served_since_is_found_when_it_is_asked_for(server: OpenAIServer) -> None:
    del server.experts["code"]
    ours = router(server, experts=["math"])
    assert ours.route(Request(MATH), "embedding").expert == "math"
    with pytest.raises(ExpertNotFoundError, match="which serves math, t2-nano: start vLLM"):
        ours.route(Request(""), Given("code"))
    server.experts["code"] = "code"
    assert ours.route(Request(""), Given("code")).model == "code"
    assert not ours.refresh()
    server.experts.clear()
    with pytest.warns(UserWarning, match="expert 'math' is not served"):
        assert ours.refresh()
    assert ours.route(Request(MATH), "embedding").expert is None


def test_names_at_the_endpoint(server: OpenAIServer) -> None:
    ours = router(server, served={"math": "math-lora", "t2-nano": "nano"})
    assert ours.route(Request(MATH), "embedding").model == "math-lora"
    assert ours.route(Request(CODE), "embedding").expert in (None, "math")
    assert ours.route(Request(MATH), "off").model == "nano"
    assert ours.route(Request(""), Given("math")).model == "math-lora"
    assert ours.named("math-lora").expert == "math"
    assert ours.named("other").expert is None
    with pytest.raises(ExpertNotFoundError, match="served="):
        ours.route(Request(""), Given("code"))
    assert server.listed == 0


def test_an_endpoint_without_a_list(server: OpenAIServer) -> None:
    server.lists = False
    ours = router(server)
    with pytest.warns(UserWarning, match="does not list its models"):
        assert ours.route(Request(MATH), "embedding").model == "math"
    assert ours.route(Request(""), Given("code")).model == "code"
    with pytest.raises(ExpertNotFoundError, match="Did you mean 'math'"):
        ours.route(Request(""), Given("maths"))


def test_an_endpoint_that_fails_is_an_error_and_asked_again(server: OpenAIServer) -> None:
    server.key = "right"
    ours = router(server)
    with pytest.raises(EndpointError, match="401"):
        ours.route(Request(MATH), "embedding")
    server.key = None
    assert ours.route(Request(MATH), "embedding").expert == "math"


def test_one_expert_with_weight_one_is_what_can_be_served(server: OpenAIServer) -> None:
    ours = router(server)
    for what in ("math", {"math": 1.0}, {"math": 1, "code": 0}, Mixture({"math": 1.0})):
        route = ours.route(Request(""), Given(what))
        assert (route.model, route.decision.strategy) == ("math", "given")
    for what in (None, {}, {"math": 0.0}):
        assert ours.route(Request(""), Given(what)).model == "t2-nano"
    for what in ({"math": 0.5}, {"math": 1, "code": 1}, Mixture({"math": 1}, {"m.0": {"code": 1}})):
        with pytest.raises(ConfigError, match="export the mixture as an expert"):
            ours.route(Request(""), Given(what))


@pytest.mark.parametrize(
    ("weights", "expert", "exact"),
    [
        ({"math": 1.0}, "math", True),
        ({"math": 0.4, "code": 0.6}, "code", False),
        ({"math": 0.4, "gone": 0.6}, "math", False),
        ({"gone": 1.0}, None, False),
        ({"math": 0.7}, "math", False),
        ({"math": -1.0}, None, False),
        ({"math": 0.0}, None, True),
        ({}, None, True),
    ],
)
def test_of_several_the_likeliest(
    server: OpenAIServer, weights: dict[str, float], expert: str | None, exact: bool
) -> None:
    route = router(server).route(Request("x"), Fixed(Mixture(weights)))
    assert (route.expert, route.exact) == (expert, exact)
    assert route.model == expert or (expert is None and route.model == "t2-nano")
    assert route.decision.mixture == Mixture(weights)
    assert route.to_dict() == {"model": route.model, "expert": expert, "exact": exact}


def test_more_experts_than_one_of_a_dispatcher_of_ones_own(server: OpenAIServer) -> None:
    dispatcher = EmbeddingDispatcher(Registry("t2-nano"), top_k=2)
    route = router(server).route(Request(MATH), dispatcher)
    assert (route.expert, route.exact) == ("math", False)
    assert len(route.decision.mixture.weights) == 2


def test_dispatchers_that_are_none(server: OpenAIServer) -> None:
    class Silent:
        def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
            return []

    for choice in ("prompt", "classifier", "nonsense", 3, {}):
        with pytest.raises(ConfigError, match="embedding, off, or a Dispatcher"):
            router(server).route(Request("x"), choice)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 decisions for one"):
        router(server).route(Request("x"), Silent())


def test_experts_of_a_base_model_that_is_not_here(server: OpenAIServer) -> None:
    import torch

    registry = Registry("org/base")
    for name, text in (("poems", "Write a poem about"), ("taxes", "How are taxed")):
        examples = tuple(f"{text} {what}" for what in ("cats", "rivers", "houses", "ships"))
        card = ExpertCard(name, examples=examples, base="org/base")
        registry.register(Expert(card, {"m": torch.ones(3)}), eligible=True)
    server.base, server.experts = "org/base", {"poems": "poems", "taxes": "taxes"}
    ours = router(server, experts=None, registry=registry, model="org/base")
    assert ours.route(Request("Write a poem about a mouse"), "embedding").model == "poems"
    late = Expert(ExpertCard("late", examples=("x",), base="org/base"), {"m": torch.ones(3)})
    registry.register(late, eligible=True)
    assert ours.route(Request("Write a poem about a mouse"), "embedding").model == "poems"
    with pytest.warns(UserWarning, match="'late'"), pytest.raises(ExpertNotFoundError):
        ours.route(Request(""), Given("late"))


def listed(*models: tuple[str, str | None, str | None]) -> list[dict[str, Any]]:
    return [{"id": name, "root": root, "parent": parent} for name, root, parent in models]


@pytest.mark.parametrize(
    ("models", "base"),
    [
        (listed(("org/m", None, None), ("math", None, "org/m")), "org/m"),
        (listed(("served", "org/m", None), ("other", "x", None)), "served"),
        (listed(("served", "/a/path", None), ("more", "/b", "served")), "served"),
        (listed(("served", None, None), ("math", None, None)), "served"),
        (listed(("a", None, None), ("b", None, None)), "org/m"),
        ([], "org/m"),
    ],
)
def test_what_an_endpoint_calls_the_base_model(models: list[dict[str, Any]], base: str) -> None:
    assert _base("org/m", models, ["math"]) == base


def test_versions_for_caches(server: OpenAIServer) -> None:
    ours = router(server)
    first = ours.version("embedding")
    assert first == ours.version("embedding") != ours.version("off")
    server.experts["more"] = "more"
    ours.refresh()
    assert ours.version("embedding") != first
