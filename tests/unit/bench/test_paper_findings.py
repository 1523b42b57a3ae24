from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from t2agent.bench.paper import report
from t2agent.bench.paper.experiments import ONLINE, Experiments
from t2agent.bench.paper.figures import draw_all
from t2agent.bench.paper.findings import Findings
from t2agent.bench.paper.ledger import Job, Ledger
from t2agent.bench.paper.summary import summary
from t2agent.bench.paper.training import METHODS, Trained
from t2agent.train.confidence import Interval
from tests.unit.bench.paper_suite import plan, suite

SEEDS = (0, 1, 2)
JITTER = {0: -0.03, 1: 0.0, 2: 0.03}  # of the seeds; all means are the middle one
MATRIX = {  # task -> base, sums, poems
    "sums": (0.2, 0.9, 0.1),
    "sums_hard": (0.3, 0.8, 0.2),
    "poems": (0.4, 0.5, 0.95),
    "poems_hard": (0.5, 0.4, 0.7),
    "both": (0.1, 0.3, 0.2),
}
ONLINE_ACCURACY = {"prompt": 0.6, "classifier": 0.65, "embedding": 0.66}
FEW_SHOT = {"sums_hard": 0.82, "poems_hard": 0.69, "both": 0.5}
OWN = {"svf": 0.9, "svf-mlp": 0.85, "lora-r1": 0.86, "ia3": 0.99}


def results(found, the_plan):
    """Synthetic results of all kinds: key -> result."""
    for seed in the_plan.seeds:
        jitter = JITTER[seed]
        for task, (base, sums, poems) in MATRIX.items():
            row = {"base": base, "sums": sums, "poems": poems}
            yield f"matrix/{task}/{seed}", {k: v + jitter for k, v in row.items()}
            own = found.expected(task) or "sums"
            chosen = {own: 0.75, "others": 0.25}
            yield (
                f"online/{task}/{seed}",
                {s: {"accuracy": ONLINE_ACCURACY[s] + jitter, "chosen": chosen} for s in ONLINE},
            )
        for task, accuracy in FEW_SHOT.items():
            mixture = {"accuracy": accuracy + jitter, "mixture": {"sums": 1.25}, "seconds": 3.0}
            yield (
                f"few-shot/{task}/{seed}",
                {
                    "examples of": "poems" if task == "poems_hard" else task,
                    "few-shot": mixture,
                    "embedding+few-shot": mixture,
                    "best single": {"accuracy": 0.4 + jitter, "mixture": {"sums": 0.5}},
                },
            )
        for k in the_plan.scaling:
            yield f"scaling/{k}/both/{seed}", {"accuracy": k / 10, "mixture": {}, "seconds": 1}
        for strategy, share in zip(ONLINE, (0.3, 0.2, 0.01), strict=True):
            cost = {"share": share, "first_ms": 1000 * share, "whole_ms": 1000.0}
            yield f"cost/{strategy}/{seed}", cost
        for domain in found.domains:
            control = {"base": 0.2, "own": 0.9, "shuffled z": 0.1, "random z": 0.0}
            yield f"controls/{domain}/{seed}", control
        yield f"random-reward/sums/{seed}", {"random reward": 0.15}
        for n, (name, own) in enumerate(OWN.items()):
            measured = {"own": own + jitter, "sibling": own / 2, "parameters": 100 * (n + 1)}
            rates = METHODS[name].rates  # the last one is best; without a choice it is the second
            best = the_plan.rates.get(name, rates[2 if the_plan.rates_on else 1])
            key = f"compared/{name}/{best:g}/sums/{seed}"
            yield key, {**measured, "seconds": 10.0 * (n + 1)}
            for rate in rates:
                yield f"method/{name}/{rate:g}/sums/{seed}", {"val": float(rate == rates[2])}


def made(tmp_path, found, the_plan):
    ledger = Ledger(tmp_path / "work", {})
    pairs = results(found, the_plan)
    ledger.run("x", [Job(key, lambda r=r: r) for key, r in pairs], progress=False)
    trained = Trained(found, the_plan, ledger, given={})  # none was trained: no curves
    return Findings(Experiments(found, the_plan, ledger, trained))


@pytest.fixture
def findings(tmp_path):
    return made(tmp_path, suite(), plan(seeds=SEEDS, methods=tuple(OWN), scaling=(1, 5)))


def test_the_summary(findings):
    wanted = {
        "own.sums": 0.9,
        "own.sums_hard": 0.8,
        "own.poems": 0.95,
        "own.poems_hard": 0.7,
        # (sums, poems' expert) .1 <= .2 holds, (poems, sums' expert) .5 <= .4 does not.
        "wrong_at_most_base": 0.5,
        **dict.fromkeys(("routed.prompt", "routed.classifier", "routed.embedding"), 0.75),
        "share.prompt": 0.3,
        "share.classifier": 0.2,
        "share.embedding": 0.01,
        "least_gain.prompt": 0.1,  # on poems_hard: .6 - .5
        "least_gain.classifier": 0.15,
        "least_gain.embedding": 0.16,
        "least_gain.few-shot": 0.19,
        "least_gain.embedding+few-shot": 0.19,
        "oracle_gap": 0.14,  # on sums_hard: .8 - .66
        "over_single.sums_hard": 0.42,
        "over_single.poems_hard": 0.29,
        "over_single.both": 0.1,
        "least_over_single": 0.1,
        "combinations_won": 1,
        "behind_lora.svf.own": -0.04,
        "behind_lora.svf.sibling": -0.02,
        "behind_lora.svf-mlp.own": 0.01,
        "behind_lora.svf-mlp.sibling": 0.005,
    }

    assert summary(findings) == pytest.approx(wanted)


