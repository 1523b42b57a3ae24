"""Requests with pages of pasted text before or after them.

Figures wanted: at least .90 of the experts' own requests keep their expert or go to the base model,
whatever is pasted (`pasted.KINDS`, 50 to 5,000 words); the more keep it, the better. At least .85
of the near requests of the general kinds, with the same text beside them, are left to the base
model.
"""

from __future__ import annotations

import random
from typing import Any

from t2agent.bench.pasted import KINDS, pasted
from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.dispatch.pieces import MOST, pieces
from t2agent.dispatch.shipped_requests import GENERAL, written_requests
from t2agent.errors import ConfigError
from t2agent.experts.registry import Registry
from t2agent.nano.tasks import TASKS

SIZES = (50, 200, 1_000, 5_000)
_GAPS = ("\n\n", "\n", " ")
_TEXT = ("math", "code", "reasoning", "json")


def run(requests: int = 4) -> dict[str, Any]:
    """The shares ``kept`` (its expert answers), ``fine`` (or the base model) and ``refused``.

    Each over all kinds; ``by_kind`` and ``by_words`` have the same of each. ``most_pieces``: that
    were encoded of one request, of `pieces.MOST` at most.

    Args:
        requests: of each expert, for each kind and number of words; some are put after the text.

    Raises:
        ConfigError: there is none.
    """
    if requests < 1:
        raise ConfigError(f"requests is {requests}; give at least 1")
    dispatcher = EmbeddingDispatcher(Registry("t2-nano"))
    rows, most = [], 0
    for kind in KINDS:
        for words in SIZES:
            asked = _asked(kind, words, requests)
            for (label, text), decision in zip(
                asked, dispatcher.dispatch([Request(text) for _, text in asked]), strict=True
            ):
                most = max(most, sum(len(one.lengths) for one in pieces(text)))
                rows.append((kind, words, label, "+".join(decision.mixture.weights)))
    return {
        **_shares(rows),
        "by_kind": {kind: _shares([row for row in rows if row[0] == kind]) for kind in KINDS},
        "by_words": {size: _shares([row for row in rows if row[1] == size]) for size in SIZES},
        "most_pieces": most / MOST,
    }


def _asked(kind: str, words: int, n: int) -> list[tuple[str, str]]:
    """(expert, text); the expert of general requests is ""."""
    draw = random.Random(f"{kind} {words}")
    found = []
    for label in (*_TEXT, ""):
        own = (
            [
                example.prompt
                for example in TASKS[label].sample(n, seed=draw.getrandbits(30), split="test")
            ]
            if label
            else draw.sample(written_requests(GENERAL), n)
        )
        for number, question in enumerate(own):
            parts = [question, pasted(kind, words, number)]
            found.append((label, draw.choice(_GAPS).join(parts[:: 1 if number % 2 else -1])))
    return found


def _shares(rows: list[tuple[str, int, str, str]]) -> dict[str, float]:
    own = [(label, chosen) for _, _, label, chosen in rows if label]
    others = [chosen for _, _, label, chosen in rows if not label]
    return {
        "kept": sum(label == chosen for label, chosen in own) / len(own),
        "fine": sum(chosen in ("", label) for label, chosen in own) / len(own),
        "refused": sum(not chosen for chosen in others) / len(others),
    }
