from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage
from PIL import Image

from t2agent.cli.agent import _line, _plain
from t2agent.nano.tasks import TASKS

DATES = ("agent", "Which weekday is 19 days after 2026-01-25?", "-t", "weekday", "-t", "add_days")


def test_json_tells_every_step(run_json):
    told = run_json(*DATES)

    kinds = [(step["type"], step.get("name")) for step in told["steps"]]
    assert kinds == [
        ("model", None), ("tool", "add_days"), ("model", None), ("tool", "weekday"),
        ("model", None),
    ]  # fmt: skip
    first = told["steps"][0]
    assert first["calls"] == [{"name": "add_days", "arguments": {"date": "2026-01-25", "days": 19}}]
    assert first["dispatch"]["mixture"]["weights"] == {"tools": 1.0}
    assert first["finish_reason"] == "tool_calls"
    assert first["usage"]["output_tokens"] > 0
    assert told["steps"][3]["text"] == "Friday"
    assert told["steps"][3]["status"] == "success"
    assert told["answer"] == told["steps"][-1]["text"]
    assert told["model_name"] == "t2-nano"


def test_each_step_is_shown(run):
    shown = run(*DATES)

    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == '1. tools 1 [embedding] add_days(date="2026-01-25", days=19)'
    assert lines[1].strip() == "add_days: 2026-02-13"
    assert lines[3].strip() == "weekday: Friday"
    assert lines[4].endswith("answers")
    assert "Friday" in lines[-1]


def test_an_image_and_a_tool_that_works_on_it(run, tmp_path):
    example = TASKS["read"].sample(1, seed=3, split="test")[0]
    assert example.image is not None
    example.image.save(tmp_path / "image.png")

    shown = run(
        "agent", "Cut out the rectangle 8, 8, 40, 40.", "-i", str(tmp_path / "image.png"),
        "-t", "crop_image",
    )  # fmt: skip

    assert "crop_image(left=8, top=8, right=40, bottom=40)" in shown.stdout
    assert "32 x 32 pixels. (and an image)" in shown.stdout


def test_a_folder_to_search(run, tmp_path):
    (tmp_path / "notes.txt").write_text("a horse\n")

    shown = run("agent", "Search the files for horse.", "--tool", "search_files",
                "--folder", str(tmp_path))  # fmt: skip

    assert "search_files: notes.txt:1: a horse" in shown.stdout


def test_without_experts(run_json):
    told = run_json("agent", "What is 23 * 47?", "-t", "calculator", "--dispatch", "off")

    assert {step["dispatch"]["strategy"] for step in told["steps"] if "dispatch" in step} == {"off"}


def test_steps_are_limited(run):
    result = run(*DATES, "--max-steps", "1", "--json")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "no answer after 1 model call(s)" in result.stderr


def test_the_end_of_an_agent_that_got_nowhere_is_shown():
    ended = AIMessage("I stopped.", response_metadata={"finish_reason": "repeated_call"})
    plain = _plain(ended)
    assert plain["dispatch"] is None
    assert plain["finish_reason"] == "repeated_call"
    assert str(_line(3, plain)) == "3. I stopped."


def test_an_image_for_a_text_model(run, tiny, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")

    result = run("agent", "What?", "-m", tiny, "-d", "off", "-t", "calculator",
                 "-i", str(tmp_path / "image.png"))  # fmt: skip

    assert result.exit_code == 1
    assert "text only" in result.stderr


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (("Hi", "--tool", "calculatr"), 1, "Did you mean 'calculator'"),
        (("Hi", "--tool", "search_files"), 2, "--folder"),
        (("Hi", "--tool", "calculator", "--folder", "/"), 1, "takes the option 'folder'"),
        (("Hi", "--image", "/nowhere.png"), 1, "no image file"),
        (("  ",), 2, "empty"),
        ((), 2, "PROMPT"),
        (("Hi", "--max-steps", "0"), 2, "max-steps"),
    ],
)
def test_wrong_arguments(run, args, exit_code, says):
    result = run("agent", *args)

    assert result.exit_code == exit_code
    assert says in result.stderr
    assert result.stdout == ""
