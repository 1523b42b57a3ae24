from __future__ import annotations

from typing import Any

import pytest

from t2agent.errors import ConfigError
from t2agent.experts.pins import Address, Pin

HASH = "0" * 64


@pytest.mark.parametrize(
    "changed",
    [
        {"repo": "../x"}, {"commit": "main"}, {"vectors": ""}, {"config": None},
        {"revision": "../../x"}, {"revision": 3}, {"subfolder": "../.."}, {"subfolder": "/etc"},
    ],
)  # fmt: skip
def test_a_pin_of_a_stranger_is_checked(changed: dict[str, Any]) -> None:
    good = {"repo": "a/b", "commit": "a" * 40, "vectors": HASH, "config": HASH}
    assert Pin.from_dict({**good, "later": 1}).address.repo == "a/b"
    with pytest.raises(ConfigError):
        Pin.from_dict({**good, **changed})


def test_a_pin_survives_its_file() -> None:
    pin = Pin("a/b", "a" * 40, HASH, HASH, "v1", "in/side")
    assert Pin.from_bytes(pin.to_bytes()) == pin
    for damaged in (b"", b"{", b"[]", b"\xff", b"[" * 99_999):
        with pytest.raises(ConfigError):
            Pin.from_bytes(damaged)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a/b", Address("a/b")),
        (" a/b@v1.0 ", Address("a/b", "v1.0")),
        ("hf://a/b@refs/pr/1", Address("a/b", "refs/pr/1")),
        ("gpt2", Address("gpt2")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


def test_an_address_says_what_it_is() -> None:
    assert str(Address("a/b", "v1", "in")) == "a/b@v1 (folder in)"
    assert Address("a/b", "f" * 40).is_commit
    assert not Address("a/b", "f" * 7).is_commit
    assert Pin("a/b", "a" * 40, HASH, HASH).is_of(Address("a/b", "anything"))
    assert not Pin("a/b", "a" * 40, HASH, HASH).is_of(Address("a/b", None, "in"))
