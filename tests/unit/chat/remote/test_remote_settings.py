from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.load import dumps

from t2agent import ChatT2Remote
from t2agent.errors import ConfigError
from tests.openai_server import KEY

ROOT = Path(__file__).resolve().parents[4]


def url_of(given: str | None) -> str:
    return ChatT2Remote(base_url=given).router.endpoint.url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("http://host:8000/v1/", "http://host:8000/v1"),
        (" https://host ", "https://host/v1"),
        ("http://host/", "http://host/v1"),
        ("http://host/proxy/openai", "http://host/proxy/openai"),
        ("http://host/v1/chat/completions", "http://host/v1"),
        ("http://[::1]:80/v1", "http://[::1]/v1"),
        (None, "http://localhost:8000/v1"),
    ],
)
def test_addresses(given: str | None, url: str) -> None:
    assert url_of(given) == url


@pytest.mark.parametrize(
    "given",
    ["host:8000", "ftp://host/v1", "http://", "/v1", "http://host/v1?key=1", "http://a b/v1",
     "http://host:99999999/v1", "x", "http://host/v1#a"],
)  # fmt: skip
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        url_of(given)


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="api_key") as raised:
        url_of(f"http://user:{KEY}@host/v1")
    assert KEY not in str(raised.value)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2AGENT_REMOTE_URL", "http://host/v1")
    monkeypatch.setenv("T2AGENT_REMOTE_API_KEY", KEY)
    # Another service's key is not sent to this one.
    monkeypatch.setenv("OPENAI_API_KEY", "not-ours")
    chat = ChatT2Remote()
    assert chat.router.endpoint.url == "http://host/v1"
    assert chat.api_key is not None
    assert chat.api_key.get_secret_value() == KEY
    assert KEY.encode() not in pickle.dumps(chat)
    other = ChatT2Remote(base_url="http://other/v1", api_key="own")
    assert other.router.endpoint.url == "http://other/v1"
    assert other.api_key is not None
    assert other.api_key.get_secret_value() == "own"
    monkeypatch.delenv("T2AGENT_REMOTE_API_KEY")
    assert ChatT2Remote().api_key is None


def test_secrets_are_shown_nowhere() -> None:
    chat = ChatT2Remote(api_key=KEY, default_headers={"Authorization": KEY + "2"})
    shown = [
        repr(chat), str(chat), dumps(chat), chat._get_ls_params(), chat._identifying_params,
        repr(chat.router.endpoint),
    ]  # fmt: skip
    assert KEY not in "".join(map(str, shown))
    assert f'"{KEY}"' not in chat.model_dump_json()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"api_key": "a\nb"}, "api_key"),
        ({"api_key": "schlüssel"}, "api_key"),
        ({"default_headers": {"X": "a\r\nY: b"}}, "default_headers"),
        ({"api_key": 3}, "api_key: "),
        ({"timeout": 0}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"dispatch": "few-shot"}, "embedding, off"),
        ({"dispatch": object()}, "a Dispatcher"),
        ({"experts": "math"}, "give a list"),
        ({"served": ["math"]}, "served"),
        ({"nonsense": 1}, "nonsense"),
        ({"model": "http://localhost:8000/v1"}, "as base_url"),
        ({"model": 3}, "model"),
        ({"extra_body": {"messages": []}}, "extra_body"),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as raised:
        ChatT2Remote(**fields)
    for value in ("schlüssel", "a\nb"):
        assert value not in str(raised.value)


def test_how_long_it_waits() -> None:
    def timeouts(**given: Any) -> Any:
        found: Any = ChatT2Remote(**given).router.endpoint._sync.timeout
        return found and found.as_dict()

    assert timeouts(timeout=60) == httpx.Timeout(60, connect=10).as_dict()
    assert timeouts(timeout=2.5) == httpx.Timeout(2.5).as_dict()
    assert timeouts(timeout=None) is None
    assert timeouts(timeout=httpx.Timeout(7)) == httpx.Timeout(7).as_dict()
    with httpx.Client(timeout=3) as client:
        assert timeouts(http_client=client) == httpx.Timeout(3).as_dict()


def test_making_one_asks_nobody_and_loads_no_model() -> None:
    code = """
import socket
from t2agent import ChatT2Remote
from t2agent.models import model
def refuse(*_a, **_k):
    raise AssertionError("not wanted")
model.T2Model.__init__ = refuse
socket.socket.connect = refuse
chat = ChatT2Remote(served={"math": "m", "code": "c"}, base_url="http://nowhere.invalid/v1")
print(chat.route("What is 7 * 3 + 12?").model)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "m", done.stderr


def test_without_the_library_all_but_its_use_works() -> None:
    code = """
import sys
sys.modules["langchain_openai"] = None
from t2agent import ChatT2Remote, ConfigError, T2Middleware
try:
    ChatT2Remote()
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "pip install 't2agent[remote]'" in done.stdout, done.stderr


def test_the_library_is_loaded_where_it_is_used() -> None:
    code = """
import sys
from t2agent import ChatT2, ChatT2Remote, T2Middleware
print([name for name in ("langchain_openai", "openai", "tiktoken") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
