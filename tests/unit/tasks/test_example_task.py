from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from t2agent import images
from t2agent.errors import ConfigError
from t2agent.images import decode_image
from t2agent.tasks.examples import read_examples
from t2agent.tasks.sources import image_in
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


# --- images --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "data"
    inside.mkdir()
    Image.new("L", (20, 10), 7).save(inside / "a.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "own.png").symlink_to(inside / "a.png")
    (inside / "text.png").write_text("not an image")
    return inside


@pytest.mark.parametrize("name", ["a.png", "./a.png", "../data/a.png", "own.png"])
def test_an_image_is_read_as_rgb(folder: Path, name: str) -> None:
    image = image_in(folder, name)
    assert (image.mode, image.size) == ("RGB", (20, 10))
    assert image.getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (3, "needed the path of an image file"),
        ("no.png", "is not there"),
        ("a\0b", "is not there"),
        (".", "is not a file"),
        ("../secret.png", "own folder"),
        ("link.png", "own folder"),
        ("text.png", "cannot be decoded"),
    ],
)
def test_what_is_no_image_of_the_folder_is_refused(
    folder: Path, name: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        image_in(folder, name)


def test_an_absolute_path_outside_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="own folder"):
        image_in(folder, str(folder.parent / "secret.png"))


def test_large_images_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 199)
    with pytest.raises(ConfigError, match="20 x 10 pixels"):
        image_in(folder, "a.png")
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(ConfigError, match="MiB"):
        image_in(folder, "a.png")


def test_training_sees_what_an_answer_is_about(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    logo = Image.new("RGBA", (40, 30))
    ImageDraw.Draw(logo).ellipse([5, 5, 35, 25], fill=(0, 0, 0, 255))
    logo.save(tmp_path / "logo.png")
    Image.linear_gradient("L").save(tmp_path / "phone.jpg", exif=exif)
    Image.new("I;16", (4, 4), 30_000).save(tmp_path / "scan.png")
    for name in ("logo.png", "phone.jpg", "scan.png"):
        trained, asked = image_in(tmp_path, name), decode_image((tmp_path / name).read_bytes())
        assert (trained.size, trained.tobytes()) == (asked.size, asked.tobytes())
    assert image_in(tmp_path, "logo.png").getpixel((0, 0)) == (255, 255, 255)
    assert image_in(tmp_path, "phone.jpg").getpixel((255, 0)) == (0, 0, 0)
    assert image_in(tmp_path, "scan.png").getpixel((0, 0)) == (117, 117, 117)


def test_reading_examples_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\nexit 1\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "photo.png", "EPS")
    file = write(tmp_path, {"prompt": "a", "answer": "b", "image": "photo.png"})
    with pytest.raises(ConfigError, match=r"line 1: the image 'photo.png' cannot be decoded"):
        read_examples(file)
    assert not (tmp_path / "ran").exists()


def test_as_many_pixels_as_a_message_may_have(tmp_path: Path) -> None:
    Image.new("1", (9_000, 5_000), 1).save(tmp_path / "large.png")
    assert image_in(tmp_path, "large.png").size == (9_000, 5_000)


def test_unknown_fields_are_named_once(tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    plain = {"prompt": "a", "answer": "b"}
    lines = [{**plain, "id": 1}, {**plain, "Image": "x.png", "id": 2}, plain]
    file.write_text("\n".join(map(json.dumps, lines)))
    with pytest.warns(UserWarning, match="unknown fields") as caught:
        assert len(read_examples(file)) == 3
    [warning] = caught
    assert str(warning.message) == (
        "more.jsonl: unknown fields are ignored: 'Image', 'id'; known are prompt, answer, image, "
        "images, messages, completion, tools, calls, functions, parallel_tool_calls, reference"
    )
