from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from t2agent.cli.experts.naming import mixture_of
from t2agent.errors import ConfigError
from t2agent.experts.expert import Mixture
from t2agent.models.model import T2Model


def logits(model, text: str = "What is 2 plus 3?"):
    batch = T2Model.from_pretrained(model.name_or_path).tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits


@pytest.fixture
def registered(run, expert_folders) -> None:
    for folder in expert_folders.values():
        assert run("experts", "add", str(folder)).exit_code == 0


def test_a_lora_that_peft_loads(run_json, tiny, registered, tmp_path):
    out = tmp_path / "out"
    data = run_json("experts", "export", "sums", "-m", tiny, "--out", str(out), "--rank", "64")

    assert data["exact"] is True
    assert data["rank"] == 64
    assert data["folder"] == str(out)
    assert data["vllm"] == {"ok": True, "max_lora_rank": 64, "problems": []}
    base = AutoModelForCausalLM.from_pretrained(tiny)
    model = T2Model.from_pretrained(tiny)
    with model.adapted("sums"):
        wanted = logits(model.model)
    got = logits(peft.PeftModel.from_pretrained(base, str(out)).eval())
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_the_table_and_what_was_decided(run, tiny, registered, tmp_path):
    result = run("experts", "export", "sums", "-m", tiny, "-o", str(tmp_path / "a"), "--rank", "3")

    assert result.exit_code == 0
    assert "Rank 3: an approximation; --rank 64 is exact." in result.stdout
    assert "--max-lora-rank 8" in result.stdout
    layers = json.loads((tmp_path / "a" / "t2agent_export.json").read_text())["layers"]
    kinds = {layer["name"].rpartition(".")[2] for layer in layers}
    assert len(kinds) < len(layers)
    for kind in kinds:  # all layers are in the file, and of each kind the largest error is told
        errors = [layer["error"] for layer in layers if layer["name"].endswith(f".{kind}")]
        [line] = [line for line in result.stdout.splitlines() if f" {kind} " in line]
        assert f"{max(errors):.2e}" in line
        assert f" {len(errors)} " in line
    assert not any(layer["name"] in result.stdout for layer in layers)
    default = run("experts", "export", "sums", "-m", tiny, "-o", str(tmp_path / "b"))
    assert "Rank 64: exact" in default.stdout


def test_a_checkpoint(run, run_json, tiny, registered, tmp_path):
    out = tmp_path / "out"
    data = run_json("experts", "export", "sums", "-m", tiny, "-f", "merged", "-o", str(out))

    assert data["dtype"] == "float32"
    assert len(data["changed"]) == 14
    model = T2Model.from_pretrained(tiny)
    with model.adapted("sums"):
        wanted = logits(model.model)
    got = logits(AutoModelForCausalLM.from_pretrained(out))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    narrow = ("experts", "export", "sums", "-m", tiny, "-f", "merged", "-o", str(out))
    assert run_json(*narrow, "--dtype", "bfloat16")["dtype"] == "bfloat16"
    assert "layers changed" in " ".join(run(*narrow).stdout.split())


def test_a_mixture(run_json, tiny, registered, tmp_path):
    layers = {"model.layers.1": {"sums": 0}}
    plain = {"weights": {"sums": 0.5, "poems": -0.25}, "layers": layers}
    (tmp_path / "mix.json").write_text(json.dumps(plain))
    common = ("experts", "export", "both", "-m", tiny, "--rank", "64")
    wanted = Mixture.from_dict(plain).to_dict()
    for place, given in (("a", json.dumps(plain)), ("b", str(tmp_path / "mix.json"))):
        data = run_json(*common, "-o", str(tmp_path / place), "--mixture", given)
        assert data["mixture"] == wanted
        assert data["name"] == "both"
    data = run_json(*common, "-o", str(tmp_path / "c"),
                    "--mixture", "sums=0.5", "--mixture", "poems=-0.25")  # fmt: skip
    assert data["mixture"] == Mixture(plain["weights"]).to_dict()
    first, second, third = (
        (tmp_path / each / "adapter_model.safetensors").read_bytes() for each in "abc"
    )
    assert first == second != third


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        (["a=1"], {"a": 1.0}),
        (["a=0.7, b=.3"], {"a": 0.7, "b": 0.3}),
        (["a=1", "b=-2e-1", " c=3 "], {"a": 1.0, "b": -0.2, "c": 3.0}),
    ],
)
def test_weights(given, weights):
    assert mixture_of(given) == Mixture(weights)


@pytest.mark.parametrize(
    "given",
    [["a"], ["a="], ["=1"], [""], ["a=b"], ["{"], ["{}", "a=1"], ['{"a": 1}'], ["a=nan"], ["[]"]],
)
def test_what_is_no_mixture(given):
    with pytest.raises(ConfigError):
        mixture_of(given)


def test_mistakes(run, tiny, registered, tmp_path):
    def export(*more: str, name: str = "sums", out: Path = tmp_path / "out"):
        return run("experts", "export", name, "-m", tiny, "-o", str(out), *more)

    assert export("--rank", "0").exit_code == 2
    assert export("--rank", "3", "-f", "merged").exit_code == 2
    assert export("--format", "onnx").exit_code == 2
    assert run("experts", "export", "sums", "-m", tiny).exit_code == 2
    for result in (
        export(name="nobody"),
        export("--rank", "65"),
        export("--mixture", "nobody=1"),
        export("--mixture", str(tmp_path / "nothing.json")),
    ):
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    refused = export(out=tmp_path / "full")
    assert refused.exit_code == 1
    assert "thesis.tex" in refused.stderr


def test_an_adapter_for_llama_cpp(run, run_json, tiny, registered, tmp_path):
    from gguf import GGUFReader

    out = tmp_path / "both.gguf"
    command = ("experts", "export", "both", "-m", tiny, "-f", "gguf", "-o", str(out))
    data = run_json(*command, "--mixture", "sums=0.7+poems=0.3", "--rank", "64")
    assert (data["file"], data["architecture"], data["exact"]) == (str(out), "llama", True)
    assert data["mixture"]["weights"] == {"sums": 0.7, "poems": 0.3}
    assert len(GGUFReader(out).tensors) == 2 * len(data["layers"]) == 28
    shown = " ".join(run(*command, "--of", "sums=1", "--rank", "3").stdout.split())
    assert "Rank 3: an approximation; --rank 64 is exact." in shown
    assert "llama-server -m BASE.gguf --lora" in shown
