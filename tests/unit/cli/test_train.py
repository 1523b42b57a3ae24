from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from t2agent.cli import train as command
from t2agent.cli.options import task_of
from t2agent.experts.expert import Expert
from t2agent.nano.tasks import TASKS
from t2agent.paths import base_slug, home
from t2agent.tasks.paper.rows import ENVIRONMENT
from t2agent.train import run as training
from t2agent.train.keeping import alone

QUICK = (
    "--method", "sft", "--anyway", "--steps", "2", "--set", "prompts=2", "--set", "samples=2",
    "--set", "validation=2", "--set", "validate_every=1", "--set", "max_tokens=4",
)  # fmt: skip


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    file = tmp_path / "puzzles.jsonl"
    lines = [{"prompt": f"Say {word}.", "answer": word} for word in "abcdefghijkl"]
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return file


def test_an_expert_from_a_file_is_saved_and_registered(run_json, tiny, examples):
    report = run_json("train", str(examples), "--name", "speller", "--model", tiny, *QUICK)

    folder = Path(report["folder"])
    assert {"curve.png", "metrics.jsonl", "expert.safetensors"} <= {
        f.name for f in folder.iterdir()
    }
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    card = Expert.load(folder).card
    assert card.training["method"] == report["method"] == "sft"
    assert card.training["hyper"]["prompts"] == 2
    assert run_json("experts", "show", "speller", "-m", tiny)["origin"] == str(folder)


def test_an_expert_that_learned_nothing_is_not_registered(run, run_json, tiny, examples):
    line = ("train", str(examples), "--name", "speller", "-m", tiny, *QUICK, "--method")

    learned_nothing = [*line, "sft"]
    learned_nothing.remove("--anyway")
    result = run(*learned_nothing)
    assert result.exit_code == 1
    assert "Not registered" in result.stdout
    expert = home() / "runs" / base_slug(tiny) / "speller" / "expert"
    assert f"t2agent experts add {expert}" in " ".join(result.stdout.split())
    assert Expert.load(expert).name == "speller"

    nothing_rewarded = run(*line, "reinforce")
    assert nothing_rewarded.exit_code == 1
    assert "error: task 'puzzles', the first 2 step(s)" in nothing_rewarded.stderr
    assert "teach it first with --method sft" in nothing_rewarded.stderr
    assert "speller" not in json.dumps(run_json("experts", "list", "-m", tiny))


def test_interrupted_it_says_how_to_go_on(run, run_json, tiny, examples, monkeypatch):
    line = ("train", str(examples), "--name", "speller", "-m", tiny, *QUICK)
    steps = iter([1, 2])

    def step(*args: Any) -> Any:
        if next(steps, None) == 2:
            raise KeyboardInterrupt
        return wanted(*args)

    wanted = training.wanted
    monkeypatch.setattr(training, "wanted", step)
    monkeypatch.setattr(sys, "argv", ["t2agent", *line])
    result = run(*line)
    assert result.exit_code == 130
    assert "stopped after step 1 of 2" in result.stderr
    assert result.stderr.rstrip().endswith(f"t2agent {shlex.join(line)}")
    assert "Traceback" not in result.stderr
    whole = run_json(*line)
    rows = Path(whole["metrics"]).read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 1, 2]


def test_a_folder_that_takes_no_expert_is_told_before(run, tiny, examples, t2agent_home):
    (t2agent_home / "experts").write_text("no folder")
    result = run("train", str(examples), "--name", "speller", "-m", tiny, *QUICK)
    assert result.exit_code == 1
    assert "no expert can be saved in" in result.stderr


def test_the_same_command_goes_on_and_a_finished_run_is_cleared(
    run, run_json, tiny, examples, t2agent_home
):
    kept = ("--checkpoint", str(t2agent_home / "kept"))
    line = ("train", str(examples), "--name", "speller", "-m", tiny, *QUICK)
    first = run_json(*line, *kept)
    metrics = Path(first["metrics"]).read_text()

    resumed = run_json(*line, *kept, "--replace")

    assert Path(resumed["metrics"]).read_text() == metrics
    assert (t2agent_home / "kept" / "state.json").is_file()
    run_json(*line, "--replace")
    assert not list((t2agent_home / "runs").rglob("state.json"))
    assert run(*line, *kept, "--replace", "--seed", "5").exit_code == 1


