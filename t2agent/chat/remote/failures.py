"""What goes wrong at an endpoint: which failures pass, how long to wait, and what to tell."""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Mapping
from http import HTTPStatus

import httpx

from t2agent.errors import ContextLengthError, EndpointError, T2Error

MOST_WAIT = 60.0
"""Seconds; an endpoint that asks for more is not waited for."""
_FIRST_WAIT = 0.5
_LAST_WAIT = 8.0
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})
_SHOWN = 500  # characters of an endpoint's own words
_NEXT = {
    400: "change the request",
    401: "give a key that the endpoint knows, as api_key or in T2AGENT_REMOTE_API_KEY",
    403: "give a key that may do this, as api_key or in T2AGENT_REMOTE_API_KEY",
    404: "see that base_url ends in /v1 and that the endpoint serves this model",
    408: "try again, or give it less to do",
    413: "send less, such as smaller images",
    422: "change the request",
    429: "ask less at a time, or raise max_retries",
}


def pause(attempt: int, answer: httpx.Response | None) -> float | None:
    """Seconds to wait before the next attempt; None where it is of no use.

    attempt: 0 for the first. answer: the one that failed; None where none came. Its Retry-After
    (seconds or a date) decides, where it has one; else the wait doubles, with some chance in it,
    so that those who were refused together do not come back together.
    """
    if answer is not None:
        if answer.status_code not in _PASSING:
            return None
        asked = _retry_after(answer.headers)
        if asked is not None:
            return asked if asked <= MOST_WAIT else None
    return min(_FIRST_WAIT * 2.0**attempt, _LAST_WAIT) * random.uniform(0.5, 1.0)


def refused(answer: httpx.Response, url: str, secret: str | None = None) -> T2Error:
    """The error that a failed answer means; its body has been read. secret: never shown."""
    status, said = answer.status_code, words(answer.content, secret)
    if status in (400, 413, 422) and _too_long(answer.content):
        return ContextLengthError(
            f"{url} refused the prompt: {said} Shorten the conversation, or ask for fewer "
            "tokens (max_tokens)"
        )
    follow = _NEXT.get(status, "see the endpoint's log, or try again later")
    if answer.is_redirect:
        follow = f"give base_url the address that it points to, {answer.headers.get('location')!r}"
    asked = _retry_after(answer.headers)
    if asked is not None and asked > MOST_WAIT:
        follow = f"try again in {asked:.0f} s, as it asks"
    return EndpointError(
        f"{url} answered {status} {_phrase(status)}: {said or 'nothing more'} - {follow}",
        status=status,
    )


def unreachable(error: httpx.HTTPError, url: str) -> EndpointError:
    """The error for an answer that did not come, or not whole."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    follow = "see that the endpoint runs there, and that base_url is right"
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        follow = "give it more time (timeout), or less to do (max_tokens)"
    return EndpointError(f"no whole answer came from {url} ({told}): {follow}")


def words(body: bytes, secret: str | None = None) -> str:
    """What an endpoint says in the body of an error, on one line."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    while isinstance(found, Mapping):
        found = next((found[k] for k in ("error", "message", "detail") if found.get(k)), text)
    said = " ".join(found.split() if isinstance(found, str) else json.dumps(found).split())
    if secret:
        said = said.replace(secret, "***")
    return said if len(said) <= _SHOWN else said[:_SHOWN] + "..."


def _too_long(body: bytes) -> bool:
    """Whether the prompt is too long, as OpenAI (a code) and vLLM (in words) say it."""
    said = body.lower()
    return b"context_length_exceeded" in said or b"maximum context length" in said


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(not a standard status)"


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the endpoint asks to wait."""
    given = headers.get("retry-after", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None  # not NaN
