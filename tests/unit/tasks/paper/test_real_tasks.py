"""The paper's tasks on a handful of real rows (rows/LICENSES.md), with no network."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2agent.errors import ConfigError
from t2agent.tasks.paper import REAL_TASKS, load_task
from t2agent.tasks.paper.base import RealTask
from t2agent.tasks.paper.rows import ENVIRONMENT
from t2agent.tasks.reward import score as checked
from t2agent.train import Task

ROWS = Path(__file__).parent / "rows"
WITH_IMAGES = ("textvqa", "okvqa")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The rows, with a picture where the data sets have a photograph."""
    copy = Path(shutil.copytree(ROWS, tmp_path / "rows"))
    for name in WITH_IMAGES:
        Image.new("L", (8, 6), 200).save(copy / name / "blank.png")
    return copy


@pytest.fixture
def real(folder: Path) -> Callable[[str], RealTask]:
    return lambda name: load_task(name, folder / name)


@pytest.mark.parametrize("name", REAL_TASKS)
def test_is_a_task_over_real_rows(name: str, real: Callable[[str], RealTask]) -> None:
    task = real(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert 0 < task.max_tokens <= 1024
    examples = task.all("test")
    assert len(examples) == task.size("test") > 0
    slow = name in ("mbpp", "humaneval")  # each reply is a process
    for example in examples[: 1 if slow else None]:
        assert example.prompt == example.prompt.strip()
        assert (example.image is not None) == (name in WITH_IMAGES)
        # The answer, which next-token training imitates, is right; nonsense is not.
        assert checked(task, example.answer, example) == 1.0
        for nonsense in ("", "I do not know.", "\ud800", "```", "\\boxed{", "9" * 5000):
            assert checked(task, nonsense, example) == -1.0
    first = examples[0]
    assert task.scores([first.answer, ""], [first, first]) == [1.0, 0.0]
    assert task.rewards([first.answer, ""], [first, first]) == [1.0, -1.0]
    assert task.sample(20, seed=1, split="test") == task.sample(20, seed=1, split="test")
    drawn = task.sample(len(examples), seed=2, split="test")
    assert {e.prompt for e in drawn} == {e.prompt for e in examples}


def test_gsm8k(real: Callable[[str], RealTask]) -> None:
    task = real("gsm8k")
    ducks, _, house, _ = task.all("test")
    assert ducks.prompt.startswith("Below is an instruction that describes a task.")
    assert ducks.prompt.endswith("at the farmers' market?")
    assert "<<" not in ducks.answer
    assert ducks.answer.endswith("\n#### 18")
    for reply in (
        "She makes $18.",
        "16 - 7 = 9, so 9 * 2 = 18",
        "**18.00** dollars",
        "\\boxed{18}",
    ):
        assert task.reward(reply, ducks) == 1.0, reply
    for reply in ("18 eggs at 2", "-18", "18.5", "118", "eighteen"):
        assert task.reward(reply, ducks) == -1.0, reply
    assert task.score("The profit is $70,000.", house) == 1.0
    assert task.score("It is 70000.", house) == 1.0
    assert task.score("It is 7,0000", house) == 0.0


def test_math(real: Callable[[str], RealTask]) -> None:
    task = real("math")
    ceiling, fraction, domain, total = task.all("test")
    assert ceiling.prompt.startswith("Solve the question below by reasoning step by step, and put")
    for reply in ("\\boxed{-1}", "so $\\boxed{ -1 }$.", "The answer is -1.", "\\boxed{x = -1}"):
        assert task.reward(reply, ceiling) == 1.0, reply
    for reply in ("-1", "\\boxed{1}", "\\boxed{-1} or \\boxed{2}", "\\boxed{-1"):
        assert task.reward(reply, ceiling) == -1.0, reply
    for form in ("\\dfrac{2}{3}", "2/3", "\\frac23", "\\tfrac{2} {3}", "0.66667", "\\frac{4}{6}"):
        assert task.score(f"It is $\\boxed{{{form}}}$.", fraction) == 1.0, form
    for form in ("\\frac{3}{2}", "0.6", "\\frac{2}{0}", "66.667"):
        assert task.score(f"It is $\\boxed{{{form}}}$.", fraction) == 0.0, form
    union = "(-\\infty, -2) \\cup (-2, 3) \\cup (3, \\infty)"
    assert task.score(f"\\boxed{{{union}}}", domain) == 1.0
    assert task.score(f"\\boxed{{{union.replace('3)', '3]')}}}", domain) == 0.0
    assert task.score("\\boxed{60,000}", total) == task.score("\\boxed{60{,}000}", total) == 1.0


def test_arc(real: Callable[[str], RealTask]) -> None:
    task = real("arc_challenge")
    (planet,) = task.all("test")
    assert "Options:\nA. Planetary density will decrease.\nB. " in planet.prompt
    for reply in (
        "the answer is (C)",
        "Spinning faster makes days shorter. The answer is C.",
        "Is it A? No. **Answer: C**",
        "C",
        "C. Planetary days will become shorter.",
        "The answer is (A)... wait, the answer is (C).",
    ):
        assert task.reward(reply, planet) == 1.0, reply
    for reply in (
        "the answer is (B)",
        "C or D",
        "Planetary days will become shorter.",
        "answer: E",
    ):
        assert task.reward(reply, planet) == -1.0, reply
    assert task.size("train") == 1
    (hands,) = task.sample(1, seed=0)
    assert hands.answer == "The answer is (A)."
    with pytest.raises(ConfigError, match=r"no validation\.jsonl"):
        task.sample(1, seed=0, split="val")


def test_arc_with_numbered_options(tmp_path: Path, folder: Path) -> None:
    row = json.loads((folder / "arc_easy" / "test.jsonl").read_text())
    row["choices"]["label"] = ["1", "2", "3", "4"]
    row["answerKey"] = "3"
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    task = load_task("arc_easy", tmp_path)
    (example,) = task.all("test")
    assert "\nC. refrigerator\n" in example.prompt
    assert task.score("the answer is (C)", example) == 1.0
    row["answerKey"] = "E"
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    with pytest.raises(ConfigError, match="is none of"):
        load_task("arc_easy", tmp_path).all("test")


def test_visual_questions(real: Callable[[str], RealTask]) -> None:
    task = real("textvqa")
    camera, spelled, _ = task.all("test")
    assert camera.prompt.endswith("camera?\nAnswer the question using a single word or phrase.")
    assert camera.image is not None
    assert (camera.image.mode, camera.image.size) == ("RGB", (8, 6))
    assert camera.answer == "dakota"
    assert task.score("Dakota.", camera) == task.score("the dakota digital", camera) == 1.0
    assert task.score("nous les gosses", camera) == pytest.approx(1 / 3)
    assert task.reward("nous les gosses", camera) == pytest.approx(-1 / 3)
    assert task.score("canon", camera) == 0.0
    assert task.score("Thursday", spelled) == pytest.approx(1 / 3)
    assert real("okvqa").score("Motocross", real("okvqa").all("test")[0]) == pytest.approx(2 / 3)
    with pytest.raises(ConfigError, match="example of another task"):
        task.score("18", real("gsm8k").all("test")[0])


@pytest.mark.parametrize("name", ["humaneval", "okvqa"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_what_has_only_a_test_split_says_so(
    name: str, split: str, real: Callable[[str], RealTask]
) -> None:
    with pytest.raises(ConfigError, match="has only a split to test with"):
        real(name).sample(1, seed=0, split=split)


def test_train_and_val_are_parts_of_the_training_split(tmp_path: Path, folder: Path) -> None:
    row = json.loads((folder / "gsm8k" / "test.jsonl").read_text().splitlines()[0])
    rows = [{**row, "question": f"What is {n // 2}?"} for n in range(400)]  # each one twice
    lines = "\n".join(json.dumps(r) for r in rows)
    (tmp_path / "train.jsonl").write_text(lines)
    task = load_task("gsm8k", tmp_path)
    train, val = ({e.prompt for e in task.all(split)} for split in ("train", "val"))
    assert not train & val
    assert len(train) + len(val) == 200
    assert 8 < len(val) < 40
    assert task.size("train") == 2 * len(train)
    assert {e.prompt for e in task.sample(50, seed=0)} <= train
    assert task.sample(50, seed=0) != task.sample(50, seed=1)
    with pytest.raises(ConfigError, match="needed one of train, val, test"):
        task.sample(1, seed=0, split="dev")
    (tmp_path / "train.jsonl").write_text(json.dumps(rows[0]))
    alone = load_task("gsm8k", tmp_path)
    with pytest.raises(ConfigError, match="is empty: it is a part of 1 row"):
        _ = alone.size("train") + alone.size("val")


@pytest.mark.parametrize("name", REAL_TASKS)
@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_through_the_datasets_library(
    name: str, form: str, folder: Path, tmp_path: Path, real: Callable[[str], RealTask]
) -> None:
    datasets = pytest.importorskip("datasets")
    task = real(name)
    split = task.splits["test"]
    rows = [json.loads(line) for line in (folder / name / f"{split}.jsonl").open()]
    if name in WITH_IMAGES:
        for row in rows:
            row["image"] = str(folder / name / "blank.png")
    table = datasets.Dataset.from_list(rows)
    if name in WITH_IMAGES:
        table = table.cast_column("image", datasets.Image())
    if form == "parquet":
        table.to_parquet(str(tmp_path / f"{split}.parquet"))
    else:
        datasets.DatasetDict({split: table}).save_to_disk(str(tmp_path / "saved"))
    loaded = load_task(name, tmp_path if form == "parquet" else tmp_path / "saved").all("test")
    assert [(e.prompt, e.answer) for e in loaded] == [
        (e.prompt, e.answer) for e in task.all("test")
    ]
    assert all((e.image is not None) == (name in WITH_IMAGES) for e in loaded)


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_images_of_the_datasets_library_are_read_as_all_others(form: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("I;16", (4, 3), 30_000).save(tmp_path / "scan.png")
    rows = [
        {"question": name, "answers": ["a"], "image": str(tmp_path / f"{name}.png")}
        for name in ("clear", "scan")
    ]
    features = datasets.Features(
        question=datasets.Value("string"),
        answers=datasets.List(datasets.Value("string")),
        image=datasets.Image(),
    )
    table = datasets.Dataset.from_list(rows, features=features)
    data = tmp_path if form == "parquet" else tmp_path / "saved"
    if form == "parquet":
        table.to_parquet(str(data / "validation.parquet"))
    else:
        datasets.DatasetDict({"validation": table}).save_to_disk(str(data))
    images = [e.image for e in load_task("textvqa", data).all("test")]
    seen = [None if image is None else image.getpixel((0, 0)) for image in images]
    assert seen == [(255, 255, 255), (117, 117, 117)]


def test_images_by_path_lie_in_the_folder(folder: Path, tmp_path: Path) -> None:
    task = load_task("textvqa", folder / "textvqa")
    Image.new("L", (8, 6)).save(tmp_path / "secret.png")
    row = {"question": "What?", "answers": ["a"], "image": {"bytes": None, "path": "blank.png"}}
    seen = task.example(row).image
    assert seen is not None
    assert seen.getpixel((0, 0)) == (200, 200, 200)
    for image, says in (
        ({"bytes": None, "path": str(tmp_path / "secret.png")}, "own folder"),
        (
            {"bytes": b"%!PS-Adobe-3.0 EPSF-3.0", "path": None},
            "the image of 'What.'.* not an image",
        ),
        ({"bytes": None, "path": None}, "needed the path"),
        (7, "needed the path"),
    ):
        with pytest.raises(ConfigError, match=says):
            task.example({**row, "image": image})


def test_from_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[Any, ...]] = []

    def load_dataset(repository: str, config: str | None, *, split: str) -> Any:
        asked.append((repository, config, split))
        rows = [json.loads(line) for line in (folder / "math" / "test.jsonl").open()]
        return datasets.Dataset.from_list([{**row, "type": config} for row in rows])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = load_task("math")
    assert asked == []  # nothing is loaded before it is asked for
    assert task.size("test") == 28
    task.sample(3, seed=0, split="test")
    assert len(asked) == 7
    assert asked[0] == ("EleutherAI/hendrycks_math", "algebra", "test")
    with pytest.raises(ConfigError, match=r"not \['answer', 'question'\]"):
        load_task("gsm8k").size("test")


def test_offline_and_not_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(ConfigError) as caught:
        load_task("gsm8k").sample(1, seed=0)
    said = str(caught.value)
    assert "cannot load the split 'train' of openai/gsm8k main for task 'gsm8k'" in said
    assert "datasets.load_dataset('openai/gsm8k', 'main')" in said
    assert "HF_HOME" in said
    assert ENVIRONMENT in said


def test_without_the_datasets_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 't2agent\[data\]'"):
        load_task("gsm8k").sample(1, seed=0)


def test_folders(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(folder))
    assert load_task("gsm8k").size("test") == 4
    with pytest.raises(ConfigError, match="needed one of gsm8k, math"):
        load_task("sums")
    with pytest.raises(ConfigError, match="which is no folder"):
        load_task("gsm8k", tmp_path / "nowhere")
    for line, message in (
        ("{", "line 1: not a JSON object"),
        ("[]", "line 1: needed an object with question, answer"),
        ('{"question": "a"}', "line 1: needed an object with question, answer"),
        ("", "is empty; needed rows"),
    ):
        (tmp_path / "test.jsonl").write_text(line)
        with pytest.raises(ConfigError, match=message):
            load_task("gsm8k", tmp_path).size("test")
