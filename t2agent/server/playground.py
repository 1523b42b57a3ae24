"""The page at ``/``: one file, which speaks the public API and fetches nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.responses import HTMLResponse

_FILE = "playground.html"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def playground() -> HTMLResponse:
    """The page, with a policy under which its own script and style run and no others."""
    text, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(text, headers=headers)


@cache
def _page() -> tuple[str, str]:
    text = files("t2agent.server").joinpath(_FILE).read_text("utf-8")
    hashes = {
        f"{tag}-src": base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        for tag, body in _INLINE.findall(text)
    }
    allowed = [f"{kind} 'sha256-{digest}'" for kind, digest in hashes.items()]
    policy = "; ".join(
        [
            "default-src 'none'",
            *allowed,
            "connect-src 'self'",
            "img-src 'self' data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return text, policy
