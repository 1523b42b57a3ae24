from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from t2agent.errors import ConfigError
from t2agent.tasks import task as image_files
from t2agent.tasks.task import read_image


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
    image = read_image(name, folder)
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
        read_image(name, folder)


def test_an_absolute_path_outside_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="own folder"):
        read_image(str(folder.parent / "secret.png"), folder)


def test_large_images_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_IMAGE_PIXELS", 199)
    with pytest.raises(ConfigError, match="20 x 10 pixels"):
        read_image("a.png", folder)
    monkeypatch.setattr(image_files, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(ConfigError, match="bytes; at most 10"):
        read_image("a.png", folder)
