"""How the experts of smollm2 were trained: rows of real data, then `t2agent train`.

    python experts/recipes/label.py --data ../shared/data/real

makes the file of examples, trains, and puts the expert beside the others. Stopped, the same command
goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.bench.datasets import SHARED, read_json, read_jsonl
from t2agent.cli.options import parsed
from t2agent.files import write_text
from t2agent.replies.signatures import signature

if TYPE_CHECKING:
    from t2agent import Expert, T2Model
    from t2agent.tasks.task import Task

Row = dict[str, Any]

SETTINGS = {"learning_rate": 0.03, "schedule": "cosine", "patience": 0}
"""What all recipes train with."""
CARD = 32
"""Requests on a card."""


class Data(dict[str, Any]):
    """The files of a folder by their names, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Any:
        lines = self.folder / f"{name}.jsonl.gz"
        whole = self.folder.parent / f"{name}.json.gz"
        self[name] = read_jsonl(lines) if lines.exists() else read_json(whole)
        return self[name]


@dataclass(frozen=True)
class Recipe:
    """What an expert is made of.

    Attributes:
        rows: the examples, from the data and a source of chance.
        reward: of `t2agent train --reward`.
        sources: names and licences of the data, for the card.
        settings: of `t2agent train --set`, beside `SETTINGS`.
        caution, beams, grounding: of the card.
    """

    name: str
    description: str
    rows: Callable[[Data, random.Random], Iterator[Row]]
    reward: str
    sources: Mapping[str, str]
    steps: int = 60
    method: str = "sft"
    settings: Mapping[str, Any] = field(default_factory=dict)
    caution: float = 0.0
    beams: int = 1
    grounding: float = 0.0
    shown: Callable[[Row], bool] = lambda _: True
    """Whether a row's request may stand on the card."""


def train(recipe: Recipe) -> None:
    """Train the recipe's expert, as the command line says."""
    from t2agent import Expert, T2Model
    from t2agent.train import ExampleTask, attach_record, train_expert
    from t2agent.train.metrics import REPORT

    here = Path(__file__).resolve().parent
    asked = argparse.ArgumentParser(description=recipe.description)
    asked.add_argument("--data", type=Path, default=SHARED / "real")
    asked.add_argument(
        "--out", type=Path, default=here.parent / "smollm2", help="the folder of the experts"
    )
    asked.add_argument("--work", type=Path, default=Path("runs"), help="where the run is kept")
    asked.add_argument("--steps", type=int, default=recipe.steps)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--method", default=recipe.method)
    asked.add_argument("--start", type=Path, help="an expert to go on from")
    asked.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of the way from --start that is gone in the end, such as .5: what was learnt before "
        "is kept better so (WiSE-FT, Wortsman et al., arXiv 2109.01903)",
    )
    asked.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = asked.parse_args()

    made = list(recipe.rows(Data(given.data), random.Random(0)))
    random.Random(1).shuffle(made)
    work = given.work / recipe.name
    work.mkdir(parents=True, exist_ok=True)
    file = work / "examples.jsonl"
    write_examples(file, made)
    model = T2Model.from_pretrained("smollm2")
    start = Expert.load(given.start) if given.start else None
    task = ExampleTask.from_jsonl(file, reward=recipe.reward)
    expert = train_expert(
        model,
        task,
        name=recipe.name,
        method=given.method,
        steps=given.steps,
        seed=given.seed,
        checkpoint=work / "run",
        description=recipe.description,
        start=start,
        negatives=None,
        **{**SETTINGS, **recipe.settings, **parsed(given.set)},
    )
    if start is not None and given.share < 1:
        expert = part_of_the_way(model, task, start, expert, given.share)
    requests = [request_of(row) for row in made if recipe.shown(row)]
    card = dataclasses.replace(
        expert.card,
        examples=tuple(dict.fromkeys(requests))[:CARD],
        license="other",
        caution=recipe.caution,
        beams=recipe.beams,
        grounding=recipe.grounding,
        training={**expert.card.training, "sources": dict(recipe.sources)},
    )
    folder = given.out / recipe.name
    Expert(card, expert.z).save(folder)
    attach_record(work / "run", folder)
    (folder / REPORT).unlink()  # it shows rows of validation, which are not all for showing
    print(f"{recipe.name}: {dict(card.scores)} in {folder}")


def part_of_the_way(model: T2Model, task: Task, start: Expert, end: Expert, share: float) -> Expert:
    """What lies so far on the way between two experts, with its own scores on validation."""
    from t2agent import Expert
    from t2agent.train.evaluation import evaluate

    z = ((1 - share) * start + share * end).z
    n = end.card.training["validation"]
    found = evaluate(model, task, Expert(end.card, z), n=n, split="val")
    scores = {
        "val": found.reward.mean,
        "val_base": found.base.mean,
        "val_right": found.right,
        "val_base_right": found.base_right,
    }
    training = {**end.card.training, "share": share}
    return Expert(dataclasses.replace(end.card, scores=scores, training=training), z)


def write_examples(file: Path, rows: Sequence[Row]) -> None:
    """Rows as the trainer reads them, one a line."""
    plain = ({key: value for key, value in row.items() if key != "about"} for row in rows)
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain))


def write_tasks(
    about: str | None, out: str, make: Callable[[Data], Mapping[str, list[Row]]]
) -> None:
    """The script of files for `t2agent bench paper`: tasks by name, unseen ones NAME.unseen."""
    asked = argparse.ArgumentParser(description=about)
    asked.add_argument("--data", type=Path, default=SHARED / "real")
    asked.add_argument("--out", type=Path, default=Path(out))
    given = asked.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, rows in make(Data(given.data)).items():
        write_examples(given.out / f"{name}.jsonl", rows)
        print(f"{name}: {len(rows)} rows")


def shown_length(tools: Sequence[Mapping[str, Any]]) -> int:
    """How many characters tools take in a prompt."""
    return sum(len(signature(tool["function"])) for tool in tools)


def base_replies(requests: Sequence[str], max_tokens: int = 40) -> list[str]:
    """What the base model says by itself, greedily; cut replies end with their last sentence."""
    from t2agent import ChatT2

    chat = ChatT2(model="smollm2", dispatch="off", max_tokens=max_tokens)
    said = [
        str(message.content)
        for start in range(0, len(requests), 25)
        for message in chat.batch(list(requests[start : start + 25]))
    ]
    return [re.sub(r"(?s)^(.*[.!?])[^.!?]*$", r"\1", text).strip() for text in said]


def request_of(row: Row) -> str:
    """What the user says last in a row."""
    if "prompt" in row:
        return str(row["prompt"])
    return str([m for m in row["messages"] if m["role"] == "user"][-1]["content"])
