"""What is kept of a training run: metrics as JSON lines and a curve as PNG."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError
from t2agent.files import write_figure, write_text

METRICS = "metrics.jsonl"
CURVE = "curve.png"

METRIC_NAMES = ("step", "loss", "reward", "kl", "grad_norm", "tokens", "seconds", "val")

Metrics = Mapping[str, Any]
"""The `METRIC_NAMES` of one step; None where nothing was measured. Loss and KL are per token."""


def write_metrics(folder: Path, rows: Sequence[Metrics]) -> None:
    """Write one JSON object a line."""
    write_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def read_metrics(folder: Path, last_step: int) -> list[Metrics]:
    """The rows up to a step. Later ones belong to a step whose result was not kept."""
    try:
        lines = (folder / METRICS).read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["step"] <= last_step]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / METRICS} cannot be read ({error}); delete the folder to train anew"
        ) from error


def write_curve(folder: Path, rows: Sequence[Metrics], title: str) -> None:
    """Draw reward (or loss, where nothing is sampled) and KL over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    left = figure.add_subplot()
    right = left.twinx()
    sampled = any(row.get("reward") is not None for row in rows)
    for axes, key, label, style in (
        (left, "reward", "reward of samples", {"color": "tab:blue", "alpha": 0.6}),
        (left, "val", "reward, validation", {"color": "tab:blue", "marker": "o"}),
        (right, "kl" if sampled else "loss", "KL to the base, nats per token" if sampled else
         "loss, nats per token", {"color": "tab:orange", "alpha": 0.8}),
    ):  # fmt: skip
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)
    left.set(xlabel="step", ylabel="reward", ylim=(-1.05, 1.05), title=title)
    right.set_ylabel("KL" if sampled else "loss")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    write_figure(folder / CURVE, figure)


def attach_record(checkpoint: Path | str, expert: Path | str) -> None:
    """Copy metrics and curve of a training run into the folder of a saved expert.

    Raises:
        ConfigError: the checkpoint has no metrics, or the expert's folder is not there.
    """
    source, target = Path(checkpoint), Path(expert)
    if not target.is_dir():
        raise ConfigError(f"{target} is not a folder; save the expert there first")
    if not (source / METRICS).is_file():
        raise ConfigError(f"{source} has no {METRICS}; give the checkpoint= folder of a training")
    for name in (METRICS, CURVE):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
