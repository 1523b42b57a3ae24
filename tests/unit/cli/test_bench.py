from __future__ import annotations

import json

import pytest

from t2agent.bench import BENCHMARKS, Wanted, figures
from t2agent.cli import bench
from t2agent.errors import ConfigError
from tests.unit.bench import paper_suite
from tests.unit.cli.conftest import save

SMALL = ("--set", "rows=48", "--set", "columns=96", "--set", "repeats=1")


def test_the_list(run, run_json):
    assert set(run_json("bench", "list")) == set(BENCHMARKS)
    assert "CLINC150" in run("bench").stdout


def test_a_table_beside_what_is_wanted_and_a_chart(run, run_json, tmp_path):
    report = run_json("bench", "decompose", *SMALL, "--plot", str(tmp_path / "chart.png"))

    assert report["decompose"]["results"]["times_faster"] > 0
    assert report["decompose"]["wanted"] == {"times_faster": ">= 5", "bytes_ratio": "<= 0.25"}
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    table = run("bench", "decompose", *SMALL).stdout
    assert "times_faster" in table
    assert ">= 5" in table


def test_all_goes_on_where_data_is_missing(run, run_json, monkeypatch):
    def measure(name, **settings):
        if name == "clinc":
            raise ConfigError("no data set here")
        return {"times_faster": 6.0, **settings}

    few = {name: BENCHMARKS[name] for name in ("clinc", "decompose")}
    monkeypatch.setattr(bench, "BENCHMARKS", few)
    monkeypatch.setattr(bench, "run", measure)

    report = run_json("bench", "all", "--set", "rows=2")
    assert report["decompose"]["results"] == {"times_faster": 6.0, "rows": 2}
    assert report["clinc"] == {"not_measured": "no data set here"}
    assert "clinc: not measured, no data set here" in run("bench", "all").stdout
    monkeypatch.setattr(bench, "BENCHMARKS", {"clinc": few["clinc"]})
    assert run("bench", "all").exit_code == 1


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (("nothing",), 1, "decompose"),
        (("decompose", "--set", "colour=1"), 1, "rows, columns, repeats"),
        (("decompose", "--set", "colour"), 2, "KEY=VALUE"),
        (("decompose", "--quick"), 1, "; paper and real and adapt would take that"),
        (
            ("decompose", "--model", "x", "--out", "y"),
            1,
            "repeats; paper and real would take that",
        ),
        (("paper", "--set", "colour=1"), 1, "unknown option(s) colour; known: parts"),
        (("paper", "--set", "methods=svf"), 1, "methods is 'svf'; it must be a list"),
        (("paper", "--task", "gsm8k"), 1, "t2-nano, which is measured on its own"),
    ],
)
def test_wrong_arguments(run, args, exit_code, says):
    result = run("bench", *args)

    assert result.exit_code == exit_code
    assert says in result.stderr


def test_all_leaves_out_what_takes_hours(run_json, monkeypatch):
    few = {name: BENCHMARKS[name] for name in ("paper", "decompose")}
    monkeypatch.setattr(bench, "BENCHMARKS", few)
    monkeypatch.setattr(bench, "run", lambda name, **settings: {"times_faster": 6.0})

    report = run_json("bench", "all")
    assert report["paper"] == {
        "not_measured": "it takes hours; run it by its name: t2agent bench paper"
    }
    assert "results" in report["decompose"]


@pytest.mark.slow
def test_the_papers_experiments_on_a_checkpoint_and_files(run, run_json, tmp_path):
    model = str(save(paper_suite.build(), tmp_path / "tiny-qwen2"))
    tasks = [part for file in paper_suite.files(tmp_path) for part in ("--task", file)]
    sizes = {**paper_suite.TINY, "methods": ["svf-mlp"], "rates_on": 0, "requests": 2}
    sizes["work"] = str(tmp_path / "work")
    settings = [
        part
        for key, value in sizes.items()
        for part in ("--set", f"{key}={value if key == 'work' else json.dumps(value)}")
    ]
    args = ("bench", "paper", "--quick", "--model", model, *tasks, *settings)

    report = run_json(*args, "--out", str(tmp_path / "out"))["paper"]
    assert report["results"]["model"] == model
    assert report["results"]["plan"]["methods"] == ["svf-mlp"]
    assert report["wanted"]["share.embedding"] == "<= 0.02"
    assert (tmp_path / "out" / "report.md").is_file()
    assert not (tmp_path / "work" / "report.md").exists()
    begun = {f: f.stat().st_mtime_ns for f in (tmp_path / "work").glob("*/*_*.json")}
    table = run(*args, "--plot", str(tmp_path / "chart.png")).stdout
    assert "routed.classifier" in table
    assert f"Report: {tmp_path / 'work' / 'report.md'}" in table.replace("\n", "")
    assert begun == {f: f.stat().st_mtime_ns for f in (tmp_path / "work").glob("*/*_*.json")}
    assert (tmp_path / "chart.png").is_file()


def test_figures_are_named_by_their_place():
    result = {"a": {"b": 1, "c": {"d": 2}}, "e": 3, "note": "text"}

    assert figures(result) == {"a.b": 1, "a.c.d": 2, "e": 3}
    assert figures({"seeds": [1, 2], "summary": {"f": 4.5}}) == {"f": 4.5}


def test_what_is_wanted():
    assert Wanted(">=", 5).met(5)
    assert not Wanted(">=", 5).met(4.9)
    assert Wanted("<=", 1).met(0.5)
    assert not Wanted("<=", 1).met(1.1)
