"""What a training tells its user: figures, samples, trackers, the report."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.tracking import GeneralTracker

from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.models.model import T2Model
from t2agent.nano.tasks import TASKS
from t2agent.train import Example, ExampleTask, train_expert
from t2agent.train.lesson import Sampled
from t2agent.train.metrics import METRIC_NAMES, sampled_figures, shown_sample
from t2agent.train.report import write_report
from tests.models import build_text_model, tiny_text_model


class Notes(GeneralTracker):  # type: ignore[misc]
    """A tracker that keeps what it is told."""

    name = "notes"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.finished = 0

    @property
    def tracker(self) -> Notes:
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config |= values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_a_run_tells_samples_a_tracker_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, notes = T2Model.from_pretrained("t2-nano"), Notes()
    expert = train_expert(
        model, TASKS["math"], method="sft", steps=2, prompts=2, validate_every=1, validation=5,
        checkpoint=tmp_path, report_to=notes, verbose=True,
    )  # fmt: skip
    scores = expert.card.scores
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [step for step, _ in notes.rows] == [0, 1, 2]
    assert {**dict.fromkeys(METRIC_NAMES), "step": 2, **notes.rows[2][1]} == rows[2]
    assert notes.config["method"] == "sft"
    assert notes.finished == 1
    assert rows[0]["val_right"] == scores["val_base_right"]
    assert scores["val_right"] in [row["val_right"] for row in rows]
    assert rows[1]["entropy"] > 0

    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").open()]
    assert [(row["step"], row["by"]) for row in samples[::4]] == [
        (0, "base"), (1, "expert"), (2, "expert"),
    ]  # fmt: skip
    assert len({row["prompt"] for row in samples}) == 4
    assert all(row["right"] == (row["reward"] == 1.0) for row in samples)
    shown = capsys.readouterr().err
    assert all(line in shown for line in shown_sample(samples[0]).splitlines()[:1])

    report = (tmp_path / "report.md").read_text()
    best = [row for row in samples if row["step"] == expert.card.training["best_step"]]
    for row in (*samples[:4], *best):
        assert f"```\n{row['reply']}\n```" in report
    assert f"{round(scores['val_base_right'] * 5)} of 5" in report
    assert "](curve.png)" in report


def test_the_entropy_of_a_policy_that_knows_nothing() -> None:
    model, notes = build_text_model(), Notes()
    head = model.model.get_output_embeddings().weight
    with torch.no_grad():
        head.zero_()
    task = ExampleTask("t", [Example(f"say {i}", "x") for i in range(9)], lambda r, e: 0.0)
    train_expert(
        model, task, method="sft", steps=1, prompts=2, progress=False, checkpoint=False,
        max_tokens=2, report_to=notes,
    )  # fmt: skip
    found = torch.tensor(notes.rows[1][1]["entropy"]).exp().item()
    assert found == pytest.approx(head.shape[0], rel=1e-3)


def test_the_figures_of_what_was_sampled() -> None:
    parts = [Sampled([[1.0, -1.0], [1.0, 1.0]], [1, 2, 3, 4], 1), Sampled([[0.1] * 2], [4, 4], 2)]
    assert sampled_figures(parts) == {
        "reward_std": pytest.approx((0.67 - (2.2 / 6) ** 2) ** 0.5),
        "no_spread": pytest.approx(2 / 3), "reply_tokens": 3, "longest": 4, "cut": 0.5,
    }  # fmt: skip
    assert set(sampled_figures([]).values()) == {None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("trackio", "pip install trackio"),
        (["mlflow"], "tensorboard, wandb, trackio, or a tracker"),
    ],
)
def test_a_tracker_that_is_not_there_is_told_before(
    given: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing is installed

    def reward(reply: str, example: Example) -> float:
        raise AssertionError("training began")

    task = ExampleTask("t", [Example(f"say {i}", "x") for i in range(9)], reward)
    with pytest.raises(ConfigError, match=message):
        train_expert(tiny_text_model(), task, report_to=given, checkpoint=False)


def test_no_text_breaks_the_report(tmp_path: Path) -> None:
    evil = "````\n# Not a heading\n<script>|`"
    training = {
        "task": "a|b<i>", "method": "sft", "chosen": evil, "steps": 1, "best_step": 1, "seed": 0,
        "validation": 1, "seconds": 1.0, "parameters": 3, "max_tokens": 4, "hyper": {"kl": 0.0},
    }  # fmt: skip
    scores = {"val": 1.0, "val_base": -1.0, "val_right": 1.0, "val_base_right": 0.0}
    card = ExpertCard(
        "x_y_z", description=evil, examples=(evil,) * 20, training=training, scores=scores
    )
    sample = {"prompt": evil, "answer": evil, "reply": evil, "reward": -1.0, "right": 0.0}
    samples = [{"step": 0, "by": "base", **sample}, {"step": 1, "by": "expert", **sample}]
    write_report(tmp_path, card, data={"to train on": None}, samples=samples, told=[evil])

    outside, fence = [], ""
    for line in (tmp_path / "report.md").read_text().splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif opened := re.match("`{3,}", line):
            fence = opened[0]
        else:
            outside.append(line)
    assert not fence
    assert [line for line in outside if line.startswith("#")] == [
        "# x\\_y\\_z", "## What was trained", "## Curve", "## Base model and expert",
        "## Replies before and after", "### Request 1", "## Warnings", "## Card",
    ]  # fmt: skip
    assert not re.search(r"(?<!\\)[<`]", "\n".join(outside))
    assert r"| task | a\|b\<i\> |" in outside
