"""A JSON text's open value, at any place in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from t2agent.replies.open_value import OpenValue

JSON = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.one_of(st.text(max_size=6), st.integers(), st.booleans(), st.none()),
        lambda one: (
            st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=3), one, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=3,
)


def members(value: Any) -> Iterator[Any]:
    """The strings, numbers and literals that are members of objects, in their order."""
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            yield from members(one)
        elif isinstance(value, dict):
            yield one


def scalars(value: Any) -> Iterator[Any]:
    """Those that a JSON text writes, in its order."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from scalars(one)
    else:
        yield value


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_every_value_is_open_as_it_is_written_and_no_name_is(
    value: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    place = OpenValue()
    found: list[tuple[bytes, bool]] = []
    before: tuple[bytes | None, bool] = (None, False)
    for at in range(len(text)):
        place.read(text[at : at + 1])
        now = (place.text, place.quoted)
        written, quoted = before
        if written is not None and now[0] is None and (quoted or written):
            found.append((written, quoted))
        elif written and now == (b"", False):  # the next of a list
            found.append((written, False))
        before = now
    wanted = [json.dumps(one, ensure_ascii=ascii_only) for one in scalars(value)]
    assert [b'"%b"' % one if quoted else one for one, quoted in found] == [
        one.encode("utf-8", "replace") for one in wanted
    ]
    assert place.ended
    written = [json.dumps(one, ensure_ascii=ascii_only) for one in members(value)]
    bare = [one.removeprefix('"').removesuffix('"') for one in written]
    assert list(place.before) == [one.encode("utf-8", "replace") for one in bare]


@given(JSON, st.data())
def test_it_is_the_same_however_the_text_is_cut(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value).encode()
    end = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, end))
    whole, cut_up = OpenValue(), OpenValue()
    whole.read(text[:end])
    cut_up.read(text[:cut])
    cut_up.read(text[cut:end])
    assert vars(whole) == vars(cut_up)
