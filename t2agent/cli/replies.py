"""How replies and who gave them are shown."""

from __future__ import annotations

from collections.abc import Mapping


def printable(text: str) -> str:
    """Without control characters: a model's text must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def answered_by(weights: Mapping[str, float], *, in_scope: bool) -> str:
    """The experts with their weights, or the base model."""
    experts = ", ".join(f"{name} {weight:.2g}" for name, weight in weights.items() if weight)
    if experts:
        return experts
    return "base model" if in_scope else "base model (no expert's task)"
