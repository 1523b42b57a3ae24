from __future__ import annotations

import json
import re
import shutil

import pytest

from t2agent.cli.experts import evaluate as module
from t2agent.train import Example, contains


@pytest.fixture
def puzzles(tmp_path):
    file = tmp_path / "puzzles.jsonl"
    lines = [{"prompt": f"Say {n}.", "answer": "e"} for n in range(120)]
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return str(file)


@pytest.fixture(autouse=True)
def added(run, expert_folders):
    run("experts", "add", str(expert_folders["sums"]))


def test_an_expert_beside_the_base_model(run, run_json, tiny, puzzles):
    line = ("experts", "eval", "sums", "--task", puzzles, "-m", tiny, "-n", "6")
    found = run_json(*line, "--reward", "contains", "--split", "val")

    assert (found["name"], found["task"], found["split"]) == ("sums", "puzzles", "val")
    assert found["examples"] == 6
    for key in ("reward", "base", "gain"):
        assert set(found[key]) == {"mean", "half"}
    assert found["gain"]["mean"] == pytest.approx(found["reward"]["mean"] - found["base"]["mean"])
    assert -1 <= found["base"]["mean"] <= 1
    assert found == run_json(*line, "--reward", "contains", "--split", "val")
    shown = run(*line, "--reward", "exact").stdout
    assert re.search(r"base model +-1.000 ± 0.000 +0.0%", shown)
    assert re.search(r"^ *test +6 +sums", shown, re.MULTILINE)
    assert "not told apart" in shown


def test_all_splits_and_every_reply(run, run_json, tiny, puzzles, tmp_path):
    out = tmp_path / "replies.jsonl"
    line = ("experts", "eval", "sums", "--task", puzzles, "-m", tiny, "-n", "2", "--out")
    found = run_json(*line, str(out), "--split", "all", "--reward", "contains")

    assert list(found["splits"]) == ["train", "val", "test"]
    rows = [json.loads(row) for row in out.read_text().splitlines()]
    assert len(rows) == 3 * 2 * 2
    for split, told in found["splits"].items():
        for by, reward, right in (("expert", "reward", "right"), ("base", "base", "base_right")):
            own = [row for row in rows if (row["split"], row["by"]) == (split, by)]
            assert [row["answer"] for row in own] == ["e", "e"]
            for row in own:
                example = Example(row["prompt"], row["answer"])
                assert row["reward"] == contains(row["reply"], example)
                assert row["right"] == (row["reward"] == 1.0)
            assert sum(row["reward"] for row in own) / 2 == pytest.approx(told[reward]["mean"])
            assert sum(row["right"] for row in own) / 2 == pytest.approx(told[right])
    scores = run_json("experts", "show", "sums", "-m", tiny)["scores"]
    assert scores["puzzles_val_base_right"] == found["splits"]["val"]["base_right"]
    assert "puzzles_test_right" in scores
    assert not any("train" in key for key in scores)

    nowhere = run(*line, str(tmp_path / "none" / "replies.jsonl"))
    assert nowhere.exit_code == 1
    assert "a folder that is there" in nowhere.stderr


def test_a_task_of_t2_nano_and_a_folder(run_json, tiny, expert_folders, tmp_path):
    folder = str(shutil.copytree(expert_folders["poems"], tmp_path / "poems"))  # scores are written
    found = run_json("experts", "eval", folder, "--task", "code", "-m", tiny, "--n", "1")
    assert (found["name"], found["task"], found["examples"]) == ("poems", "code", 1)
    assert found["reward"]["half"] is None


def test_errors_come_before_the_model_is_loaded(run, tiny, puzzles, monkeypatch):
    def load(model: str) -> None:
        raise AssertionError("the base model was loaded")

    monkeypatch.setattr(module, "load", load)
    for args, code in (
        (("nobody", "--task", puzzles), 1),
        (("sums", "--task", "no-such-task"), 1),
        (("sums", "--task", "none.jsonl"), 1),
        (("sums",), 2),
        (("sums", "--task", puzzles, "-n", "0"), 2),
        (("sums", "--task", puzzles, "--split", "other"), 2),
    ):
        result = run("experts", "eval", *args, "-m", tiny)
        assert result.exit_code == code, args
        assert "Traceback" not in result.stderr
