from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

from t2agent.experts.expert import Expert
from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model


@pytest.fixture
def policy(tiny, tmp_path) -> Path:
    """A checkpoint as the authors save it."""
    state = T2Model.from_pretrained(tiny).model.state_dict()
    params = [torch.randn(min(v.shape)).bfloat16() for k, v in state.items() if "mlp" in k]
    named = {f"learnable_params_module_list.{i}": p for i, p in enumerate(params)}
    torch.save(named, tmp_path / "policy_params.pt")
    return tmp_path / "policy_params.pt"


@pytest.fixture
def adapter(tiny, tmp_path) -> Path:
    config = peft.LoraConfig(r=2, target_modules=["up_proj", "lm_head"], init_lora_weights=False)
    peft.get_peft_model(T2Model.from_pretrained(tiny).model, config).save_pretrained(
        str(tmp_path / "adapter"), save_embedding_layers=False
    )
    return tmp_path / "adapter"


def test_an_authors_checkpoint_is_registered(run, run_json, tiny, policy, t2agent_home):
    call = ("experts", "import", str(policy), "-f", "sakana", "-n", "theirs", "-m", tiny)
    data = run_json(*call, "--description", "Theirs.")

    assert data["modules"] == 6
    assert Path(data["folder"]).is_relative_to(t2agent_home)
    assert Registry(tiny).card("theirs").description == "Theirs."
    again = run(*call)
    assert again.exit_code == 1
    assert "replace" in again.stderr
    assert "Imported theirs" in run(*call, "--replace").stdout


def test_without_a_name_it_is_called_as_its_file(run_json, tiny, policy, tmp_path):
    named = policy.rename(tmp_path / "their maths (v2).pt")
    data = run_json("experts", "import", str(named), "-f", "sakana", "-m", tiny)
    assert data["name"] == "their-maths-v2"
    assert "their-maths-v2" in Registry(tiny)


def test_an_adapter_is_saved_with_its_share(run, run_json, tiny, adapter, tmp_path):
    call = ("experts", "import", str(adapter), "-f", "peft", "-n", "theirs", "-m", tiny)
    data = run_json(*call, "--out", str(tmp_path / "out"))

    assert data["folder"] == str(tmp_path / "out")
    assert data["lost"] == ["lm_head"]
    assert 0 < data["share_kept"] < 0.5
    card = Expert.load(tmp_path / "out").card
    assert card.training["imported"]["share_kept"] == data["share_kept"]
    assert "theirs" not in Registry(tiny)
    shown = run(*call, "--out", str(tmp_path / "out")).stdout
    assert "lm_head" in shown
    assert "not adapted" in shown
    assert f"Only {data['share_kept']:.2%}" in shown


def test_an_export_comes_back(run, run_json, tiny, expert_folders, tmp_path):
    run("experts", "add", str(expert_folders["sums"]))
    out = str(tmp_path / "out")
    run("experts", "export", "sums", "-m", tiny, "-o", out, "--rank", "64")

    result = run("experts", "import", out, "-f", "peft", "-n", "again", "-m", tiny)

    assert "100.00%" in result.stdout
    assert "Only" not in result.stdout
    registry = Registry(tiny)
    for name, z in registry.get("sums").z.items():
        torch.testing.assert_close(registry.get("again").z[name], z, atol=1e-4, rtol=1e-4)


def test_mistakes(run, tiny, policy, adapter, tmp_path):
    def load(source: Path, kind: str, *more: str):
        return run("experts", "import", str(source), "-f", kind, "-m", tiny, *more)

    assert load(policy, "onnx", "-n", "x").exit_code == 2
    for result in (
        load(policy, "peft", "-n", "x"),
        load(adapter, "sakana", "-n", "x"),
        load(tmp_path / "nothing", "sakana", "-n", "x"),
        load(policy, "sakana", "-n", "no name"),
        load(tmp_path / "###", "sakana"),
        load(policy, "sakana", "-n", "x", "--targets", "attention"),
    ):
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: ")
        assert "unexpected" not in result.stderr
    assert "x" not in Registry(tiny)
