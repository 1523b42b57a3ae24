"""Dispatch: from a request to the mixture of experts that shall answer it.

The dispatchers load on first use; the rest is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from t2agent.dispatch.base import CLASSIFIER, Decision, Dispatcher, Latest, Request

if TYPE_CHECKING:
    from t2agent.dispatch.embedding import EmbeddingDispatcher
    from t2agent.dispatch.fewshot import FewShotDispatcher, RefinedDispatcher
    from t2agent.dispatch.prompt import ClassifierDispatcher, PromptDispatcher
    from t2agent.dispatch.search import SearchOptions, SearchResult

__all__ = [
    "CLASSIFIER",
    "ClassifierDispatcher",
    "Decision",
    "Dispatcher",
    "EmbeddingDispatcher",
    "FewShotDispatcher",
    "Latest",
    "PromptDispatcher",
    "RefinedDispatcher",
    "Request",
    "SearchOptions",
    "SearchResult",
]

_LAZY = {
    "ClassifierDispatcher": "prompt",
    "EmbeddingDispatcher": "embedding",
    "FewShotDispatcher": "fewshot",
    "PromptDispatcher": "prompt",
    "RefinedDispatcher": "fewshot",
    "SearchOptions": "search",
    "SearchResult": "search",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
