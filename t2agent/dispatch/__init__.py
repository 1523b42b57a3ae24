"""Dispatch: from a request to the mixture of experts that shall answer it.

The dispatchers load on first use; the rest is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from t2agent.dispatch.dispatcher import (
    CLASSIFIER,
    Decision,
    Dispatcher,
    Latest,
    Request,
    ToolAware,
)

if TYPE_CHECKING:
    from t2agent.dispatch.decision import DecisionDispatcher
    from t2agent.dispatch.embedding import EmbeddingDispatcher
    from t2agent.dispatch.few_shot.search import SearchOptions, SearchResult
    from t2agent.dispatch.few_shot.strategy import FewShotDispatcher, RefinedDispatcher
    from t2agent.dispatch.prompt import ClassifierDispatcher, PromptDispatcher

__all__ = [
    "CLASSIFIER",
    "ClassifierDispatcher",
    "Decision",
    "DecisionDispatcher",
    "Dispatcher",
    "EmbeddingDispatcher",
    "FewShotDispatcher",
    "Latest",
    "PromptDispatcher",
    "RefinedDispatcher",
    "Request",
    "SearchOptions",
    "SearchResult",
    "ToolAware",
]

_LAZY = {
    "ClassifierDispatcher": "prompt",
    "DecisionDispatcher": "decision",
    "EmbeddingDispatcher": "embedding",
    "FewShotDispatcher": "few_shot.strategy",
    "PromptDispatcher": "prompt",
    "RefinedDispatcher": "few_shot.strategy",
    "SearchOptions": "few_shot.search",
    "SearchResult": "few_shot.search",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
