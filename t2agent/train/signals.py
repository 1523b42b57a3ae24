"""Trainings without a signal: whose sampled replies to one prompt all earn the same."""

from __future__ import annotations

from typing import Literal

from t2agent.train.checkpoint import Progress
from t2agent.train.options import TrainOptions

NoSignal = Literal["error", "keep"]
"""What a training does whose first steps have nothing to learn from: raise, or end with a warning
and what it began with."""

FIRST_STEPS = 5
"""After so many without a signal, no more are tried."""


def why(at: Progress, options: TrainOptions) -> str:
    """Why a phase has no signal so far, and what to do."""
    if at.lowest >= 1.0:
        return (
            "all sampled replies were right already, so there is nothing to learn from; give "
            "harder examples, or a reward with degrees"
        )
    if at.highest <= 0.0 and at.highest - at.lowest < 1e-9:
        teach = (
            "teach it for more steps (sft_steps)"
            if at.phase
            else "teach it first with --method sft (method='sft')"
        )
        return (
            f"no sampled reply was ever rewarded: {teach}, give a reward with degrees, or "
            f"raise temperature (now {options.temperature:g})"
        )
    return (
        "all replies to a prompt earned the same (from "
        f"{at.lowest:.2f} to {at.highest:.2f} in the mean of a step), so none is better than "
        f"another; raise samples (now {options.samples}) or temperature (now "
        f"{options.temperature:g}), or give a reward with degrees"
    )
