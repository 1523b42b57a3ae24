"""Entry points, with packages as a user would install them: a module and its dist-info."""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from t2agent.errors import ExpertFormatError, ExpertNotFoundError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.registry import Registry

BASE = "org/base"


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, dict[str, str]], Path]]:
    """Put a package with entry points on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules = set(sys.modules)

    def install(source: str, points: dict[str, str]) -> Path:
        (site / "their_experts.py").write_text(textwrap.dedent(source))
        info = site / "their_experts-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-experts\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[t2agent.experts]", *lines, ""]))
        return site

    yield install
    for name in set(sys.modules) - modules:
        if name == "their_experts":
            del sys.modules[name]


SOURCE = """
    from pathlib import Path
    import torch
    from t2agent import Expert, ExpertCard

    def make(name, **card):
        return Expert(ExpertCard(name, **card), {"m": torch.ones(3)})

    FOLDER = Path(__file__).parent / "kept"
    TEXT = str(FOLDER)
    EXPERT = make("instance")
    ELSEWHERE = make("elsewhere", base="org/other")
    WRONG_SHAPE = Expert(ExpertCard("shape", base="org/base"), {"m": torch.ones(4)})
    NAN = Expert(ExpertCard("nan"), {"m": torch.full((3,), float("nan"))})
    NUMBER = 3

    def called():
        return make("called")

    def called_for_path():
        return FOLDER

    def broken():
        raise RuntimeError("their mistake")
"""


def test_a_path_an_expert_or_a_function_gives_an_expert(
    install: Callable[[str, dict[str, str]], Path],
) -> None:
    site = install(
        SOURCE,
        {
            "a": "their_experts:EXPERT",
            "b": "their_experts:called",
            "c": "their_experts:FOLDER",
            "d": "their_experts:ELSEWHERE",
        },
    )
    Expert(ExpertCard("kept"), {"m": torch.zeros(3)}).save(site / "kept")
    registry = Registry(BASE, shapes={"m": 3})
    assert registry.names() == ["called", "instance", "kept"]
    assert registry.get("instance").z["m"].tolist() == [1.0] * 3
    assert registry.get("called") is registry.get("called")
    assert registry.get("kept").z["m"].tolist() == [0.0] * 3
    assert registry.source("instance") == "entry point"
    assert registry.source("kept") == str(site / "kept")
    # An expert for another base model is that model's, and no problem of this one.
    assert registry.problems == {}
    assert "elsewhere" in Registry("org/other", shapes={"m": 3})


@pytest.mark.parametrize("value", ["TEXT", "called_for_path"])
def test_a_path_may_be_text_or_come_from_a_function(
    install: Callable[[str, dict[str, str]], Path], value: str
) -> None:
    site = install(SOURCE, {"x": f"their_experts:{value}"})
    Expert(ExpertCard("kept"), {"m": torch.zeros(3)}).save(site / "kept")
    assert Registry(BASE).names() == ["kept"]


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("their_experts:broken", "RuntimeError: their mistake"),
        ("their_experts:missing", "AttributeError"),
        ("no_such_module_here:x", "ModuleNotFoundError"),
        ("their_experts:NUMBER", "gives a int"),
        ("their_experts:NAN", "NaN or infinity"),
        ("their_experts:FOLDER", "no such folder"),
        ("their_experts:WRONG_SHAPE", "needs 3"),
    ],
)
def test_a_broken_entry_point_costs_only_itself(
    install: Callable[[str, dict[str, str]], Path], value: str, cause: str
) -> None:
    install(SOURCE, {"bad": value, "good": "their_experts:EXPERT"})
    registry = Registry(BASE, shapes={"m": 3})
    with pytest.warns(UserWarning, match="an expert was left out"):
        assert registry.names() == ["instance"]
    ((where, problem),) = registry.problems.items()
    assert where == f"entry point bad = {value}"
    assert cause in str(problem)


def test_an_entry_points_expert_cannot_be_deleted_but_hidden(
    install: Callable[[str, dict[str, str]], Path],
) -> None:
    install(SOURCE, {"good": "their_experts:EXPERT"})
    registry = Registry(BASE)
    with pytest.raises(ValueError, match="cannot be deleted"):
        registry.unregister("instance", persist=True)
    registry.unregister("instance")
    assert "instance" not in registry
    with pytest.raises(ExpertNotFoundError):
        registry.get("instance")
    assert "instance" in Registry(BASE)


def test_a_problem_is_warned_of_once(t2agent_home: Path) -> None:
    (t2agent_home / "experts" / "org--base" / "math").mkdir(parents=True)
    with pytest.warns(UserWarning, match="an expert was left out") as caught:
        assert len(Registry(BASE)) == 0
    assert sum("an expert was left out" in str(one.message) for one in caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = Registry(BASE)
        assert len(registry) == 0
        assert len(registry) == 0
    with pytest.raises(ExpertFormatError, match="it has no"):
        registry.get("math")
