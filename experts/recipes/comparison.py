"""The files that SVF and LoRA are compared on: two tasks, beside each one that it does not train.

    python experts/recipes/comparison.py --data ../shared/data/real --out build/compared
    t2agent bench paper --model smollm2 --task build/compared/label.jsonl \
        --task build/compared/tools.jsonl --set parts='["methods"]' ...

Of `label`, the unseen labels are feelings, those of training subjects and intents; of `tools`, the
tools and services of the development rows, none of which is in training.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import label
from recipe import Data, Row, shown_length, write_tasks

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


def tasks(data: Data) -> dict[str, list[Row]]:
    """The four files."""
    rng = random.Random(0)
    labels = list(label.rows(data, rng))
    files = {
        "label": [row for row in labels if row["about"] not in FEELINGS],
        "label.unseen": [row for row in labels if row["about"] in FEELINGS],
        "tools": calls(data["tool_calls_train"]),
        "tools.unseen": calls(data["tool_calls_dev"]),
    }
    for rows in files.values():
        rng.shuffle(rows)
    return {
        name: rows[: UNSEEN if name.endswith("unseen") else TRAINED] for name, rows in files.items()
    }


if __name__ == "__main__":
    write_tasks(__doc__, "build/compared", tasks)
