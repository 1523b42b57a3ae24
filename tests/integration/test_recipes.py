"""The recipes of the shipped experts make examples that the trainer reads; no model is needed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from t2agent.bench.paper.suite import real_suite
from t2agent.experts.expert import Expert
from t2agent.tasks.examples import ExampleTask
from tests.experts import random_expert
from tests.models import build_text_model

RECIPES = Path(__file__).resolve().parents[2] / "experts" / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.py") if "\nRECIPE = " in path.read_text())


@pytest.fixture
def recipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a recipe, as its script finds what it imports."""
    monkeypatch.syspath_prepend(str(RECIPES))
    name = str(request.param)
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files() -> dict[str, Any]:
    """What was read of the data so far: several recipes take the same files."""
    return {}


@pytest.mark.parametrize("recipe", NAMES, indirect=True)
def test_the_trainer_reads_what_a_recipe_makes(
    recipe: ModuleType,
    files: dict[str, Any],
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not (shared_data / "real").is_dir():
        pytest.skip("the real data are not beside the repository")
    monkeypatch.setattr(
        recipe, "base_replies", lambda asked: ["I am well, thank you."] * len(asked), raising=False
    )
    data = recipe.Data(shared_data / "real")
    data.update(files)
    made = list(recipe.RECIPE.rows(data, random.Random(0)))
    files.update(data)

    assert len(made) >= 500
    assert not any(name.endswith(("_dev", "_test")) for name in data)  # nothing to be judged by
    few = made[:: len(made) // 60]
    file = tmp_path / "examples.jsonl"
    plain = ({key: value for key, value in row.items() if key != "about"} for row in few)
    file.write_text("".join(json.dumps(row) + "\n" for row in plain))
    task = ExampleTask.from_jsonl(file, reward=recipe.RECIPE.reward)
    examples = task.sample(20, seed=0)
    assert all(example.answer or example.calls for example in examples)
    right = [example for example in examples if example.answer and not example.calls]
    assert all(task.reward(example.answer, example) == 1.0 for example in right)

    shown = [row for row in few if recipe.RECIPE.shown(row)]
    assert shown
    assert all(importlib.import_module("recipe").request_of(row).strip() for row in shown)
    assert recipe.RECIPE.sources


@pytest.mark.parametrize(
    ("script", "trained", "with_unseen"),
    [
        ("comparison", ("label", "tools"), ("label", "tools")),
        ("paper_tasks", ("gsm8k", "mbpp", "arc_easy"), ("gsm8k", "arc_easy")),
    ],
)
def test_unseen_tasks_stand_beside_those_that_are_trained(
    script: str,
    trained: tuple[str, ...],
    with_unseen: tuple[str, ...],
    shared_data: Path,
    tmp_path: Path,
) -> None:
    if not (shared_data / "real").is_dir():
        pytest.skip("the real data are not beside the repository")
    subprocess.run(
        [
            sys.executable,
            RECIPES / f"{script}.py",
            "--data",
            shared_data / "real",
            "--out",
            tmp_path,
        ],
        check=True,
        cwd=tmp_path,
    )
    suite = real_suite(build_text_model(), [str(tmp_path / f"{name}.jsonl") for name in trained])

    assert suite.domains == trained
    assert suite.siblings == {name: f"{name}_unseen" for name in with_unseen}
    for own, unseen in suite.siblings.items():
        seen = {example.prompt for example in suite.tasks[own].split("train")}
        asked = {example.prompt for example in suite.tasks[unseen].split("test")}
        assert len(asked) > 100
        assert not seen & asked


def test_everyday_requests_say_what_their_calls_want(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    rows = importlib.import_module("everyday").everyday(random.Random(0), 600, "none fits")
    called = [row for row in rows if "calls" in row]
    assert 300 < len(called) < 500
    assert {row["answer"] for row in rows if "calls" not in row} == {"none fits"}
    assert any(len(row["calls"]) == 2 for row in called)
    for row in called:
        offered = {tool["function"]["name"]: tool["function"] for tool in row["tools"]}
        for call in row["calls"]:
            schema = offered[call["name"]]["parameters"]
            assert set(schema["required"]) <= set(call["arguments"]) <= set(schema["properties"])
            for value in call["arguments"].values():
                assert str(value).lower() in row["prompt"].lower()


def test_part_of_the_way_has_its_own_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    model = build_text_model()
    start, end = (random_expert(model, "any", seed) for seed in (1, 2))
    end = Expert(replace(end.card, training={"validation": 4}, scores={"val": 1.0}), end.z)
    file = tmp_path / "examples.jsonl"
    rows = ({"prompt": f"Say {n}.", "answer": str(n)} for n in range(40))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ExampleTask.from_jsonl(file)
    half = importlib.import_module("recipe").part_of_the_way(model, task, start, end, 0.5)
    for name, own in half.z.items():
        assert torch.allclose(own, (start.z[name] + end.z[name]) / 2)
    assert half.card.training["share"] == 0.5
    assert set(half.card.scores) == {"val", "val_base", "val_right", "val_base_right"}
    assert half.card.scores["val"] < 1.0
