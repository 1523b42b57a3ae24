"""Images: the one place where they are read, for messages, tasks and the command line alike.

Those of a message come only from places that the caller allowed. Bytes inside the message are read
always, files and addresses only on request: a message may come from anybody. Whoever allows all
addresses lets the sender of a message make this machine open them, those of its own network among
them; a list of hosts does not (`ImagePolicy`).
"""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import re
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BeforeValidator

from t2agent.errors import ConfigError, ImageRefusedError

if TYPE_CHECKING:
    import httpx

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded. Not formats that start other programs, such as EPS."""
MAX_BYTES = 20 * 2**20
"""Of the encoded image."""
MAX_PIXELS = 50_000_000
"""Of the decoded image: 150 MB as RGB."""
_SENT = ("PNG", "JPEG")  # what every endpoint that sees reads
_ORIENTATION = 0x0112  # EXIF's tag for how to turn an image upright
_BITS, _MEANING, _BLACK_IS_ZERO = 258, 262, 1  # TIFF's tags for bits and for what numbers mean
_SHOWN = 200  # characters of a place in an error
_SECONDS = 20.0  # for a download in all
_REDIRECTS = 10
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def url_hosts(given: object) -> bool | tuple[str, ...]:
    """What ``allow_image_urls`` says, checked: True, False or the hosts in the form of URLs.

    Raises ConfigError for what is neither a bool nor a list of names of hosts.
    """
    if isinstance(given, bool):
        return given
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(
            f"allow_image_urls is {given!r:.100}; give True, False or a list of hosts, such as "
            '["images.example.org", ".example.net"]'
        )
    return tuple(map(_host, given))


def _host(name: object) -> str:
    import httpx

    text = name.strip("[]") if isinstance(name, str) else ""
    dot = "." if text.startswith(".") else ""
    try:
        host = httpx.URL(scheme="http", host=text.removeprefix(".")).raw_host.decode()
    except (httpx.InvalidURL, ValueError):
        host = ""
    if not (_HOST.fullmatch(host) or (":" in host and not dot)):
        raise ConfigError(
            f"allow_image_urls names the host {name!r:.100}; give a name such as "
            '"images.example.org", an address, or ".example.org" for all sub-domains, without '
            "scheme, port and path"
        )
    return dot + host


AllowedUrls = Annotated[bool | tuple[str, ...], BeforeValidator(url_hosts)]
"""A pydantic field ``allow_image_urls``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Where images may come from besides the message itself.

    Attributes:
        allow_files: whether paths are read.
        allow_urls: the hosts whose http(s) addresses are opened, those that redirects lead to
            among them. A name stands for that host, ".example.org" for all sub-domains of
            example.org. Of this machine's own network (loopback, private, link-local and what
            else is not public) only hosts with their own name or address in the list are: a
            sub-domain that leads there is refused. True opens ANY address, so that whoever sends
            a message reaches services of the own network; it is for messages that one writes
            oneself, never for a server.

    Raises ConfigError as `url_hosts`.
    """

    allow_files: bool = False
    allow_urls: bool | Sequence[str] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_urls", url_hosts(self.allow_urls))


def is_image_block(block: Mapping[str, Any]) -> bool:
    """Whether a content block holds an image, in LangChain's, OpenAI's or Anthropic's form."""
    return block.get("type") in ("image", "image_url")


def holds_image(block: Mapping[str, Any]) -> bool:
    """Whether an image block has the image in itself, and does not only name its place."""
    kind, given = _source(block)
    return kind == "data" or (kind == "url" and given[:5].lower() == "data:")


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
    data = _bytes(block, policy)
    with _naming(_place(block)):
        return decode_image(data)


