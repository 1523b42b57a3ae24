"""Adapters for llama.cpp: what is in the file, and what llama.cpp does with it where it is here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

from t2agent.errors import ConfigError
from t2agent.experts.expert import Mixture
from t2agent.models.exchange import export_gguf
from t2agent.models.exchange import gguf_export as writing
from t2agent.models.generate import Prompt, encode, generate
from t2agent.models.installed import is_installed
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.architectures import build, expert

LLAMA = os.environ.get("T2AGENT_LLAMA_PYTHON")

# Replies of llama.cpp, greedily, under the adapters and scales of its first argument.
_ASK = """
import ctypes, json, sys
import llama_cpp as ll
told = json.loads(sys.argv[1])
model = ll.Llama(told["base"], n_ctx=512, n_threads=1, verbose=False)
made = [ll.llama_adapter_lora_init(model.model, path.encode()) for path in told["adapters"]]
kind = ll.llama_adapter_lora_p_ctypes
each = (kind * len(made))(*[ctypes.cast(one, kind) for one in made])
scales = (ctypes.c_float * len(made))(*told["scales"])
ll.llama_set_adapters_lora(model.ctx, each, len(made), scales)
replies = []
for ids in told["ids"]:
    model.reset()
    model.eval(ids)
    replies.append([])
    while len(replies[-1]) < 8 and (token := model.sample(temp=0, repeat_penalty=1)) not in (0, 2):
        replies[-1].append(int(token))
        model.eval([token])
print(json.dumps(replies))
"""


def matrices(file: Path) -> dict[str, torch.Tensor]:
    """Name -> B A, the rows as transformers has them."""
    tensors = {
        one.name: dequantize(one.data, one.tensor_type).astype("float64")
        for one in GGUFReader(file).tensors
    }
    processor = LlamaTensorProcessor({"num_attention_heads": 4, "num_key_value_heads": 2})
    found = {}
    for name, b in tensors.items():
        if name.endswith(".lora_b"):
            weight = name.removesuffix(".lora_b")
            product = b @ tensors[f"{weight}.lora_a"]
            found[weight] = torch.from_numpy(np.array(processor.process(product, weight).weights))
    return found


def change(model: T2Model, what: Any) -> dict[str, torch.Tensor]:
    """Name in a GGUF file -> W' - W."""
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    before = {n: one.weight.detach().double() for n, one in model.targets.layers.items()}
    with model.merged(what):
        found = {n: one.weight.double() - before[n] for n, one in model.targets.layers.items()}
    named = {}
    for name, delta in found.items():
        _, _, number, part = name.split(".", 3)
        named[f"blk.{number}.{parts[part]}.weight"] = delta
    return named


def test_a_file_has_the_change_in_the_order_of_llama_cpp(tmp_path: Path) -> None:
    model, _ = build("llama")
    config = model.model.config
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    for seed, name in enumerate("ab"):
        model.registry.register(expert(model, name, seed))
    what = Mixture({"a": 0.7, "b": 0.3}, layers={"model.layers.1": {"a": 0.0}})
    file = tmp_path / "both.gguf"
    report = export_gguf(model, what, file, rank=max(model.shapes.values()), progress=False)
    assert report.exact
    assert (report.file, report.architecture, report.size) == (file, "llama", file.stat().st_size)
    wanted, got = change(model, what), matrices(file)
    assert got.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert float((got[name] - delta).norm() / delta.norm()) < 1e-5
    told = {name: one.contents() for name, one in GGUFReader(file).fields.items()}
    assert told["general.architecture"] == "llama"
    assert (told["general.type"], told["adapter.type"]) == ("adapter", "lora")
    assert told["adapter.lora.alpha"] == report.rank
    assert Mixture.from_dict(json.loads(told["t2agent.mixture"])) == what


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_error_of_an_approximation(dtype: str, tmp_path: Path) -> None:
    model, _ = build("llama")
    one = expert(model, "one", 1)
    file = tmp_path / "one.gguf"
    report = export_gguf(model, one, file, rank=5, dtype=dtype, progress=False)
    wanted, got = change(model, one), matrices(file)
    left = sum(float((got[name] - delta).square().sum()) for name, delta in wanted.items())
    whole = sum(float(delta.square().sum()) for delta in wanted.values())
    assert report.error == pytest.approx((left / whole) ** 0.5, rel=1e-3)
    assert not report.exact
    assert GGUFReader(file).fields["t2agent.error"].contents() == pytest.approx(report.error)


def test_what_is_refused_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = build("llama")
    one = expert(model, "one", 1)
    other = tmp_path / "base.gguf"
    other.write_bytes(b"GGUF of somebody's")
    for file, said in ((other, "no earlier export"), (tmp_path / "folder", "ends in .gguf")):
        with pytest.raises(ConfigError, match=said):
            export_gguf(model, one, file, progress=False)
    assert other.read_bytes() == b"GGUF of somebody's"
    with pytest.raises(ConfigError, match="'gpt2'; GGUF adapters are written for llama"):
        export_gguf(build("gpt2")[0], None, tmp_path / "new.gguf", progress=False)
    file = tmp_path / "one.gguf"
    export_gguf(model, one, file, rank=1, progress=False)
    first = file.read_bytes()

    def full(*args: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patched:
        patched.setattr("gguf.GGUFWriter.write_tensors_to_file", full)
        with pytest.raises(OSError, match="no room"):
            export_gguf(model, one, file, rank=2, progress=False)
    assert file.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.gguf", "one.gguf"]
    export_gguf(model, one, file, rank=2, progress=False)
    assert file.read_bytes() != first


def test_rows_of_queries_and_keys() -> None:
    rows = torch.arange(8.0)[:, None]  # two heads of four: pairs are (0, 2) and (1, 3)
    assert writing.permuted(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.slow
@pytest.mark.skipif(
    LLAMA is None or not is_installed("smollm2"), reason="needs llama_cpp and smollm2"
)
def test_llama_cpp_answers_as_we_do(tmp_path: Path) -> None:
    model = T2Model.from_pretrained("smollm2")
    export_gguf(model, "label", tmp_path / "label.gguf", rank=192, progress=False)
    labels = "anger, joy, sadness"
    texts = ("We won, and all of us danced.", "My dog died.", "Who has broken my window again?!")
    asked = [Prompt.user(f"Classify the text as one of: {labels}.\n\nText: {t}") for t in texts]
    with model.adapted("label"):
        ours = [generate(model, [one], GenerationOptions(max_tokens=8))[0].text for one in asked]
    told = {
        "base": str(model.gguf),
        "adapters": [str(tmp_path / "label.gguf")],
        "scales": [1.0],
        "ids": [encode(model, [one])["input_ids"][0].tolist() for one in asked],
    }
    done = subprocess.run(
        [str(LLAMA), "-c", _ASK, json.dumps(told)], capture_output=True, text=True, check=True
    )
    assert [model.tokenizer.decode(one) for one in json.loads(done.stdout)] == ours