def test_a_taken_name_is_refused_before_any_work(run, tiny, examples, expert_folders):
    run("experts", "add", str(expert_folders["sums"]))

    result = run("train", str(examples), "--name", "sums", "-m", tiny)

    assert result.exit_code == 1
    assert "--replace" in result.stderr


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data of two of the paper's tasks, gsm8k and math, which is used."""
    for task, fields in (("gsm8k", ("question", "answer")), ("math", ("problem", "solution"))):
        (tmp_path / task).mkdir()
        pairs = [(f"What is {n} + 1?", f"#### \\boxed{{{n + 1}}}") for n in range(60)]
        lines = [json.dumps(dict(zip(fields, pair, strict=True))) for pair in pairs]
        (tmp_path / task / "train.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_a_task_of_the_paper(run_json, tiny, sums, task):
    report = run_json("train", task, "--name", "sums", "-m", tiny, *QUICK)

    card = Expert.load(Path(report["folder"])).card
    assert card.training["task"] == task
    assert all(example.endswith(" + 1?") for example in card.examples)


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(model: str, *, show: bool) -> None:
        raise AssertionError("the base model was loaded")

    monkeypatch.setattr(command, "load", load)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_a_task_without_its_library_or_data_is_refused_at_once(run, tiny, tmp_path, monkeypatch):
    def refused(task: str) -> str:
        result = run("train", task, "--name", "x", "-m", tiny)
        assert result.exit_code == 1
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
        return result.stderr

    assert "only a split to test with" in refused("humaneval")
    (tmp_path / "mbpp").mkdir()
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    assert "has no train.jsonl" in refused("mbpp")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for task in ("gsm8k", "math"):
        assert "pip install 't2agent[data]'" in refused(task)


@pytest.mark.usefixtures("nothing_is_loaded", "sums")
def test_t2_nano_has_its_own_math(run):
    result = run("train", "math", "--name", "x")

    assert "the base model was loaded" in result.stderr
    assert task_of("math", "exact", "t2-nano", needs=("train",)) is TASKS["math"]


def test_a_bad_line_is_named(run, tiny, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": 1}\n')

    result = run("train", str(file), "--name", "x", "-m", tiny)

    assert result.exit_code == 1
    assert "line 2" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (("nothing.jsonl", "--name", "x"), 1, "nothing.jsonl"),
        (("no-task", "--name", "x"), 1, "reasoning"),
        (("no-task", "--name", "x"), 1, "gsm8k"),
        (("okvqa", "--name", "x"), 1, "only a split to test with"),
        (("math", "--name", "a b"), 1, "cannot name an expert"),
        (("math", "--name", "x", "--set", "rows=0"), 1, "rows"),
        (("math", "--name", "x", "--set", "speed=9"), 1, "learning_rate"),
        (("math", "--name", "x", "--set", "rows"), 2, "KEY=VALUE"),
        (("math", "--name", "x", "--method", "magic"), 2, "magic"),
        (("math", "--name", "x", "--steps", "0"), 2, "steps"),
        (("math",), 2, "--name"),
    ],
)
def test_wrong_arguments(run, args, exit_code, says):
    result = run("train", *args)

    assert result.exit_code == exit_code
    assert says in result.stderr
    assert result.stdout == ""


def test_two_trainings_of_one_name_are_refused_before(run, tiny, examples, monkeypatch):
    line = ("train", str(examples), "--name", "speller", "-m", tiny, *QUICK)
    assert run(*line).exit_code == 0
    loaded = []
    monkeypatch.setattr(command, "load", lambda model, **_: loaded.append(model))
    again = run(*line)
    assert again.exit_code == 1
    assert "registered" in again.stderr
    with alone(tiny, "other"):
        beside = run("train", str(examples), "--name", "other", "-m", tiny, *QUICK)
    assert beside.exit_code == 1
    assert "another process is training an expert 'other'" in beside.stderr
    assert not loaded


@pytest.mark.parametrize("reward", ["nearly", "json*", "/(/"])
@pytest.mark.parametrize("command", [("train", "--name", "x"), ("experts", "eval", "x", "--task")])
def test_a_wrong_reward_is_refused_at_once(run, command: tuple[str, ...], reward: str) -> None:
    result = run(*command, "missing.jsonl", "--reward", reward)
    assert result.exit_code == 2
    told = " ".join(result.stderr.split())
    assert "got the reward" in told
    assert reward == "/(/" or "must_say" in told