def data_url(block: Mapping[str, Any], policy: ImagePolicy) -> str:
    """The image of a content block as a data: URL, for an endpoint that is to see it.

    It is read and checked here as by `read_image`, so that the endpoint opens nothing. Its bytes
    are sent as they are where every endpoint reads them as `read_image` does, else as PNG.
    """
    data = _bytes(block, policy)
    with _naming(_place(block)):
        image = decode_image(data)
    with _opened(data) as given:
        kind = str(given.format)
        plain = (
            not given.has_transparency_data
            and not given.mode.startswith("I")
            and given.getexif().get(_ORIENTATION, 1) == 1
        )
    if kind not in _SENT or not plain:
        written = io.BytesIO()
        image.save(written, "PNG")
        kind, data = "PNG", written.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"


def read_image_file(path: Path) -> Image.Image:
    """The image of a file, as of `read_image`. Raises ImageRefusedError."""
    data = _file_bytes(path)
    with _naming(str(path)):
        return decode_image(data)


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Put the place of an image, where it has one, before what is wrong with it."""
    try:
        yield
    except ImageRefusedError as error:
        if not place:
            raise
        raise ImageRefusedError(f"{place}: {error}") from error


def _place(block: Mapping[str, Any]) -> str:
    """Where an image that is not in the block itself is from, in short."""
    return "" if holds_image(block) else str(_source(block)[1])[:_SHOWN]


def decode_image(data: bytes) -> Image.Image:
    """The RGB image that an image file's bytes hold, as of `read_image`.

    Grey of more than 8 bits is scaled to 8. Raises ImageRefusedError, also for numbers that no
    file format gives a meaning: 32-bit integers and floats.
    """
    try:
        return as_rgb(_opened(data))
    except ImageRefusedError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many("far too many") from error
    except UnidentifiedImageError as error:
        raise ImageRefusedError(
            f"{len(data)} bytes were given that are not an image: give one of {', '.join(FORMATS)}"
        ) from error
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError) as error:
        # What Pillow's decoders raise for damaged files.
        raise ImageRefusedError(f"the image is damaged: {error}; give a whole file") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of Pillow's as `read_image` gives it: RGB, upright, transparent parts white.

    Raises ImageRefusedError for one that is too large, or of numbers without a meaning.
    """
    if image.width * image.height > MAX_PIXELS:
        raise _too_many(f"{image.width} x {image.height}")
    upright = ImageOps.exif_transpose(image)
    if upright.mode[0] in "IF":
        return _scaled(upright, _white(image))
    if upright.has_transparency_data:
        seen = upright.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(white, seen).convert("RGB")
    return upright.convert("RGB")


def _opened(data: bytes) -> Image.Image:
    """The image with its header read."""
    _check_size(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=FORMATS)


def _white(image: Image.Image) -> int:
    """The number that is white in a grey image of more than 8 bits; black is 0."""
    if image.format == "PPM" and image.mode == "I":
        return 65535  # Pillow scales to it
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        if tags.get(_MEANING, _BLACK_IS_ZERO) == _BLACK_IS_ZERO:
            return (1 << int(tags.get(_BITS, (16,))[0])) - 1
    raise ImageRefusedError(
        f"the image's pixels are numbers of which black and white are not known (mode "
        f"{image.mode}): save it with 8 or 16 bits a channel, 0 for black"
    )


def _scaled(grey: Image.Image, white: int) -> Image.Image:
    import numpy as np

    values = np.array(grey, dtype=np.uint32)
    if (clear := grey.info.get("transparency")) is not None:
        values[values == clear] = white
    values *= 255
    values += white // 2
    values //= white
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _bytes(block: Mapping[str, Any], policy: ImagePolicy) -> bytes:
    kind, given = _source(block)
    if kind == "data":
        return given if isinstance(given, bytes) else _from_base64(given)
    return _from_file(Path(given), policy) if kind == "path" else _from_url(given, policy)


def _source(block: Mapping[str, Any]) -> tuple[Literal["data", "path", "url"], Any]:
    """What a block gives of its image, in whichever form: of several the first of these."""
    source = block.get("source")
    if isinstance(source, Mapping):
        inner = {"base64" if k == "data" else k: v for k, v in source.items() if k != "source"}
        return _source(inner)
    if isinstance(data := block.get("base64") or block.get("data"), bytes | str):
        return "data", data
    if isinstance(path := block.get("path"), str | Path):
        return "path", path
    url = block.get("image_url", block.get("url"))
    if isinstance(url, Mapping):
        url = url.get("url")
    if isinstance(url, str):
        return "url", url
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
    return _file_bytes(path)


