"""A package around an expert: its files, and that it installs and answers."""

from __future__ import annotations

import ast
import json
import keyword
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import t2agent
from t2agent.cli.experts.scaffold import Package, distribution_name, write_package
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.train import Example, ExampleTask
from tests.imported import imported
from tests.models import build_text_model, tiny_text_model, tiny_vision_model

ROOT = Path(__file__).resolve().parents[4]
PAIRS = [Example(f"Say {word}.", word) for word in "abcdefghijklmnop"]
HOSTILE = 'He said "$name" \\ ${x} {y}\nand é\x7f\x00 # """'


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("sums", "t2agent-sums"),
        ("My.Sums_v2", "t2agent-my-sums-v2"),
        ("json", "t2agent-json"),
        ("class", "t2agent-class"),
        ("3d", "t2agent-3d"),
        ("a-", "t2agent-a"),
        ("a.-_b", "t2agent-a-b"),
        ("t2agent-x", "t2agent-x"),
        ("t2agent", "t2agent-t2agent"),
        ("x" * 64, "t2agent-" + "x" * 64),
    ],
)
def test_any_name_of_an_expert_makes_a_package(
    name: str, distribution: str, tmp_path: Path
) -> None:
    assert distribution_name(name) == distribution
    package = write_package(tmp_path / "p", name, tiny_text_model(), examples=PAIRS)
    assert package.module.isidentifier()
    assert not keyword.iskeyword(package.module)
    assert package.module not in sys.stdlib_module_names
    project = tomllib.loads((package.folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == distribution
    assert project["entry-points"]["t2agent.experts"] == {name: f"{package.module}:EXPERT"}


def test_what_a_package_holds(tmp_path: Path) -> None:
    model = tiny_text_model()
    package = write_package(
        tmp_path / "p", "letters", model, examples=PAIRS, reward="contains",
        description=HOSTILE, license='M"I\\T',
    )  # fmt: skip
    inside = package.folder / "src" / "t2agent_letters"
    files = {str(f.relative_to(package.folder)) for f in package.folder.rglob("*") if f.is_file()}
    assert files == {
        "pyproject.toml", "README.md", ".gitignore", "tests/test_expert.py",
        *(f"src/t2agent_letters/{name}" for name in (
            "__init__.py", "task.py", "train.py", "data/examples.jsonl",
            "expert/expert.safetensors", "expert/expert_config.json", "expert/README.md",
        )),
    }  # fmt: skip
    words = " ".join(HOSTILE.split())
    project = tomllib.loads((package.folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["description"] == words
    assert project["license"] == {"text": 'M"I\\T'}
    assert project["dependencies"] == [f"t2agent>={t2agent.__version__}"]
    tree = ast.parse((inside / "train.py").read_text("utf-8"))
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    assert constants == {
        "BASE": model.name, "DESCRIPTION": words, "LICENSE": 'M"I\\T',
    }  # fmt: skip
    task = ExampleTask.from_jsonl(inside / "data" / "examples.jsonl")
    assert [task.split(s) for s in ("train", "val", "test")] == [
        ExampleTask("x", PAIRS).split(s) for s in ("train", "val", "test")
    ]
    expert = Expert.load(inside / "expert")
    assert all(bool((z == 1).all()) for z in expert.z.values())
    assert expert.z.keys() == model.shapes.keys()
    assert "Not trained yet" in expert.card.description
    # It is not dispatched to as if it had learnt the examples.
    assert (expert.card.examples, expert.card.scores) == ((), {})
    assert (expert.card.base, expert.card.base_fingerprint) == (model.name, model.fingerprint)


@pytest.mark.parametrize("name", ["a", "letters", "a-very-long-name-of-an-expert-for-letters"])
def test_what_is_written_is_clean(tmp_path: Path, name: str) -> None:
    package = write_package(tmp_path / "p", name, tiny_text_model(), examples=PAIRS)
    for command in (["check", "--select", "E,F,W,I,B,UP,N,SIM,PT"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command[:1], "--isolated", *command[1:], "."],
            cwd=package.folder, check=True, capture_output=True,
        )  # fmt: skip
    for file in package.folder.rglob("*"):
        if file.suffix in (".py", ".toml", ".md"):
            assert "${" not in file.read_text("utf-8")


def test_images_go_along(tmp_path: Path) -> None:
    pictures = [Example("Which?", str(n), Image.new("RGB", (6, 5), (n, 0, 0))) for n in range(4)]
    package = write_package(tmp_path / "p", "eyes", tiny_vision_model(), examples=pictures)
    inside = package.folder / "src" / package.module
    task = ExampleTask.from_jsonl(inside / "data" / "examples.jsonl")
    kept = [e for split in ("train", "val", "test") for e in task.split(split)]
    assert {(e.answer, e.image.getpixel((0, 0))) for e in kept if e.image} == {
        (str(n), (n, 0, 0)) for n in range(4)
    }
    assert Expert.load(inside / "expert").card.modality == "image"


def test_nothing_is_written_where_it_cannot_be_whole(tmp_path: Path) -> None:
    model = tiny_text_model()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for folder in (taken, tmp_path / "file"):
        with pytest.raises(ConfigError, match="is there already"):
            write_package(folder, "x", model, examples=PAIRS)
    for examples, match in (([], "no examples"), (PAIRS[:1], "two different")):
        with pytest.raises(ConfigError, match=match):
            write_package(tmp_path / "new", "x", model, examples=examples)
    with pytest.raises(ConfigError, match="cannot name"):
        write_package(tmp_path / "new", "../x", model, examples=PAIRS)
    broken = build_text_model()
    del broken.shapes
    with pytest.raises(AttributeError):
        write_package(tmp_path / "new", "x", broken, examples=PAIRS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write_package(empty, "x", model, examples=PAIRS).folder == empty


@pytest.mark.slow
def test_it_installs_into_a_fresh_environment_and_its_expert_answers(
    tmp_path: Path, t2agent_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """t2agent itself and what it needs are found where they are; the package is pip's work."""
    pytest.importorskip("hatchling")
    pytest.importorskip("pip")
    base = tmp_path / "tiny-text"
    model = build_text_model()
    model.model.save_pretrained(base)
    model.tokenizer.save_pretrained(base)
    loaded = T2Model.from_pretrained(base)
    package = write_package(tmp_path / "p", "my.letters", loaded, examples=PAIRS)
    environment = tmp_path / "environment"
    _run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    paths = [str(ROOT), *(p for p in sys.path if p.rstrip("/\\").endswith("-packages"))]
    purelib = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(purelib) / "dependencies.pth").write_text("\n".join(paths))

    _run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index",
        "--no-build-isolation", "--no-deps", package.folder,
    )  # fmt: skip

    with imported(str(python), PYTHONPATH="") as fresh:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", "")

        def program(module: str, *args: object) -> str:
            done = fresh.run(["-m", module, *map(str, args)])
            assert done.returncode == 0, f"{args}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
            return done.stdout

        def t2(*args: object) -> Any:
            return json.loads(program("t2agent", *args, "--json", "--model", base))

        listed = t2("experts", "list")
        assert listed["problems"] == []
        (row,) = listed["experts"]
        assert row["name"] == "my.letters"
        assert "Not trained yet" in row["description"]
        installed = Path(row["origin"])
        assert installed.is_relative_to(purelib)
        answer = t2("chat", "Say q.", "--expert", "my.letters")
        assert answer["dispatch"]["mixture"]["weights"] == {"my.letters": 1.0}
        assert answer["usage"]["output_tokens"] > 0

        told = program(
            f"{package.module}.train", "--method", "sft", "--steps", "3", "--prompts", "4",
            "--max-tokens", "4",
        )  # fmt: skip
        assert "reward on validation" in told
        trained = Expert.load(installed)
        assert trained.card.training["steps"] == 3
        assert trained.name == "my.letters"
        assert set(trained.card.examples) == {e.prompt for e in _task(package).split("train")}
        assert (installed / "curve.png").is_file()
        assert not list((t2agent_home / "runs").rglob("state.json"))
        # Its own tests: found by the registry, answers, not worse than the base model.
        monkeypatch.chdir(package.folder)
        tested = program("pytest", "-q", "-p", "no:cacheprovider")
        assert "4 passed" in tested


def _task(package: Package) -> ExampleTask:
    data = package.folder / "src" / package.module / "data"
    return ExampleTask.from_jsonl(data / "examples.jsonl")


def _run(*args: object) -> str:
    done = subprocess.run(
        [str(arg) for arg in args], cwd=ROOT.parent, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, f"{args}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout
