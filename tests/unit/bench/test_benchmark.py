"""What the benchmark of t2-nano makes of its figures, and its controls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2agent.bench.nano import (
    Table,
    not_above_base,
    summarise,
    summary,
    swapped,
    without_image,
)
from t2agent.nano.tasks import DOMAINS, TASKS, conflicting


def table(scores: dict[str, dict[str, float]]) -> Table:
    return Table(scores, dispatched={}, routed={})


def even(value: float) -> dict[str, dict[str, float]]:
    return {task: {"base": 0.2, **dict.fromkeys(DOMAINS, value)} for task in DOMAINS}


def test_wrong_experts_count_only_where_habits_conflict() -> None:
    pairs = sum(conflicting(a, b) for a in DOMAINS for b in DOMAINS)
    scores = even(0.2)
    assert not_above_base(table(scores)) == 1.0  # equal is not above
    scores["math"]["code"] = 0.3
    assert not_above_base(table(scores)) == pytest.approx(1 - 1 / pairs)
    scores["math"]["math"] = 1.0  # its own expert
    scores["math"]["chart"] = scores["math"]["json"] = 0.9  # they do not conflict
    assert not_above_base(table(scores)) == pytest.approx(1 - 1 / pairs)
    scores["reasoning"]["tools"] = scores["read"]["count"] = 0.3
    assert not_above_base(table(scores)) == pytest.approx(1 - 3 / pairs)


def test_controls_change_the_image_and_nothing_else() -> None:
    examples = TASKS["read"].sample(4, seed=0, split="test")
    for changed in (without_image(examples), swapped(examples)):
        assert [replace(e, image=None) for e in changed] == [
            replace(e, image=None) for e in examples
        ]
    assert len({e.image.tobytes() for e in without_image(examples) if e.image}) == 1
    assert swapped(examples)[1].image is examples[0].image
    assert swapped(examples)[0].image is examples[3].image


def test_a_blank_image_is_not_padding_to_the_processor() -> None:
    # Idefics3 drops images that are all zero after normalisation.
    (blank,) = without_image(TASKS["read"].sample(1, seed=0, split="test"))
    assert isinstance(blank.image, Image.Image)
    assert (np.asarray(blank.image, float) / 255 != 0.9).all()


def test_summary_is_the_mean_over_seeds() -> None:
    per_seed: list[dict[str, Any]] = [
        {
            "by_expert": even(value),
            "dispatched": {**dict.fromkeys(DOMAINS, value), "code": value - 0.1},
            "routed": dict.fromkeys(DOMAINS, 1.0),
            "blank_image": value,
            "swapped_image": 0.0,
            "not_above_base": 1.0,
        }
        for value in (0.4, 0.8)
    ]
    found = summarise(per_seed)
    assert found["blank_image"] == pytest.approx(0.6)
    assert found["dispatch_gap"] == pytest.approx(0.1)
    assert found["tasks"]["math"] == pytest.approx(
        {"base": 0.2, "wrong expert": 0.6, "right expert": 0.6, "dispatched": 0.6}
    )


TABLE = Table(
    {
        "math": {"base": 0.1, "math": 0.9, "code": 0.0, "read": 0.2},
        "code": {"base": 0.3, "math": 0.0, "code": 0.75, "read": 0.5},
    },
    dispatched={"math": 0.88, "code": 0.7},
    routed={"math": 1.0, "code": 0.9},
)


def test_summary_separates_own_from_others() -> None:
    assert summary(TABLE) == {
        "math": {"base": 0.1, "wrong expert": 0.1, "right expert": 0.9, "dispatched": 0.88},
        "code": {"base": 0.3, "wrong expert": 0.25, "right expert": 0.75, "dispatched": 0.7},
    }
