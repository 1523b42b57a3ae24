"""An encoder that goes by words: fast, and its vectors are easy to foresee."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from t2agent.dispatch import encoder as encoder_module
from t2agent.dispatch import fitting as fitted
from t2agent.experts.card import ExpertCard, Modality

DIMENSION = 64


class WordModel:
    """Stands for a sentence encoder: the unit sum of one random vector a word."""

    dimension = DIMENSION

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.encoded: list[str] = []

    @property
    def identity(self) -> str:
        return f"words {self.seed}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> np.ndarray:
        total = np.full(DIMENSION, 1e-3, np.float32)
        for word in text.lower().split():
            digest = hashlib.sha256(f"{self.seed} {word}".encode()).digest()
            noise = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            total += noise.standard_normal(DIMENSION).astype(np.float32)
        return total / np.linalg.norm(total)


class Cards:
    """A registry as far as the dispatcher looks at one."""

    def __init__(self, *cards: ExpertCard) -> None:
        self.all = {card.name: card for card in cards}
        self.changes = 0

    @property
    def fingerprint(self) -> str:
        return f"{self.changes} {sorted(self.all)}"

    def cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        found = sorted(self.all.items())
        return {name: card for name, card in found if modality in (None, card.modality)}

    def put(self, card: ExpertCard) -> None:
        self.all[card.name] = card
        self.changes += 1

    def __contains__(self, name: object) -> bool:
        return name in self.all

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.all))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, t2agent_home) -> WordModel:
    """Every encoder of the test is this one, with a cache of its own."""
    (t2agent_home / "cache").unlink()  # the one that all tests share
    model = WordModel()
    monkeypatch.setattr(encoder_module, "_load", lambda name: model)
    return model


@pytest.fixture
def cards() -> Callable[..., Cards]:
    return Cards


def examples(topic: str, n: int) -> list[str]:
    """Requests about a topic that share a few words, in many combinations."""
    nouns = [f"{topic}{k}" for k in range(5)]
    return [f"{nouns[k % 5]} {nouns[(k + 1 + k // 5) % 5]} {topic} with word{k}" for k in range(n)]


@pytest.fixture
def topics() -> dict[str, list[str]]:
    """Three labels of different sizes."""
    return {"fish": examples("fish", 8), "iron": examples("iron", 11), "moon": examples("moon", 6)}


@pytest.fixture(autouse=True)
def nothing_shared() -> Iterator[None]:
    """Encoders and fits are kept for the process; here each test has its own."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    encoder_module._shared.cache_clear()
    fitted.forget()
