"""Dispatch: from a request to the mixture of experts that shall answer it.

`EmbeddingDispatcher` loads on first use; the rest is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2agent.dispatch.base import Decision, Dispatcher, Request

if TYPE_CHECKING:
    from t2agent.dispatch.embedding import EmbeddingDispatcher

__all__ = ["Decision", "Dispatcher", "EmbeddingDispatcher", "Request"]


def __getattr__(name: str) -> Any:
    if name == "EmbeddingDispatcher":
        from t2agent.dispatch.embedding import EmbeddingDispatcher

        return EmbeddingDispatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
