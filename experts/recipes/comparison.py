"""The files that SVF and LoRA are compared on: two tasks, beside each one that it does not train.

    python experts/recipes/comparison.py --data ../shared/data/real --out build/compared
    t2agent bench paper --model smollm2 --task build/compared/label.jsonl \
        --task build/compared/tools.jsonl --set parts='["methods"]' ...

Of `label`, the unseen labels are feelings, those of training subjects and intents; of `tools`, the
tools and services of the development rows, none of which is in training.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from pathlib import Path

import label
from recipe import Data, Row, shown_length, write_examples

from t2agent.bench.datasets import SHARED

TRAINED, UNSEEN = 2000, 300  # rows of a file
FEELINGS = ("emotions", "sentiment")
LONGEST = 700  # characters of a row's tools as the prompt shows them


def calls(rows: Iterable[Row]) -> list[Row]:
    """Rows of one call, with short tools."""
    return [
        {"prompt": row["prompt"], "tools": row["tools"], "calls": row["calls"]}
        for row in rows
        if len(row["calls"]) == 1 and shown_length(row["tools"]) < LONGEST
    ]


def main() -> None:
    """Write the four files."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", type=Path, default=SHARED / "real")
    asked.add_argument("--out", type=Path, default=Path("build/compared"))
    given = asked.parse_args()

    data, rng = Data(given.data), random.Random(0)
    labels = list(label.rows(data, rng))
    files = {
        "label": [row for row in labels if row["about"] not in FEELINGS],
        "label.unseen": [row for row in labels if row["about"] in FEELINGS],
        "tools": calls(data["tool_calls_train"]),
        "tools.unseen": calls(data["tool_calls_dev"]),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        rng.shuffle(rows)
        kept = rows[: UNSEEN if name.endswith("unseen") else TRAINED]
        write_examples(given.out / f"{name}.jsonl", kept)
        print(f"{name}: {len(kept)} rows")


if __name__ == "__main__":
    main()
