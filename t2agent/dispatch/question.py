"""The question by which a model is asked for a request's category (strategies A and B)."""

from __future__ import annotations

from collections.abc import Sequence

from t2agent.dispatch.dispatcher import Request

OTHERS = "others"
"""The answer where no category fits: the base model shall answer."""


def category_question(request: Request, names: Sequence[str]) -> str:
    """Ask which of the categories a request belongs to; the reply wanted is its bare name.

    Source: Transformer-Squared (arXiv 2501.06252), sec. 3.3, prompt-based adaptation. Deviation:
    the categories are the names of the experts at hand, and what comes before the request is the
    same for every request.
    """
    kind = "Request with an image" if request.images else "Request"
    return f"Which kind of request is this: {', '.join(names)} or {OTHERS}?\n{kind}: {request.text}"
