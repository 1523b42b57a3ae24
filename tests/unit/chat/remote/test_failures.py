from __future__ import annotations

import email.utils
import json
import time

import httpx
import pytest

from t2agent.chat.remote.failures import MOST_WAIT, pause, refused, words
from t2agent.errors import ContextLengthError, EndpointError


def answer(status: int, body: bytes = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=body, headers=named)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_what_passes_is_waited_for_ever_longer(status: int) -> None:
    waits = [pause(attempt, answer(status)) for attempt in range(8)]
    assert all(0.25 * 2**k <= wait <= 0.5 * 2**k for k, wait in enumerate(waits[:4]))  # type: ignore[operator]
    assert all(wait <= 8.0 for wait in waits)  # type: ignore[operator]
    assert 0.25 <= pause(0, None) <= 0.5  # type: ignore[operator]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422, 501])
def test_what_stays_is_not(status: int) -> None:
    assert pause(0, answer(status)) is None


def test_the_endpoint_says_how_long() -> None:
    assert pause(3, answer(429, retry_after="1.5")) == 1.5
    assert pause(0, answer(503, retry_after="-3")) == 0.0
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert pause(0, answer(429, retry_after=date)) == pytest.approx(20, abs=3)
    assert pause(0, answer(429, retry_after=str(MOST_WAIT + 1))) is None
    for nonsense in ("soon", "nan", "Mon, 99 Foo"):
        assert pause(0, answer(429, retry_after=nonsense)) <= 0.5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "too\n many", "code": 429}}, "too many"),
        ({"error": "plain"}, "plain"),
        ({"object": "error", "message": "of old vLLM"}, "of old vLLM"),
        ({"detail": [{"loc": ["body"]}]}, '[{"loc": ["body"]}]'),
        ({"error": None}, '{"error": null}'),
        (["x"], '["x"]'),
    ],
)
def test_the_endpoints_own_words(body: object, said: str) -> None:
    assert words(json.dumps(body).encode()) == said


def test_words_are_short_and_keep_the_secret() -> None:
    assert words(b"<html>\xff" + b"x" * 5000).endswith("xxx...")
    assert len(words(b"x" * 5000)) == 503
    assert words(b"bad key abc123 given", "abc123") == "bad key *** given"


def test_errors_tell_what_to_do() -> None:
    error = refused(answer(401, b"no"), "http://h/v1/models")
    assert isinstance(error, EndpointError)
    assert error.status == 401
    assert "T2AGENT_REMOTE_API_KEY" in str(error)
    assert "Unauthorized: no" in str(error)
    assert "(not a standard status)" in str(refused(answer(599), "u"))
    assert "'http://other/v1'" in str(refused(answer(307, location="http://other/v1"), "u"))
    assert "in 3600 s" in str(refused(answer(429, retry_after="3600"), "u"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "x", "code": "context_length_exceeded"}}',
        b'{"message": "This model\'s maximum context length is 10 tokens. However, ..."}',
    ],
)
def test_a_prompt_that_is_too_long(body: bytes) -> None:
    assert isinstance(refused(answer(400, body), "u"), ContextLengthError)
    assert isinstance(refused(answer(500, body), "u"), EndpointError)
