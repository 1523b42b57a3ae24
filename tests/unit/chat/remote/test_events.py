from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2agent.chat.remote.events import EventReader
from t2agent.errors import EndpointError

STREAM = (
    b'\xef\xbb\xbfdata: {"a": 1}\r\n\r\n: keep-alive\r\n\r\ndata:two\ndata: lines\n\n'
    b'event: x\rid: 7\rdata: {"text": "\xe2\x80\xa8\xc2\x85 \xc3\xa4"}\r\rdata\n\ndata: [DONE]'
)
EVENTS = ['{"a": 1}', "two\nlines", '{"text": "\u2028\x85 ä"}', "", "[DONE]"]


def read(parts: list[bytes]) -> list[str]:
    reader = EventReader()
    found = [data for part in parts for data in reader.push(part)]
    return [*found, *reader.finish()]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_where_the_network_cuts(places: list[int]) -> None:
    cuts = [0, *sorted(places), len(STREAM)]
    assert read([STREAM[a:b] for a, b in itertools.pairwise(cuts)]) == EVENTS


def test_an_event_is_there_with_its_empty_line_and_not_later() -> None:
    reader = EventReader()
    assert list(reader.push(b"data: 1\n")) == []
    assert list(reader.push(b"\n")) == ["1"]
    assert list(reader.finish()) == []


@pytest.mark.parametrize("part", [b"x" * 2**20, b"data: " + b"x" * 2**20 + b"\n"])
def test_an_event_without_end_is_refused(part: bytes) -> None:
    reader = EventReader()
    parts = [part] * 20
    with pytest.raises(EndpointError, match="more than 4 MiB"):
        [data for one in parts for data in reader.push(one)]
