from __future__ import annotations

import pytest

from t2agent.bench import BENCHMARKS, Wanted, figures
from t2agent.cli import bench
from t2agent.errors import ConfigError

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
    ],
)
def test_wrong_arguments(run, args, exit_code, says):
    result = run("bench", *args)

    assert result.exit_code == exit_code
    assert says in result.stderr


def test_figures_are_named_by_their_place():
    result = {"a": {"b": 1, "c": {"d": 2}}, "e": 3, "note": "text"}

    assert figures(result) == {"a.b": 1, "a.c.d": 2, "e": 3}
    assert figures({"seeds": [1, 2], "summary": {"f": 4.5}}) == {"f": 4.5}


def test_what_is_wanted():
    assert Wanted(">=", 5).met(5)
    assert not Wanted(">=", 5).met(4.9)
    assert Wanted("<=", 1).met(0.5)
    assert not Wanted("<=", 1).met(1.1)
