from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from t2agent.errors import ConfigError
from t2agent.tasks.task import read_examples
from t2agent.train import ExampleTask


def write(folder: Path, *lines: object) -> Path:
    file = folder / "puzzles.jsonl"
    file.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    return file


def test_reads_prompts_answers_and_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (5, 3), 7).save(tmp_path / "in" / "a.png")
    file = write(
        tmp_path,
        {"prompt": "één?", "answer": "1", "source": "mine"},
        b"",
        {"prompt": "What is it?", "answer": "grey", "image": "in/a.png"},
        {"prompt": "Nothing?", "answer": "", "image": None},
    )
    first, second, third = read_examples(file)
    assert (first.prompt, first.answer, first.image) == ("één?", "1", None)
    assert second.image is not None
    assert second.image.mode == "RGB"
    assert second.image.size == (5, 3)
    assert second.image.getpixel((0, 0)) == (7, 7, 7)
    assert third.answer == ""
    assert third.image is None
    task = ExampleTask.from_jsonl(file)
    assert task.name == "puzzles"
    assert len(task) == 3
    assert ExampleTask.from_jsonl(file, name="other").name == "other"


def test_a_byte_order_mark_and_windows_newlines_are_no_error(tmp_path: Path) -> None:
    file = write(tmp_path, b'\xef\xbb\xbf{"prompt": "a", "answer": "b"}\r', b"\r")
    assert [e.prompt for e in read_examples(file)] == ["a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object in UTF-8"),
        (b"[" * 100_000, "not a JSON object"),
        (["a", "b"], "type list"),
        ({"answer": "b"}, "no 'prompt'"),
        ({"prompt": "a"}, "no 'answer'"),
        ({"prompt": "a", "answer": 3}, "'answer' is 3"),
        ({"prompt": " ", "answer": "b"}, "not empty"),
        ({"prompt": "a", "answer": "b", "image": 3}, "'image' is 3"),
        ({"prompt": "a", "answer": "b", "image": "no.png"}, "not there"),
        ({"prompt": "a", "answer": "b", "image": "a\0b"}, "not there"),
        ({"prompt": "a", "answer": "b", "image": "."}, "not a file"),
        ({"prompt": "a", "answer": "b", "image": "../secret.png"}, "own folder"),
        ({"prompt": "a", "answer": "b", "image": "link.png"}, "own folder"),
        ({"prompt": "a", "answer": "b", "image": "text.png"}, "cannot be decoded"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "text.png").write_text("not an image")
    file = write(folder, {"prompt": "a", "answer": "b"}, line)
    with pytest.raises(ConfigError, match=message) as caught:
        read_examples(file)
    assert "line 2" in str(caught.value)


def test_no_file_and_no_examples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        ExampleTask.from_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="no examples"):
        ExampleTask.from_jsonl(write(tmp_path, b" "))
