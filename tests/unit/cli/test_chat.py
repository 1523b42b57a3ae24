from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from t2agent.cli import chat as command
from t2agent.engine.break_even import BreakEven

SHORT = ("--max-tokens", "6")


def test_json_tells_text_decision_and_usage(run_json, tiny):
    answer = run_json("chat", "Hello there", "--dispatch", "off", "-m", tiny, *SHORT)

    assert isinstance(answer["text"], str)
    assert answer["dispatch"]["strategy"] == "off"
    assert answer["dispatch"]["mixture"]["weights"] == {}
    usage = answer["usage"]
    assert 1 <= usage["output_tokens"] <= 6
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert answer["model_name"] == tiny
    assert answer["finish_reason"] in ("stop", "length")


def test_streamed_text_is_the_answer_and_the_expert_is_named_aside(
    run, run_json, tiny, expert_folders
):
    run("experts", "add", str(expert_folders["sums"]))
    line = ("chat", "Hello there", "--expert", "sums", "-m", tiny, *SHORT)
    whole = run_json(*line)

    shown = run(*line)

    assert shown.exit_code == 0
    assert shown.stdout == whole["text"] + "\n"
    assert "sums 1" in shown.stderr
    assert whole["dispatch"]["mixture"]["weights"] == {"sums": 1.0}
    base = run_json("chat", "Hello there", "--dispatch", "off", "-m", tiny, *SHORT)
    assert base["text"] != whole["text"]


def test_the_dispatcher_finds_the_expert(run, run_json, tiny, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder), "--eligible")

    answer = run_json("chat", "What is 3 plus 5?", "-m", tiny, *SHORT)

    assert answer["dispatch"]["strategy"] == "embedding"
    assert set(answer["dispatch"]["mixture"]["weights"]) == {"sums"}
    assert set(answer["dispatch"]["scores"]) == {"sums", "poems"}


def test_the_prompt_comes_through_a_pipe(run_json, tiny):
    line = ("--dispatch", "off", "-m", tiny, *SHORT)

    piped = run_json("chat", *line, stdin="Hello there")

    assert piped["text"] == run_json("chat", "Hello there", *line)["text"]


def test_one_answer_does_not_wait_for_what_merging_would_save(
    run, tiny, expert_folders, monkeypatch
):
    run("experts", "add", str(expert_folders["sums"]))
    monkeypatch.setattr(BreakEven, "costs", lambda *_: pytest.fail("measured"))
    assert run("chat", "Hello", "--expert", "sums", "-m", tiny, *SHORT).exit_code == 0


def test_sampling_repeats_with_a_seed(run_json, tiny):
    line = ("chat", "Hi", "--dispatch", "off", "-m", tiny, "--temperature", "1.5", *SHORT, "--seed")

    first = run_json(*line, "1")["text"]

    assert run_json(*line, "1")["text"] == first
    assert any(run_json(*line, str(seed))["text"] != first for seed in (2, 3))


def test_an_image_is_seen(run_json, tiny_vision, tmp_path):
    answers = []
    for colour in ("red", "white"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / "image.png")
        line = ("chat", "What is this?", "--dispatch", "off", "-m", tiny_vision, *SHORT)
        answers.append(run_json(*line, "--image", str(tmp_path / "image.png")))

    assert answers[0]["text"] != answers[1]["text"]
    assert answers[0]["usage"]["input_tokens"] == answers[1]["usage"]["input_tokens"] > 16


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no image file"), (b"GIF89a no", "image"), (b"", "not an image")]
)
def test_an_image_that_cannot_be_read(run, tiny_vision, tmp_path, content, says):
    if content is not None:
        (tmp_path / "image.png").write_bytes(content)

    result = run("chat", "What?", "-m", tiny_vision, "--image", str(tmp_path / "image.png"))

    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stdout == ""


def test_an_image_for_a_text_model(run, tiny, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")

    result = run(
        "chat", "What?", "--dispatch", "off", "-m", tiny, "--image", str(tmp_path / "image.png")
    )

    assert result.exit_code == 1
    assert "text only" in result.stderr.replace("\n", " ")


def test_a_prompt_that_is_too_long(run, tiny):
    result = run("chat", "word " * 500, "--dispatch", "off", "-m", tiny)

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "shorten the prompt" in result.stderr


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (("Hi", "--expert", "nobody"), 1, "nobody"),
        (("Hi", "-m", "/nowhere/at/all"), 1, "/nowhere/at/all"),
        (("Hi", "--dispatch", "magic"), 2, "magic"),
        (("Hi", "--dispatch", "off", "--expert", "x"), 2, "not both"),
        (("   ",), 2, "empty"),
        ((), 2, "empty"),  # nothing in the pipe
        (("Hi", "--max-tokens", "0"), 2, "max-tokens"),
        (("Hi", "--temperature", "-1"), 2, "temperature"),
        (("Hi", "there"), 2, "there"),
    ],
)
def test_wrong_arguments(run, args, exit_code, says):
    result = run("chat", *args)

    assert result.exit_code == exit_code
    assert says in result.stderr
    assert result.stdout == ""


def test_a_command_that_is_none_is_no_text_for_the_model(monkeypatch, capsys):
    class Talk:
        def __init__(self):
            self.texts = []
            self.engine = SimpleNamespace(model=SimpleNamespace(name="tiny"))

    talk = Talk()
    lines = iter(["/nwe", "/image a.png", "/", " /etc is a folder?", "Hi", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(lines))
    monkeypatch.setattr(command, "_show", lambda talk, text: talk.texts.append(text))
    command._converse(talk)
    assert talk.texts == ["/etc is a folder?", "Hi"]
    told = capsys.readouterr().err
    assert "error: /nwe is no command." in told
    assert "error: /image is no command." in told
