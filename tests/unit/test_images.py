from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from t2agent import images
from t2agent.errors import ImageRefusedError
from t2agent.images import ImagePolicy, data_url, decode_image, read_image

NOTHING = ImagePolicy()
FILES = ImagePolicy(allow_files=True)
URLS = ImagePolicy(allow_urls=True)


def picture(mode: str = "RGB", size: tuple[int, int] = (3, 2)) -> Image.Image:
    image = Image.new(mode, size)
    image.putpixel((0, 0), (255,) * len(image.getbands()) if len(image.getbands()) > 1 else 255)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


DATA = encoded(picture())
TEXT = base64.b64encode(DATA).decode()
DATA_URL = f"data:image/png;base64,{TEXT}"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": TEXT, "mime_type": "image/png"},
        {"type": "image", "base64": DATA_URL},
        {"type": "image", "base64": TEXT[:20] + "\n" + TEXT[20:]},
        {"type": "image", "url": DATA_URL},
        {"type": "image", "source_type": "base64", "data": TEXT, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": DATA_URL}},
        {"type": "image_url", "image_url": DATA_URL},
        {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TEXT}},
        {"type": "image", "url": "data:image/png," + "".join(f"%{byte:02x}" for byte in DATA)},
    ],
)
def test_forms_of_a_block(block: dict[str, Any]) -> None:
    image = read_image(block, NOTHING)
    assert image.mode == "RGB"
    assert image.tobytes() == picture().tobytes()


@pytest.mark.parametrize("block", [{"type": "image"}, {"type": "image", "file_id": "f1"}])
def test_a_block_without_an_image(block: dict[str, Any]) -> None:
    with pytest.raises(ImageRefusedError, match="base64"):
        read_image(block, NOTHING)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats(kind: str) -> None:
    assert decode_image(encoded(picture(), kind)).size == (3, 2)


def test_a_format_that_starts_another_program() -> None:
    with pytest.raises(ImageRefusedError, match="not an image"):
        decode_image(encoded(picture(), "EPS"))


def test_transparent_parts_are_white() -> None:
    image = decode_image(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0))))
    assert image.getpixel((1, 1)) == (255, 255, 255)


def test_a_turned_photo_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    assert decode_image(encoded(picture(), "JPEG", exif=exif)).size == (2, 3)


@pytest.mark.parametrize("data", [b"", b"not an image", b"GIF89a"])
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageRefusedError):
        decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_half_an_image(kind: str) -> None:
    noise = Image.effect_noise((64, 64), 100).convert("RGB")
    data = encoded(noise, kind)
    with pytest.raises(ImageRefusedError, match=r"damaged|not an image"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("text", ["%%%", "abc", "data:image/png;base64"])
def test_not_base64(text: str) -> None:
    with pytest.raises(ImageRefusedError):
        read_image({"type": "image", "base64": text}, NOTHING)


def test_too_many_pixels() -> None:
    data = encoded(Image.new("1", (20_000, 20_000)))
    assert len(data) < 100_000
    with pytest.raises(ImageRefusedError, match="pixels"):
        decode_image(data)


def test_a_bomb_in_a_text_chunk() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * 2**21, zip=True)
    with pytest.raises(ImageRefusedError):
        decode_image(encoded(picture(), pnginfo=info))


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", len(DATA) - 10)
    path = tmp_path / "image.png"
    path.write_bytes(DATA)
    for block in ({"base64": TEXT}, {"url": DATA_URL}, {"path": str(path)}):
        with pytest.raises(ImageRefusedError, match="MiB"):
            read_image({"type": "image", **block}, FILES)


def test_files_are_read_only_where_allowed(tmp_path: Path) -> None:
    path = tmp_path / "an image.png"
    path.write_bytes(DATA)
    for place in ({"path": str(path)}, {"url": str(path)}, {"url": path.as_uri()}):
        with pytest.raises(ImageRefusedError, match="allow_image_files"):
            read_image({"type": "image", **place}, URLS)
        assert read_image({"type": "image", **place}, FILES).size == (3, 2)


@pytest.mark.parametrize("name", ["missing.png", ".", "null\0byte"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageRefusedError):
        read_image({"type": "image", "path": str(tmp_path / name)}, FILES)


@pytest.mark.parametrize("url", ["ftp://a/b.png", "gopher:x", "javascript:1"])
def test_other_addresses(url: str) -> None:
    with pytest.raises(ImageRefusedError):
        read_image({"type": "image", "url": url}, ImagePolicy(allow_files=True, allow_urls=True))


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/image.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(DATA)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 2**16)
            except OSError:
                return
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_are_opened_only_where_allowed(web: str) -> None:
    block = {"type": "image", "url": f"{web}/image.png"}
    with pytest.raises(ImageRefusedError, match="allow_image_urls"):
        read_image(block, FILES)
    assert read_image(block, URLS).size == (3, 2)
    assert read_image({"type": "image", "url": f"{web}/to//image.png"}, URLS).size == (3, 2)


@pytest.mark.parametrize("path", ["/missing", "/endless", "/to/file:///etc/hostname"])
def test_addresses_without_an_image(web: str, path: str) -> None:
    with pytest.raises(ImageRefusedError):
        read_image(
            {"type": "image", "url": web + path}, ImagePolicy(allow_files=True, allow_urls=True)
        )


def test_nobody_answers() -> None:
    with pytest.raises(ImageRefusedError, match="cannot read"):
        read_image({"type": "image", "url": "http://127.0.0.1:9/x.png"}, URLS)


@pytest.mark.parametrize(
    "url",
    ["http://[", "FILE:///etc/hostname", "File://x", " file:///etc/hostname", "HTTPS://a/b", "c:x"],
)
def test_no_spelling_of_an_address_is_opened_unasked(url: str) -> None:
    for block in ({"type": "image", "url": url}, {"type": "image_url", "image_url": {"url": url}}):
        with pytest.raises(ImageRefusedError):
            read_image(block, ImagePolicy())


def test_a_source_within_sources_is_refused() -> None:
    block: dict[str, Any] = {"type": "image"}
    inner = block
    for _ in range(5000):
        inner["source"] = {}
        inner = inner["source"]
    with pytest.raises(ImageRefusedError, match="keys"):
        read_image(block, ImagePolicy())


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (DATA, True),
        (encoded(picture(), "JPEG"), True),
        (encoded(picture("L")), True),
        (encoded(picture("RGBA")), False),
        (encoded(picture(), "BMP"), False),
        (encoded(picture(), "WEBP", lossless=True), False),
        (turned(), False),
    ],
)
def test_an_endpoint_sees_what_is_read_here(data: bytes, kept: bool) -> None:
    block = {"type": "image", "base64": base64.b64encode(data).decode()}
    url = data_url(block, NOTHING)
    head, _, body = url.partition(";base64,")
    sent = base64.b64decode(body)
    assert (sent == data) is kept
    with Image.open(io.BytesIO(sent)) as image:
        assert head == f"data:image/{str(image.format).lower()}"
        assert image.convert("RGB").tobytes() == read_image(block, NOTHING).tobytes()


def test_nothing_unread_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    for place in (str(tmp_path / "a.png"), "http://127.0.0.1:1/a.png"):
        with pytest.raises(ImageRefusedError):
            data_url({"type": "image", "url": place}, NOTHING)
    assert data_url({"type": "image", "url": str(tmp_path / "a.png")}, FILES) == DATA_URL
    with pytest.raises(ImageRefusedError):
        data_url({"type": "image", "base64": "AAAA"}, NOTHING)
