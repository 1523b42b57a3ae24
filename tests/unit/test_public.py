from __future__ import annotations

import inspect
import re
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location

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
    newer = set() if find_spec("langchain_core.decisions") else {"T2DecisionModel"}
    assert set(t2agent.__all__) == (NAMES - newer) | set(error_classes()) | {"__version__"}
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


def test_where_langchain_core_is_older_all_does_without_decision_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = PathFinder.find_spec

    def older(name: str, *rest: object) -> object:
        return None if name == "langchain_core.decisions" else there(name, *rest)

    monkeypatch.setattr(PathFinder, "find_spec", older)
    spec = spec_from_file_location("t2agent_older", t2agent.__file__)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.__all__) == set(t2agent.__all__) - {"T2DecisionModel"}
    with pytest.raises(ModuleNotFoundError):  # asked for, it is still looked for where it lives
        _ = module.T2DecisionModel


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
