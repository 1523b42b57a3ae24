"""Tools on offer: how they stand before a request, and which of them fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np

from t2agent.dispatch.encoder import Encoder, Vectors
from t2agent.replies.schemas import parameters, properties

START = "Tools:\n"
"""What an example request begins with that offers tools."""

_SHOWN = 4  # more would push the request out of what an encoder reads
_KEPT = 4096  # vectors of tools
_RECENT = 32  # vectors of requests


def offer(tools: Sequence[Mapping[str, Any]]) -> str:
    """OpenAI's function tools in the manner of t2-nano's requests; "" for none.

    Tools:
    - name(argument: type): description
    """
    lines = []
    for tool in tools[:_SHOWN]:
        function = tool["function"]
        described = ", ".join(
            f"{key}: {schema.get('type', 'any') if isinstance(schema, Mapping) else 'any'}"
            for key, schema in properties(parameters(function)).items()
        )
        lines.append(f"- {function['name']}({described}): {function.get('description', '')}\n")
    return START + "".join(lines) + "\n" if lines else ""


def calls_tools(examples: Sequence[str]) -> bool:
    """Whether an expert with these example requests is one for calling tools."""
    return bool(examples) and 2 * sum(e.startswith(START) for e in examples) >= len(examples)


def without_offer(example: str) -> str:
    """An example request without the tools that it offers."""
    offered, gap, asked = example.partition("\n\n")
    return asked if gap and offered.startswith(START) and asked.strip() else example


class ToolSimilarity:
    """How well tools fit requests, by a sentence encoder. To be used from any thread."""

    def __init__(self, encoder: Encoder) -> None:
        def encoded(text: str) -> Vectors:
            [vector] = encoder.encode([text])
            return np.asarray(vector, np.float32)

        # A request is looked at several times within one call: its own few are kept apart.
        self._vector = lru_cache(maxsize=_KEPT)(encoded)
        self.request_vector = lru_cache(maxsize=_RECENT)(encoded)

    def of(self, request: str, tools: Sequence[Mapping[str, Any]]) -> list[float]:
        """The cosine between a request and each of OpenAI's function tools; 1 for a tool that the
        request names.

        A tool is its name in words, its description and the names of its parameters.
        """
        if not tools:
            return []
        vectors = np.stack([self._vector(_in_words(tool["function"])) for tool in tools])
        named = [_names(request, str(tool["function"]["name"])) for tool in tools]
        found = vectors @ self.request_vector(request)
        return [1.0 if known else float(one) for one, known in zip(found, named, strict=True)]


@runtime_checkable
class RanksTools(Protocol):
    """A dispatcher whose encoder may rank tools, too: vectors of requests are then made once."""

    @property
    def tool_similarity(self) -> ToolSimilarity:
        """How well tools fit requests."""
        ...


def _names(request: str, name: str) -> bool:
    """Whether a request has the name of a tool in it, which is no word that others use."""
    return ("_" in name or not name.islower()) and name in request


def _in_words(function: Mapping[str, Any]) -> str:
    name = str(function["name"]).replace("_", " ")
    keys = ", ".join(map(str, properties(parameters(function))))
    return f"{name}: {function.get('description', '')} {keys}"
