"""The paper's tasks as files: GSM8K, MBPP and ARC-Easy, and of two of them one that is not trained.

    python experts/recipes/paper_tasks.py --data ../shared/data/real --out build/paper_tasks
    t2agent bench paper --model smollm2 --task build/paper_tasks/gsm8k.jsonl \
        --task build/paper_tasks/mbpp.jsonl --task build/paper_tasks/arc_easy.jsonl ...

MATH, HumanEval and ARC-Challenge, the paper's unseen tasks, are not among the data: sums in words
(the MAWPS family) and OpenBookQA stand in for the first and the last.
"""

from __future__ import annotations

from collections.abc import Iterable

from recipe import Data, Row, write_tasks

UNSEEN = 300  # rows of a file


def reasoned(rows: Iterable[Row]) -> list[Row]:
    """Rows with the way to the number as well."""
    return [
        {
            "prompt": row["prompt"],
            "answer": row["answer"],
            "reference": f"{row['solution']}\nThe answer is {row['answer']}.",
        }
        for row in rows
    ]


def plain(rows: Iterable[Row], *more: str) -> list[Row]:
    """Rows of nothing but prompt and answer, and of these fields."""
    return [{name: row[name] for name in ("prompt", "answer", *more)} for row in rows]


def tasks(data: Data) -> dict[str, list[Row]]:
    """The five files."""
    programs = [*data["mbpp_train"], *data["mbpp_test"]]
    return {
        "gsm8k": reasoned(data["gsm8k_train"]),
        "gsm8k.unseen": plain(data["arith_dev"][:UNSEEN]),
        "mbpp": plain(programs, "test", "entry_point"),
        "arc_easy": plain(row for row in data["choice_train"] if row["source"] == "arc_easy"),
        "arc_easy.unseen": plain(
            row for row in data["choice_dev"] if row["source"] == "openbookqa"
        )[:UNSEEN],
    }


if __name__ == "__main__":
    write_tasks(__doc__, "build/paper_tasks", tasks)
