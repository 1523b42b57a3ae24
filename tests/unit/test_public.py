from __future__ import annotations

import inspect
import re

import pytest

import t2agent
from t2agent import errors

NAMES = {
    "T2Model",
    "Expert",
    "ExpertCard",
    "Mixture",
    "Registry",
    "register_expert",
    "DecisionDispatcher",
    "EmbeddingDispatcher",
    "Decision",
    "ChatT2",
    "ChatT2Remote",
    "T2DecisionModel",
    "T2LLM",
    "T2Middleware",
    "create_t2_agent",
    "T2Error",
}


def error_classes() -> dict[str, type]:
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in classes if kind.__module__ == errors.__name__}


def test_all_is_what_is_promised() -> None:
    assert set(t2agent.__all__) == NAMES | set(error_classes()) | {"__version__"}
    assert len(t2agent.__all__) == len(set(t2agent.__all__))


@pytest.mark.parametrize("name", t2agent.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(t2agent, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+", value)
        return
    assert value.__name__ == name
    assert value.__doc__
    assert value.__module__.startswith("t2agent.")


def test_importing_all_gives_all() -> None:
    got: dict[str, object] = {}
    exec("from t2agent import *", got)
    assert set(t2agent.__all__) <= set(got)


def test_names_that_load_later_are_listed() -> None:
    assert set(t2agent.__all__) <= set(dir(t2agent))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ChatT3'"):
        _ = t2agent.ChatT3  # type: ignore[attr-defined]


def test_every_error_is_a_t2error_and_drawn_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    for name, kind in error_classes().items():
        assert issubclass(kind, t2agent.T2Error | Warning)
        assert re.search(rf"\b{name}\b", tree)


def test_an_error_shows_its_message_as_it_is() -> None:
    for kind in error_classes().values():
        assert str(kind("got 'x', needed 'y'")) == "got 'x', needed 'y'"