def test_the_tables(findings):
    tables = {table.name: table for table in findings.tables()}
    rows = {name: {row[0]: row[1:] for row in table.rows} for name, table in tables.items()}
    half = 4.30265 * 0.03 / 3**0.5

    assert rows["experts"]["sums"][0].mean == pytest.approx(0.2)
    assert rows["experts"]["sums"][0].half == pytest.approx(half, rel=1e-5)
    assert "50%" in tables["experts"].note
    assert [cell.mean for cell in rows["unseen"]["both"]] == pytest.approx(
        [0.1, 0.6, 0.65, 0.66, 0.5, 0.5, 0.3, 0.4]
    )
    assert rows["confusion-embedding"]["poems_hard"] == [0.0, 0.75, 0.25]
    assert [cell.mean for cell in rows["weights"]["both"]] == [1.25, 0.0, 3.0]
    assert tables["weights"].note == (
        "poems_hard has no examples to learn from: those of poems were used."
    )
    assert [cell.mean for cell in rows["scaling"]["both"]] == pytest.approx([0.1, 0.5])
    assert rows["methods"]["lora-r1"][:2] == [300, "0.01"]  # the rate with the best validation
    assert rows["methods"]["lora-r1"][2].mean == pytest.approx(0.86)
    assert rows["by-method"]["ia3"][1].mean == pytest.approx(0.495)
    assert rows["ablations"]["attention"] == [None] * 4  # not among the methods
    assert rows["ablations"]["mlp"][0].mean == pytest.approx(0.85)
    assert rows["costs"]["D, embedding"][0] == Interval(pytest.approx(0.01), pytest.approx(0.0))
    controls = [None if cell is None else cell.mean for cell in rows["controls"]["sums"]]
    assert controls == [pytest.approx(v) for v in (0.2, 0.9, 0.1, 0.0, 0.15)] + [None, None]
    assert rows["controls"]["poems"][4] is None


def test_the_figures(findings, tmp_path):
    drawn = draw_all(findings, tmp_path / "out")

    assert "curves.png" not in drawn
    assert {"experts.png", "confusion-prompt.png", "weights.png", "methods.png"} <= set(drawn)
    assert {"scaling.png", "unseen.png"} <= set(drawn)
    for name in drawn:
        with Image.open(tmp_path / "out" / name) as opened:
            pixels = np.asarray(opened.convert("L"))
        assert pixels.min() < 100
        assert (pixels < 250).mean() > 0.01, name


def test_the_report(findings, tmp_path):
    result = report(findings, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()

    assert result["report"] == str(tmp_path / "out" / "report.md")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(
        json.dumps(result)
    )
    assert "95 % intervals" in text
    for table in findings.tables():
        assert f"### {table.title}" in text
    assert "![unseen](unseen.png)" in text


def test_without_unseen_tasks_or_conflicts(tmp_path):
    alone = suite(siblings={}, combinations={}, conflicting=lambda one, other: False)
    alone = suite(
        tasks={name: alone.tasks[name] for name in alone.domains},
        siblings={},
        combinations={},
        conflicting=alone.conflicting,
    )
    findings = made(tmp_path, alone, plan(methods=tuple(OWN), rates_on=0))

    names = [table.name for table in findings.tables()]
    assert "unseen" not in names
    assert "weights" not in names
    assert "unseen.png" not in draw_all(findings, tmp_path)
    found = summary(findings)
    assert not any(key.startswith(("least_gain", "over_single", "combinations")) for key in found)
    assert "wrong_at_most_base" not in found
    assert "usual learning rate" in next(t for t in findings.tables() if t.name == "methods").note


@pytest.mark.parametrize(
    ("parts", "tables", "figures", "in_summary"),
    [
        (["methods"], ["methods", "by-method", "ablations"], ["methods"], {"behind_lora"}),
        (["experts"], ["experts"], ["experts"], {"own", "wrong_at_most_base"}),
        (["few-shot"], ["weights", "scaling"], ["weights", "scaling"], set()),
        (["costs", "controls"], ["costs", "controls"], [], {"share"}),
        (
            ["experts", "strategies", "few-shot"],
            ["experts", "unseen", "weights", "scaling", *(f"confusion-{s}" for s in ONLINE)],
            ["experts", *(f"confusion-{s}" for s in ONLINE), "weights", "scaling", "unseen"],
            {"own", "wrong_at_most_base", "routed", "least_gain", "oracle_gap", "over_single"}
            | {"least_over_single", "combinations_won"},
        ),
    ],
)
def test_a_part_has_its_own_tables_and_figures(tmp_path, parts, tables, figures, in_summary):
    findings = made(tmp_path, suite(), plan(parts=parts, methods=tuple(OWN), scaling=(1, 5)))

    assert [table.name for table in findings.tables()] == tables
    assert draw_all(findings, tmp_path) == [f"{name}.png" for name in figures]
    assert {key.partition(".")[0] for key in summary(findings)} == in_summary


def test_a_learning_rate_that_was_given(tmp_path):
    rates = {"svf": 0.03}
    findings = made(tmp_path, suite(), plan(seeds=SEEDS, methods=tuple(OWN), rates=rates))
    methods = next(table for table in findings.tables() if table.name == "methods")

    assert [row[2] for row in methods.rows] == ["0.03 (given)", "0.04", "0.01", "0.05"]
    assert methods.rows[0][3].mean == pytest.approx(0.9)
