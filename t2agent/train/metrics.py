"""What is kept of a training run: figures and replies as JSON lines, and curves as PNG."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from t2agent.errors import ConfigError
from t2agent.files import write_figure, write_text
from t2agent.tasks.reward import is_right
from t2agent.tasks.task import Example
from t2agent.train.lesson import Sampled

METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
CURVE = "curve.png"
REPORT = "report.md"

METRIC_NAMES = (
    "step", "loss", "reward", "reward_std", "no_spread", "reply_tokens", "longest", "cut",
    "entropy", "kl", "grad_norm", "learning_rate", "tokens", "seconds", "tokens_per_second",
    "memory", "val", "val_right",
)  # fmt: skip

Metrics = Mapping[str, Any]
"""The `METRIC_NAMES` of one step; None where nothing was measured.

Loss, KL and entropy (of the policy in training, at the tokens learnt from) are means per token, in
nats. Of the sampled replies: mean and standard deviation of the reward, the share of prompts whose
replies all earn the same (``no_spread``), mean and most tokens of a reply, and the share that
``max_tokens`` has ``cut`` off. ``memory`` is the peak so far in GiB: of the GPU's where it trains
there, else of the process. ``val`` and ``val_right`` are the mean reward and the share of right
replies on validation.
"""

_SAMPLES = 4  # of a validation
_SHOWN = 300  # characters of a text on the terminal


def sampled_figures(parts: Sequence[Sampled]) -> dict[str, float | None]:
    """The figures of what all processes have sampled in a step; None where nothing was."""
    names = ("reward_std", "no_spread", "reply_tokens", "longest", "cut")
    groups = [rewards for part in parts for rewards in part.rewards]
    lengths = [length for part in parts for length in part.lengths]
    if not lengths:
        return dict.fromkeys(names)
    found = (
        pstdev(reward for rewards in groups for reward in rewards),
        mean(len(set(rewards)) == 1 for rewards in groups),
        mean(lengths),
        max(lengths),
        sum(part.cut for part in parts) / len(lengths),
    )
    return dict(zip(names, found, strict=True))


def judged_reply(example: Example, reply: str, reward: float, right: float) -> dict[str, Any]:
    """A reply and what it is worth, as files of replies have it. ``right`` is from 0 to 1."""
    prompt, answer = example.prompt, example.answer
    return {"prompt": prompt, "answer": answer, "reply": reply, "reward": reward, "right": right}


def samples_of(
    step: int,
    by: str,
    examples: Sequence[Example],
    replies: Sequence[str],
    rewards: Sequence[float],
) -> list[Metrics]:
    """Some of a validation's replies, those to the same examples each time.

    by: "base" (the model as it is) or "expert" (what is in training).
    """
    some = list(zip(examples, replies, rewards, strict=True))[:_SAMPLES]
    return [
        {"step": step, "by": by, **judged_reply(one, reply, value, float(is_right(value)))}
        for one, reply, value in some
    ]


def shown_sample(row: Metrics) -> str:
    """A sample as a terminal shows it, in three lines; control characters must not steer it."""
    head = f"step {row['step']}, reward {row['reward']:.2f}{', right' if row['right'] else ''}"
    lines = (
        "".join(c if c.isprintable() else "\ufffd" for c in " ".join(row[key].split()))
        for key in ("prompt", "reply")
    )
    return "\n".join([head, *(f"  {line[:_SHOWN]}" for line in lines)])


def write_rows(path: Path, rows: Iterable[Metrics]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path, last_step: float = math.inf) -> list[Metrics]:
    """The rows up to a step. Later ones belong to a step whose result was not kept."""
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [row for row in rows if row["step"] <= last_step]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); delete the folder to train anew"
        ) from error


_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("reward", (("reward", "samples"), ("val", "validation"))),
    ("share right", (("val_right", "validation"),)),
    ("nats per token", (("loss", "loss"), ("kl", "KL to the base"))),
    ("entropy, nats per token", (("entropy", "entropy"),)),
    ("tokens of a reply", (("reply_tokens", "mean"), ("longest", "longest"))),
    ("share", (("no_spread", "prompts without spread"), ("cut", "replies cut off"))),
    ("gradient", (("grad_norm", "norm"),)),
    ("learning rate", (("learning_rate", "learning rate"),)),
    ("tokens a second", (("tokens_per_second", "tokens a second"),)),
    ("memory, GiB", (("memory", "peak"),)),
)
_SCALES = {"reward": (-1.05, 1.05), "share right": (-0.03, 1.03), "share": (-0.03, 1.03)}


def write_curve(folder: Path, rows: Sequence[Metrics], title: str) -> None:
    """Draw the figures over the steps, those that were measured."""
    from matplotlib.figure import Figure

    def points(key: str) -> list[tuple[int, float]]:
        return [(row["step"], row[key]) for row in rows if row.get(key) is not None]

    panels = [panel for panel in _PANELS if any(points(key) for key, _ in panel[1])]
    lines = -(-len(panels) // 2)
    figure = Figure(figsize=(9.0, 0.6 + 2.3 * lines), layout="constrained")
    figure.suptitle(title.replace("$", r"\$"))
    for place, (name, series) in enumerate(panels, 1):
        axes = figure.add_subplot(lines, 2, place)
        for key, label in series:
            if found := points(key):
                style = "o-" if key.startswith("val") else "-"
                axes.plot(*zip(*found, strict=True), style, markersize=3, label=label)
        if name == "reward":
            spread = [row for row in rows if row.get("reward_std") is not None]
            axes.fill_between(
                [row["step"] for row in spread],
                [row["reward"] - row["reward_std"] for row in spread],
                [row["reward"] + row["reward_std"] for row in spread],
                alpha=0.2,
                linewidth=0,
            )
        axes.set(ylabel=name, xlabel="step" if place > len(panels) - 2 else None)
        axes.set_ylim(*_SCALES.get(name, (None, None)))
        if len(series) > 1:
            axes.legend(frameon=False, fontsize="small")
    write_figure(folder / CURVE, figure, dpi=72)  # some 50 KB of an expert's 200


def attach_record(checkpoint: Path | str, expert: Path | str) -> None:
    """Copy metrics, curve and report of a training run into the folder of a saved expert.

    Of the metrics, what was not measured is left out, and numbers have five digits: a third of the
    size, which is shared with the expert.

    Raises:
        ConfigError: the checkpoint has no metrics, or the expert's folder is not there.
    """
    source, target = Path(checkpoint), Path(expert)
    if not target.is_dir():
        raise ConfigError(f"{target} is not a folder; save the expert there first")
    if not (source / METRICS).is_file():
        raise ConfigError(f"{source} has no {METRICS}; give the checkpoint= folder of a training")
    write_rows(
        target / METRICS,
        (
            {name: _short(value) for name, value in row.items() if value is not None}
            for row in read_rows(source / METRICS)
        ),
    )
    for name in (CURVE, REPORT):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
