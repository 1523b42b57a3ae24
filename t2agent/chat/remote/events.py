"""Server-sent events, read from bytes as they come."""

from __future__ import annotations

import re
from collections.abc import Iterator

from t2agent.errors import EndpointError

_LINE_END = re.compile(rb"\r\n|\n|\r")
_MOST_BYTES = 2**22


class EventReader:
    """Turns bytes into the data of events.

    Source: WHATWG HTML, 9.2 Server-sent events. Lines end in CR, LF or both and nowhere else (JSON
    may hold U+2028); comments and fields other than ``data`` are left out. Deviation: data at the
    end of the stream counts without the empty line that should follow it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def push(self, more: bytes) -> Iterator[str]:
        """The data of the events that more bytes complete.

        Raises EndpointError for an event of more than 4 MiB.
        """
        self._rest += more
        start = 0
        for end in _LINE_END.finditer(self._rest):
            if end.group() == b"\r" and end.end() == len(self._rest):
                break  # its LF may be still to come
            yield from self._line(self._rest[start : end.start()])
            start = end.end()
        self._rest = self._rest[start:]
        if len(self._rest) + sum(map(len, self._data)) > _MOST_BYTES:
            raise EndpointError(
                f"the endpoint sent an event of more than {_MOST_BYTES // 2**20} MiB, which is no "
                "answer's piece: see that base_url is that of an OpenAI-compatible API"
            )

    def finish(self) -> Iterator[str]:
        """The data that the end of the stream completes."""
        yield from self._line(self._rest)
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[str]:
        if not line:
            if self._data:
                data, self._data = "\n".join(self._data), []
                yield data
            return
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode(errors="replace"))
