from __future__ import annotations

import json
from pathlib import Path

from t2agent.cli.experts import new as module
from t2agent.experts.expert import Expert


def test_a_package_in_a_folder_of_its_name(run, run_json, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run_json("experts", "new", "sums", "-m", tiny)

    assert made == {
        "name": "sums", "model": tiny, "folder": "sums", "distribution": "t2agent-sums",
        "module": "t2agent_sums",
    }  # fmt: skip
    inside = tmp_path / "sums" / "src" / "t2agent_sums"
    lines = (inside / "data" / "examples.jsonl").read_text().splitlines()
    assert len(lines) == 200
    prompt = json.loads(lines[0])["prompt"].removeprefix("What is ").removesuffix("?")
    assert json.loads(lines[0])["answer"] == str(sum(map(int, prompt.split(" + "))))
    assert Expert.load(inside / "expert").card.base == tiny
    again = run("experts", "new", "sums", "-m", tiny)
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_examples_and_a_relative_base_of_the_users_own(run, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(tiny).parent)
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": "d"}\n')
    shown = run(
        "experts", "new", "mine", "--out", str(tmp_path / "p"), "--from-examples", str(file),
        "--license", "MIT", "--description", "Mine.", "-m", "./tiny-text",
    )  # fmt: skip

    assert shown.exit_code == 0, shown.stderr
    assert "python -m t2agent_mine.train" in shown.stdout
    card = Expert.load(tmp_path / "p" / "src" / "t2agent_mine" / "expert").card
    assert (card.base, card.license) == (tiny, "MIT")
    assert card.description.startswith("Mine. ")


def test_errors_come_before_the_model_is_loaded(run, tiny, tmp_path, monkeypatch):
    def load(model: str) -> None:
        raise AssertionError("the base model was loaded")

    monkeypatch.setattr(module, "load", load)
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    for args in (
        ("no name",), ("..", "--out", str(tmp_path / "p")), ("x", "--out", str(bad)),
        ("x", "--from-examples", str(bad)),
        ("x", "--from-examples", str(tmp_path / "none.jsonl")),
    ):  # fmt: skip
        result = run("experts", "new", *args, "-m", tiny)
        assert result.exit_code == 1, args
        assert "base model was loaded" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl"]