def _file_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageRefusedError(f"the image {str(path)!r} is a folder; give a file's path")
        if not path.is_file():
            raise ImageRefusedError(f"there is no image file {str(path)!r}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except ImageRefusedError:
        raise
    except (OSError, ValueError) as error:
        raise ImageRefusedError(f"cannot read the image {str(path)!r}: {error}") from error
    _check_size(len(data))
    return data


def _from_web(url: str, policy: ImagePolicy) -> bytes:
    if not policy.allow_urls:
        raise ImageRefusedError(
            f"the image is the address {url[:100]!r}, and addresses are not opened: put its bytes "
            "into the message as base64, or, in Python, allow them with allow_image_urls=True or "
            "a list of hosts"
        )
    import httpx

    until = time.monotonic() + _SECONDS
    # As it is: what a server packs could be far larger than what was sent.
    headers = {"User-Agent": "t2agent", "Accept-Encoding": "identity"}
    try:
        at = httpx.URL(url)
        with httpx.Client(timeout=_SECONDS / 2, headers=headers) as client:
            for _ in range(_REDIRECTS + 1):
                request = _request(client, at, policy)
                with closing(client.send(request, stream=True)) as answer:
                    if not answer.has_redirect_location:
                        return _body(answer, url, until)
                    at = at.join(answer.headers["Location"])
        raise ImageRefusedError(f"{url[:100]!r} leads to more than {_REDIRECTS} other addresses")
    except ImageRefusedError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ImageRefusedError(
            f"cannot read the image at {url[:100]!r}: {error or type(error).__name__}"
        ) from error


def _request(client: httpx.Client, url: httpx.URL, policy: ImagePolicy) -> httpx.Request:
    """For an address that may be opened; each that a redirect leads to is asked about as well."""
    if url.scheme not in ("http", "https"):
        raise ImageRefusedError(
            f"the image's address leads to {str(url)[:100]!r}, which is not http"
        )
    host = url.raw_host.decode()
    hosts = policy.allow_urls
    if isinstance(hosts, bool) or host in hosts:
        return client.build_request("GET", url)
    if not any(name.startswith(".") and host.endswith(name) for name in hosts):
        raise ImageRefusedError(
            f"the image is at the host {host[:100]!r}, which allow_image_urls does not name: put "
            "its bytes into the message as base64, or name the host"
        )
    found = [str(row[4][0]) for row in socket.getaddrinfo(host, url.port, type=socket.SOCK_STREAM)]
    if own := list(filter(_is_own, found)):
        raise ImageRefusedError(
            f"the image's host {host[:100]!r} is {own[0]}, of the own network: put its bytes into "
            "the message as base64, or give allow_image_urls this very name"
        )
    # The address that was looked at: another look at the name might find another one.
    return client.build_request(
        "GET",
        url.copy_with(host=found[0]),
        headers={"Host": url.netloc.decode()},
        extensions={"sni_hostname": host},
    )


def _is_own(address: str) -> bool:
    """Whether an IP address leads to this machine or its network rather than to the public."""
    at = ipaddress.ip_address(address.partition("%")[0])
    at = getattr(at, "ipv4_mapped", None) or at
    return not at.is_global or at.is_multicast


def _body(answer: httpx.Response, url: str, until: float) -> bytes:
    if not answer.is_success:
        raise ImageRefusedError(
            f"cannot read the image at {url[:100]!r}: the answer is {answer.status_code} "
            f"{answer.reason_phrase}"
        )
    data = bytearray()
    for chunk in answer.iter_raw():
        data += chunk
        _check_size(len(data))
        if time.monotonic() > until:
            raise ImageRefusedError(f"{url[:100]!r} took longer than {_SECONDS:.0f} s")
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
