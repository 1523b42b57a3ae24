"""The report of a finished training, for people: what was trained, how, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2agent.experts.card import ExpertCard
from t2agent.files import write_text
from t2agent.paths import public_name
from t2agent.train.metrics import CURVE, REPORT, Metrics

_SHOWN = 2000  # characters of a text
_LISTED = 8  # requests of the card


def write_report(
    folder: Path,
    card: ExpertCard,
    *,
    data: Mapping[str, int | None],
    samples: Sequence[Metrics],
    told: Sequence[str],
) -> None:
    """Write ``report.md`` into the folder of a training run, beside its curve.

    Args:
        folder: the run's.
        card: of the expert that was trained.
        data: how many examples each split had (None: made without end).
        samples: replies of the validations, as `samples_of` makes them.
        told: the warnings of the training.
    """
    training = card.training
    lines = [
        f"# {_inline(card.name)}",
        "",
        *([_inline(card.description), ""] if card.description else []),
        "## What was trained",
        "",
        *_table(("", ""), _facts(card, data)),
        "",
        *_table(("option", "value"), [*_options(training)]),
        "",
        "## Curve",
        "",
        *([f"![Figures of the training over its steps]({CURVE})"] if _drawn(folder) else ["none"]),
        "",
        "## Base model and expert",
        "",
        *_table(("on validation", "mean reward", "right"), _worth(card)),
        "",
        "## Replies before and after",
        "",
        *_replies(samples, int(training["best_step"])),
        "## Warnings",
        "",
        *([f"- {_inline(one)}" for one in told] or ["none"]),
        "",
        "## Card",
        "",
        *_fenced(json.dumps(_short(card), indent=2, ensure_ascii=False), "json"),
    ]
    write_text(folder / REPORT, "\n".join(lines))


def _drawn(folder: Path) -> bool:
    return (folder / CURVE).is_file()


def _facts(card: ExpertCard, data: Mapping[str, int | None]) -> list[tuple[str, ...]]:
    training = card.training
    counts = (f"{name} {'without end' if n is None else n}" for name, n in data.items())
    facts = {
        "base model": public_name(card.base),
        "task": training["task"],
        "examples": ", ".join(counts),
        "judged by": training.get("reward"),
        "method": training["method"],
        "chosen because": training.get("chosen"),
        "trained": f"{training['parameters']:,} parameters",
        "steps": f"{training['steps']}, the best {training['best_step']}",
        "epochs": training.get("epochs"),
        "longest reply": f"{training['max_tokens']} tokens",
        "seed": training["seed"],
        "seconds": training["seconds"],
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def _options(training: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Of the last method; where another one went before, those that it had otherwise, too."""
    last = training["hyper"]
    before = {
        f"{phase['method']}: {name}": value
        for phase in training.get("phases", ())[:-1]
        for name, value in phase["hyper"].items()
        if value != last[name]
    }
    return [(name, str(value)) for name, value in {**last, **before}.items()]


def _worth(card: ExpertCard) -> list[tuple[str, ...]]:
    count, scores = int(card.training["validation"]), card.scores
    rows: list[tuple[str, ...]] = []
    for who, key in (("base model", "val_base"), (card.name, "val")):
        share = scores[f"{key}_right"]
        right = f"{round(share * count)} of {count} ({share:.1%})"
        rows.append((who, f"{scores[key]:.3f}", right))
    return rows


def _replies(samples: Sequence[Metrics], best: int) -> list[str]:
    """The base model's and the expert's replies to the same requests."""
    before = [row for row in samples if row["by"] == "base"]
    after = [row for row in samples if row["by"] == "expert" and row["step"] == best]
    if not after and best == 0:
        after = before  # the expert is the base model
    if not before or not after:
        return ["none were kept", ""]
    lines = []
    for number, (first, last) in enumerate(zip(before, after, strict=True), 1):
        lines += [f"### Request {number}", "", *_fenced(first["prompt"]), ""]
        if first["answer"]:
            lines += ["Wanted:", "", *_fenced(first["answer"]), ""]
        for who, row in (("Base model", first), ("Expert", last)):
            worth = f"reward {row['reward']:.3f}, {'right' if row['right'] else 'not right'}"
            lines += [f"{who} ({worth}):", "", *_fenced(row["reply"]), ""]
    return lines


def _short(card: ExpertCard) -> dict[str, Any]:
    """The card, with a few of its requests and how many there are."""
    plain = card.to_dict()
    for key in ("examples", "negatives"):
        texts = plain[key]
        if len(texts) > _LISTED:
            plain[key] = [*texts[:_LISTED], f"... and {len(texts) - _LISTED} more"]
    return plain


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([_inline(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _inline(text: str) -> str:
    """In one line, with nothing in it that Markdown or HTML would read."""
    return re.sub(r"(^[-+]|[\\`*_\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str = "") -> list[str]:
    """As it is, in a fence that is longer than any in it."""
    if len(text) > _SHOWN and not language:
        text = f"{text[:_SHOWN]}\n... ({len(text) - _SHOWN} more characters)"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}{language}", text, fence]
