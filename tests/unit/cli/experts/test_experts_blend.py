from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from t2agent.experts.registry import Registry


@pytest.fixture
def added(run, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder))


@pytest.mark.usefixtures("added")
def test_a_blend_is_saved_and_found(run, run_json, tiny, t2agent_home):
    made = run_json("experts", "blend", "both", "--of", "sums=0.5", "--of", "poems=-1e-1",
                    "--description", "Both.", "-m", tiny)  # fmt: skip

    assert made["mixture"] == {"weights": {"sums": 0.5, "poems": -0.1}, "layers": {}}
    assert Path(made["folder"]).is_relative_to(t2agent_home)
    registry = Registry(tiny)
    wanted = 0.5 * registry.get("sums") - 0.1 * registry.get("poems")
    for module, z in registry.get("both").z.items():
        torch.testing.assert_close(z, wanted.z[module], rtol=1e-5, atol=1e-6)
    assert registry.card("both").description == "Both."
    assert "Saved in" in run("experts", "blend", "b2", "--of", "sums=1", "-m", tiny).stdout


@pytest.mark.usefixtures("added")
def test_a_mixture_from_a_file(run, run_json, tiny, tmp_path):
    mixture = {"weights": {"sums": 1.0}, "layers": {"model.layers.1": {"sums": 0, "poems": 2}}}
    file = tmp_path / "mixture.json"
    file.write_text(json.dumps(mixture))

    made = run_json("experts", "blend", "both", "--mixture", str(file), "-m", tiny)

    assert made["mixture"]["layers"] == {"model.layers.1": {"sums": 0.0, "poems": 2.0}}
    registry = Registry(tiny)
    for module, z in registry.get("both").z.items():
        one = registry.get("sums") if "layers.0." in module else 2 * registry.get("poems")
        torch.testing.assert_close(z, one.z[module], rtol=1e-5, atol=1e-6)
    for text in ("{", "[1]", '{"weights": {"sums": "x"}}', '{"wights": {}}', "[" * 100_000):
        file.write_text(text)
        refused = run("experts", "blend", "other", "--mixture", str(file), "-m", tiny)
        assert refused.exit_code == 1
        assert "Traceback" not in refused.stderr


@pytest.mark.usefixtures("added")
def test_what_is_refused(run, tiny, tmp_path):
    def code(*args: str) -> int:
        return run("experts", "blend", *args, "-m", tiny).exit_code

    assert code("new") == 2
    for wrong in ("sums", "sums=", "=1", "sums=x", "", "{}"):
        assert code("new", "--of", wrong) == 1
    assert code("new", "--of", "sums=1", "--of", "sums=2") == 1
    assert code("new", "--of", "sums=nan") == 1
    assert code("new", "--of", "nobody=1") == 1
    assert code("no name", "--of", "sums=1") == 1
    assert code("new", "--mixture", str(tmp_path / "none.json")) == 1
    assert code("sums", "--of", "poems=1") == 1
    assert code("sums", "--of", "poems=1", "--replace") == 0
