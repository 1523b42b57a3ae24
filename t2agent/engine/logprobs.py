"""Log-probabilities of a reply in the form of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from t2agent.models.compiling import Tokens
from t2agent.models.model import T2Model
from t2agent.models.sampling import TokenLogprob


def chat_logprobs(model: T2Model, found: Iterable[TokenLogprob] | None) -> dict[str, Any] | None:
    """{"content": [{"token", "logprob", "bytes", "top_logprobs": [...]}, ...]}, a token each; None
    of a reply of which none were kept."""
    if found is None:
        return None
    texts = Tokens.of(model).texts

    def entry(token: int, logprob: float) -> dict[str, Any]:
        spelled = texts[token]
        told = spelled.decode(errors="replace")
        return {"token": told, "logprob": logprob, "bytes": list(spelled)}

    return {
        "content": [
            {**entry(one.token, one.logprob), "top_logprobs": [entry(*top) for top in one.top]}
            for one in found
        ],
        "refusal": None,
    }
