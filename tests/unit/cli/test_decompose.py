from __future__ import annotations

from t2agent.svf import decomposition


def test_the_cache_is_filled(run, run_json, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "elsewhere"))

    report = run_json("decompose", tiny)

    assert report["layers"] == 14
    stored = sum(file.stat().st_size for file in decomposition.folder().rglob("*.safetensors"))
    assert 0 < report["bytes"] < stored
    mlp = run_json("decompose", tiny, "--targets", "mlp")
    assert mlp["layers"] == 6
    assert "14 layers" in run("decompose", tiny).stdout


def test_what_cannot_be_decomposed(run, tiny, tmp_path):
    missing = run("decompose", str(tmp_path / "nothing"))
    nothing_left = run("decompose", tiny, "--targets", "no_such_layer")

    assert (missing.exit_code, nothing_left.exit_code) == (1, 1)
    assert missing.stderr.count("\n") == nothing_left.stderr.count("\n") == 1
