from __future__ import annotations

import base64
import gzip
import io
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from t2agent import images
from t2agent.errors import ConfigError, ImageRefusedError
from t2agent.images import (
    ImagePolicy,
    data_url,
    decode_image,
    holds_image,
    read_image,
    read_image_file,
)

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


GREY = np.array([[0, 30_000], [257, 65_535]], np.uint16)
SCALED = [[0, 117], [1, 255]]


def grey_png(values: np.ndarray, clear: int) -> bytes:
    """A 16-bit grey PNG, one of whose values is transparent; Pillow writes none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", *values.shape[::-1], 16, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", clear)),
        (b"IDAT", zlib.compress(rows)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in (*chunks, (b"IEND", b"")))


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(GREY)),
        encoded(Image.fromarray(GREY), "TIFF"),
        encoded(Image.fromarray(GREY.astype(">u2")), "TIFF"),
        encoded(Image.fromarray(GREY.astype(np.int32)), "PPM"),
        b"P2 2 2 1000 0 458 4 1000",
    ],
    ids=["png", "tiff", "tiff, big end first", "pgm", "pgm of another white"],
)
def test_grey_of_16_bits_is_scaled_to_8(data: bytes) -> None:
    image = decode_image(data)
    assert image.mode == "RGB"
    assert np.asarray(image).tolist() == [[[v] * 3 for v in row] for row in SCALED]


def test_a_ramp_of_16_bits_stays_a_ramp() -> None:
    ramp = np.linspace(0, 65_535, 4096).reshape(64, 64).astype(np.uint16)
    grey = np.asarray(decode_image(encoded(Image.fromarray(ramp))))
    assert grey.mean() == pytest.approx(127.5, abs=0.1)
    assert sorted(set(grey.ravel().tolist())) == list(range(256))


def test_what_is_transparent_in_16_bits_is_white() -> None:
    image = decode_image(grey_png(GREY, 30_000))
    assert np.asarray(image)[..., 0].tolist() == [[0, 255], [1, 255]]


def test_a_turned_scan_of_16_bits_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = decode_image(encoded(Image.fromarray(GREY), exif=exif))
    assert np.asarray(image)[..., 0].tolist() == [[255, 1], [117, 0]]


@pytest.mark.parametrize(
    ("values", "kind", "options"),
    [
        (GREY.astype(np.int32), "TIFF", {}),
        (GREY.astype(np.float32), "TIFF", {}),
        (GREY.astype(np.float32), "PPM", {}),
        (GREY, "TIFF", {"tiffinfo": {262: 0}}),
    ],
    ids=["32 bits", "float", "float map", "0 is white"],
)
def test_numbers_of_which_white_is_not_known(
    values: np.ndarray, kind: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ImageRefusedError, match=r"black and white are not known .*8 or 16 bits"):
        decode_image(encoded(Image.fromarray(values), kind, **options))


def test_12_bits_have_a_white_of_their_own() -> None:
    data = bytearray(encoded(Image.new("I;16", (2, 1)), "TIFF"))
    with Image.open(io.BytesIO(data)) as image:
        (start,) = image.tag_v2[273]
    packed = bytes([0xFF, 0xF8, 0x00])  # 4095 and 2048 in 12 bits each
    data[start : start + 3] = packed
    entry = data.index(struct.pack("<HHIH", 258, 3, 1, 16))
    data[entry : entry + 10] = struct.pack("<HHIH", 258, 3, 1, 12)
    assert np.asarray(decode_image(bytes(data)))[..., 0].tolist() == [[255, 128]]


def test_a_file_is_read_as_a_message_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    assert read_image_file(tmp_path / "a.png").tobytes() == picture().tobytes()
    with pytest.raises(ImageRefusedError, match="no image file"):
        read_image_file(tmp_path / "b.png")


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
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.headers['Host']} {self.path}")
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
        elif self.path == "/packed":  # though nobody asked for that
            body = gzip.compress(bytes(2**26))
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)
        elif self.path.startswith(("/to/", "/round")):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
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


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/missing", "the answer is 404 Not Found"),
        ("/endless", "MiB"),
        ("/packed", "not an image"),
        ("/to/file:///etc/hostname", "not http"),
        ("/to/ftp://127.0.0.1/a.png", "not http"),
        ("/to/http://[", "cannot read"),
        ("/round", "more than 10"),
    ],
)
def test_addresses_without_an_image(web: str, path: str, says: str) -> None:
    with pytest.raises(ImageRefusedError, match=says):
        read_image(
            {"type": "image", "url": web + path}, ImagePolicy(allow_files=True, allow_urls=True)
        )


def at(web: str, path: str = "/image.png", host: str = "127.0.0.1") -> dict[str, str]:
    return {"type": "image", "url": web.replace("127.0.0.1", host) + path}


def test_addresses_of_the_hosts_in_a_list_are_opened(web: str) -> None:
    for hosts in (["127.0.0.1"], ("a.example.org", "127.0.0.1")):
        assert read_image(at(web), ImagePolicy(allow_urls=hosts)).size == (3, 2)
    assert read_image(at(web, host="LOCALHOST"), ImagePolicy(allow_urls=["LocalHost"])).size == (
        3,
        2,
    )


@pytest.mark.parametrize(
    "hosts", [[], ["localhost"], [".127.0.0.1"], [".0.0.1"], ["127.0.0.10"], ["::1"]]
)
def test_other_hosts_are_not_even_asked(web: str, hosts: list[str]) -> None:
    Web.asked.clear()
    with pytest.raises(ImageRefusedError, match="allow_image_urls"):
        read_image(at(web), ImagePolicy(allow_urls=hosts))
    assert not Web.asked


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1@localhost:{}/", "http://127.1:{}/", "http://2130706433:{}/"]
)
def test_no_spelling_of_a_host_passes_for_another(web: str, url: str) -> None:
    Web.asked.clear()
    block = {"type": "image", "url": url.format(web.rpartition(":")[2]) + "image.png"}
    with pytest.raises(ImageRefusedError, match="does not name"):
        read_image(block, ImagePolicy(allow_urls=["127.0.0.1"]))
    assert not Web.asked


def test_the_hosts_of_redirects_are_looked_at_too(web: str) -> None:
    there = f"/to/{web.replace('127.0.0.1', 'localhost')}/image.png"
    Web.asked.clear()
    with pytest.raises(
        ImageRefusedError, match=r"'localhost', which allow_image_urls does not name"
    ):
        read_image(at(web, there), ImagePolicy(allow_urls=["127.0.0.1"]))
    assert len(Web.asked) == 1
    both = ImagePolicy(allow_urls=["127.0.0.1", "localhost"])
    assert read_image(at(web, there), both).size == (3, 2)


OWN = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1%eth0",
       "fd00::1", "::ffff:192.168.0.1", "224.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("address", OWN)
def test_a_sub_domain_does_not_lead_into_the_own_network(
    web: str, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    found = [(0, 0, 0, "", ("8.8.8.8", 80)), (0, 0, 0, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
    for path in ("/image.png", "/to//image.png"):
        with pytest.raises(ImageRefusedError, match="own network"):
            read_image(
                at(web, path, "images.example.org"), ImagePolicy(allow_urls=[".example.org"])
            )


def test_a_sub_domain_is_opened_at_the_address_that_was_looked_at(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looked = socket.getaddrinfo, []

    def once(host: str, *args: Any, **more: Any) -> Any:
        looked.append(host)
        return real("127.0.0.1" if host == "images.example.org" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    monkeypatch.setattr(images, "_is_own", lambda _address: False)  # the server of this test is
    Web.asked.clear()
    policy = ImagePolicy(allow_urls=[".example.org"])
    assert read_image(at(web, "/to//image.png", "images.example.org"), policy).size == (3, 2)
    port = web.rpartition(":")[2]
    assert Web.asked == [
        f"images.example.org:{port} {path}" for path in ("/to//image.png", "/image.png")
    ]
    assert looked.count("images.example.org") == 2  # once an address, and not again to connect
    with pytest.raises(ImageRefusedError, match="does not name"):
        read_image(at(web, host="example.org"), policy)  # is no sub-domain


@pytest.mark.parametrize(
    "hosts",
    ["example.org", 5, None, [7], [""], ["."], ["http://a.org"], ["a.org/b"], ["a.org:80"],
     ["*.a.org"], ["a b"], ["u@a.org"], [".::1"], ["a..org"]],
)  # fmt: skip
def test_a_list_of_hosts_is_checked(hosts: Any) -> None:
    with pytest.raises(ConfigError, match="allow_image_urls"):
        ImagePolicy(allow_urls=hosts)


def test_hosts_are_kept_as_urls_have_them() -> None:
    policy = ImagePolicy(allow_urls=["M\u00dcnchen.example", ".Example.ORG", "[::1]", "10.0.0.1"])
    assert policy.allow_urls == ("xn--mnchen-3ya.example", ".example.org", "::1", "10.0.0.1")
    assert (ImagePolicy(allow_urls=True).allow_urls, ImagePolicy().allow_urls) == (True, False)


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
        (encoded(Image.fromarray(GREY)), False),
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


def test_what_is_wrong_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(b"no image at all")
    policy = ImagePolicy(allow_files=True)
    told = r"photo\.png: 15 bytes were given that are not an image"
    with pytest.raises(ImageRefusedError, match=told):
        read_image_file(file)
    for block in (
        {"type": "image", "path": str(file)},
        {"type": "image", "url": file.as_uri()},
        {"type": "image_url", "image_url": {"url": str(file)}},
    ):
        for read in (read_image, data_url):
            with pytest.raises(ImageRefusedError, match=told):
                read(block, policy)
    inside = {"type": "image", "base64": base64.b64encode(file.read_bytes()).decode()}
    with pytest.raises(ImageRefusedError, match=r"^15 bytes"):
        read_image(inside, policy)


@pytest.mark.parametrize(
    ("block", "holds"),
    [
        ({"base64": "AAAA"}, True),
        ({"source": {"type": "base64", "data": "AAAA"}}, True),
        ({"image_url": {"url": "DATA:image/png;base64,AAAA"}}, True),
        ({"path": "a.png"}, False),
        ({"url": "https://example.org/a.png"}, False),
        ({"path": "a.png", "url": "data:image/png;base64,AAAA"}, False),  # the path is read
    ],
)
def test_whether_a_block_holds_its_image(block: dict[str, Any], holds: bool) -> None:
    assert holds_image({"type": "image", **block}) is holds
