"""Whether dispatch may choose an expert by itself: once its card shows that it is worth it.

A card shows it by a score beside the base model's, ``val`` and ``val_base`` or any other such pair,
as the trainer and ``t2agent experts eval`` write them: mean rewards, in [-1, 1], on examples that
the expert was not trained on. ``val_examples`` (or ``val_requests``) tells of how many; of the
trainer's own validation, ``training["validation"]`` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from t2agent.errors import ConfigError
from t2agent.experts import algebra, blend
from t2agent.experts.card import ExpertCard
from t2agent.files import write_text

OVERRIDES_FILE = "eligible.json"

BASE = "_base"
EXAMPLES = "_examples"
"""What the keys of a score's other two numbers end in: the base model's, and of how many."""

_MADE = {
    blend.METHOD: "a blend",
    algebra.METHOD: "arithmetic on experts",
    "transfer": "carried over from another base model",
}
_SEEN = ("train",)
_CERTAIN = 1.645  # standard errors: 95 %, one-sided
_UNKNOWN = 64  # examples that a score stands for where nobody says: as many as training takes
_SIZES = (3, 5, 10, 20, 50, 100, 200, 500, 1_000)
_ADDED = 1  # right and wrong replies each: with three examples, all right proves nothing yet


class Eligibility(NamedTuple):
    """Whether dispatch may choose an expert by itself, and why."""

    eligible: bool
    reason: str


def by_card(card: ExpertCard) -> Eligibility:
    """What the card shows.

    Blends, sums and transfers are for those who ask for them, whatever they score: what they are
    made of has the same requests. Others need a score that is certainly above the base model's
    (one-sided, at 95 %, the rewards taken as independent and as far apart as they can be).
    """
    method = card.training.get("method")
    if method in _MADE:
        return Eligibility(False, f"{_MADE[method]}: only when asked for")
    close = ""
    for key, score, base, examples in _compared(card):
        told = f"{key} {score:.2f}, base model {base:.2f}"
        if _is_above(score, base, examples):
            return Eligibility(True, told)
        close = close or f"{told}: {_missing(score, base, examples)}"
    missing = close or "no score stands beside the base model's: measure it (t2agent experts eval)"
    return Eligibility(False, f"{missing}, or allow it all the same ({_allowing(card)})")


def _missing(score: float, base: float, examples: int) -> str:
    """What a score lacks that is not certainly above the base model's, and what to do."""
    if score <= base:
        return "no better than the base model; train it longer, or on more examples"
    enough = next((n for n in _SIZES if n > examples and _is_above(score, base, n)), None)
    few = f"{examples} unseen example{'s' * (examples != 1)}"
    if enough is None:
        return f"too close to tell by {few}; train it longer, or on more examples"
    return (
        f"too few to be sure, {few}, where {enough} may do; train with more examples (of a file, "
        "a tenth is kept for this), measure on more (t2agent experts eval)"
    )


def _allowing(card: ExpertCard) -> str:
    model = f" -m {card.base}" if card.base else ""
    return f"t2agent experts eligible {card.name} --yes{model}"


def _compared(card: ExpertCard) -> Iterator[tuple[str, float, float, int]]:
    """Each score on unseen examples that stands beside the base model's, and of how many."""
    for base_key, base in card.scores.items():
        key = base_key.removesuffix(BASE)
        score = card.scores.get(key)
        if key != base_key and key not in _SEEN and _is_reward(score) and _is_reward(base):
            yield key, float(score), float(base), _count(card, key)  # type: ignore[arg-type]


def _count(card: ExpertCard, key: str) -> int:
    told: list[Any] = [card.scores.get(key + EXAMPLES), card.scores.get(f"{key}_requests")]
    if key == "val":  # of older trainers' cards, at most as many as were asked for
        hyper = card.training.get("hyper")
        asked = hyper.get("validation") if isinstance(hyper, Mapping) else None
        told += [card.training.get("validation"), asked]
    elif key == "examples":  # of a search with few examples
        told += [card.training.get("examples")]
    return next((one for one in told if _is_count(one)), _UNKNOWN)


def _is_above(score: float, base: float, examples: int) -> bool:
    # Shares of right replies; Agresti and Caffo (2000): add one of each kind to both.
    shares = [((1 + r) / 2 * examples + _ADDED) / (examples + 2 * _ADDED) for r in (score, base)]
    variance = sum(share * (1 - share) for share in shares) / (examples + 2 * _ADDED)
    return shares[0] - shares[1] > _CERTAIN * math.sqrt(variance)


def _is_reward(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Overrides:
    """What a user says of experts, whatever their cards show; kept in the user's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / OVERRIDES_FILE

    def read(self) -> dict[str, bool]:
        """The expert's name -> whether it may be chosen; raises ConfigError where damaged."""
        try:
            plain = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(self._damaged(str(error))) from error
        if not isinstance(plain, dict) or not all(isinstance(v, bool) for v in plain.values()):
            raise ConfigError(self._damaged("it is no JSON object of names and true or false"))
        return plain

    def put(self, name: str, eligible: bool | None) -> None:
        """Say it of one expert; None leaves it to the card. Raises as `read`."""
        before = self.read()
        after = {**before, name: eligible}
        wanted = {key: after[key] for key in sorted(after) if after[key] is not None}
        if wanted != before:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps(wanted, indent=2) + "\n")

    def _damaged(self, why: str) -> str:
        return f"{self._path} is damaged: {why}. Put a good copy there, or delete it."
