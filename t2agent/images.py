"""Images from the content blocks of a message, and only from places that the caller allowed.

Bytes inside the message are read always, files and addresses only on request: a message may come
from anybody. Whoever allows addresses lets the sender of a message make this machine open them,
those of the local network among them.
"""

from __future__ import annotations

import base64
import binascii
import io
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from PIL import Image, ImageOps, UnidentifiedImageError

from t2agent.errors import ImageRefusedError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded. Not formats that start other programs, such as EPS."""
MAX_BYTES = 20 * 2**20
"""Of the encoded image."""
MAX_PIXELS = 50_000_000
"""Of the decoded image: 150 MB as RGB."""
_SENT = ("PNG", "JPEG")  # what every endpoint that sees reads
_ORIENTATION = 0x0112  # EXIF's tag for how to turn an image upright
_SECONDS = 20.0  # for a download in all
_CHUNK = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Where images may come from besides the message itself."""

    allow_files: bool = False
    allow_urls: bool = False


def is_image_block(block: Mapping[str, Any]) -> bool:
    """Whether a content block holds an image, in LangChain's, OpenAI's or Anthropic's form."""
    return block.get("type") in ("image", "image_url")


def read_image(block: Mapping[str, Any], policy: ImagePolicy) -> Image.Image:
    """The RGB image of a content block, upright; transparent parts are white.

    Forms: {"type": "image", "base64": ...}, {"type": "image", "url": ...} (LangChain v1),
    {"type": "image_url", "image_url": {"url": ...}} (OpenAI), {"type": "image", "source_type":
    "base64", "data": ...} (LangChain v0), {"type": "image", "source": {"type": "base64", "data":
    ...}} (Anthropic) and {"type": "image", "path": ...}. An address is a data: URL, or, where
    allowed, a file: or http(s): one.

    Raises ImageRefusedError for a place that is not allowed, what is too large, and what is not
    an image.
    """
    return decode_image(_bytes(block, policy))


def data_url(block: Mapping[str, Any], policy: ImagePolicy) -> str:
    """The image of a content block as a data: URL, for an endpoint that is to see it.

    It is read and checked here as by `read_image`, so that the endpoint opens nothing. Its bytes
    are sent as they are where every endpoint reads them as `read_image` does, else as PNG.
    """
    data = _bytes(block, policy)
    image = decode_image(data)
    with Image.open(io.BytesIO(data)) as given:
        kind = given.format
        plain = not given.has_transparency_data and given.getexif().get(_ORIENTATION, 1) == 1
    if kind not in _SENT or not plain:
        written = io.BytesIO()
        image.save(written, "PNG")
        kind, data = "PNG", written.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"


def decode_image(data: bytes) -> Image.Image:
    """The RGB image that an image file's bytes hold. Raises ImageRefusedError."""
    _check_size(len(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise _too_many(f"{image.width} x {image.height}")
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            seen = upright.convert("RGBA")
            white = Image.new("RGBA", seen.size, "white")
            return Image.alpha_composite(white, seen).convert("RGB")
        return upright.convert("RGB")
    except Image.DecompressionBombError as error:
        raise _too_many("far too many") from error
    except UnidentifiedImageError as error:
        raise ImageRefusedError(
            f"{len(data)} bytes were given that are not an image: give one of {', '.join(FORMATS)}"
        ) from error
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError) as error:
        # What Pillow's decoders raise for damaged files.
        raise ImageRefusedError(f"the image is damaged: {error}; give a whole file") from error


def _bytes(block: Mapping[str, Any], policy: ImagePolicy) -> bytes:
    source = block.get("source")
    if isinstance(source, Mapping):
        inner = {"base64" if k == "data" else k: v for k, v in source.items() if k != "source"}
        return _bytes(inner, policy)
    if isinstance(data := block.get("base64") or block.get("data"), bytes | str):
        return data if isinstance(data, bytes) else _from_base64(data)
    if isinstance(path := block.get("path"), str | Path):
        return _from_file(Path(path), policy)
    url = block.get("image_url", block.get("url"))
    if isinstance(url, Mapping):
        url = url.get("url")
    if isinstance(url, str):
        return _from_url(url, policy)
    raise ImageRefusedError(
        f"an image block with the keys {sorted(map(str, block))} was given: put the image into "
        "'base64', or a data: URL into 'url'"
    )


def _from_base64(text: str) -> bytes:
    if text.startswith("data:"):
        return _from_data_url(text)
    _check_size(len(text) * 3 // 4)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageRefusedError(f"the image is not base64: {error}") from error


def _from_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise ImageRefusedError("the data: URL of an image has no comma and so no data")
    if head.lower().endswith(";base64"):
        return _from_base64(unquote(body))
    _check_size(len(body) // 3)
    return unquote_to_bytes(body)


def _from_url(url: str, policy: ImagePolicy) -> bytes:
    try:
        scheme = urlsplit(url).scheme.lower() if ":" in url[:16] else ""
    except ValueError as error:
        raise ImageRefusedError(
            f"the image's address {url[:100]!r} is none ({error}); give a data: URL or base64"
        ) from error
    if scheme == "data":
        return _from_data_url(url)
    if scheme in ("http", "https"):
        return _from_web(url, policy)
    if scheme in ("", "file"):
        place = unquote(urlsplit(url).path) if scheme else url
        return _from_file(Path(place), policy)
    raise ImageRefusedError(f"an image address with {scheme}: was given; use data: or base64")


def _from_file(path: Path, policy: ImagePolicy) -> bytes:
    if not policy.allow_files:
        raise ImageRefusedError(
            f"the image is the path {str(path)!r}, and files are not read for messages: put its "
            "bytes into the message as base64, or allow files with allow_image_files=True"
        )
    try:
        if not path.is_file():
            raise ImageRefusedError(f"there is no image file {str(path)!r}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageRefusedError):
            raise
        raise ImageRefusedError(f"cannot read the image {str(path)!r}: {error}") from error
    _check_size(len(data))
    return data


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to another web page, but not to another scheme."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        """A request for the new address."""
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise ImageRefusedError(f"the image's address leads to {newurl!r}, which is not http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _from_web(url: str, policy: ImagePolicy) -> bytes:
    if not policy.allow_urls:
        raise ImageRefusedError(
            f"the image is the address {url[:100]!r}, and addresses are not opened: put its bytes "
            "into the message as base64, or allow them with allow_image_urls=True"
        )
    data = bytearray()
    until = time.monotonic() + _SECONDS
    request = urllib.request.Request(url, headers={"User-Agent": "t2agent"})
    try:
        opener = urllib.request.build_opener(_WebOnly)
        with opener.open(request, timeout=_SECONDS / 2) as answer:
            while chunk := answer.read(_CHUNK):
                data += chunk
                _check_size(len(data))
                if time.monotonic() > until:
                    raise ImageRefusedError(f"{url[:100]!r} took longer than {_SECONDS:.0f} s")
    except (OSError, ValueError, urllib.error.URLError) as error:
        if isinstance(error, ImageRefusedError):
            raise
        raise ImageRefusedError(f"cannot read the image at {url[:100]!r}: {error}") from error
    return bytes(data)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ImageRefusedError(
            f"the image has more than {MAX_BYTES // 2**20} MiB: make it smaller"
        )


def _too_many(pixels: str) -> ImageRefusedError:
    return ImageRefusedError(
        f"the image has {pixels} pixels, more than {MAX_PIXELS:,}: make it smaller"
    )
