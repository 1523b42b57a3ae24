"""Products by the packed weights of a GGUF file, against the format's own rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize
from gguf.quants import quantize

from t2agent.models import packed
from t2agent.models.packed import Codes

pytestmark = pytest.mark.skipif(not packed.available(), reason="no fast kernel here")

KINDS = {kind: GGMLQuantizationType[kind] for kind in ("Q4_0", "Q4_1", "Q8_0")}


def weight(rows: int = 48, columns: int = 96) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.3, (rows, columns)).astype(np.float32)


def unpacked(found: packed.PackedWeight, columns: int) -> torch.Tensor:
    """W (out, in), as the kernel computes with it: W times unit vectors."""
    return found(torch.eye(columns, dtype=torch.bfloat16)).mT


def test_the_kernel_computes_with_scale_and_zero_exactly() -> None:
    """Where bfloat16 holds d, m and the weights, the product is exact."""
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (64, 128), generator=draw, dtype=torch.uint8)
    d = 2.0 ** torch.randint(-4, 3, (64, 4), generator=draw)
    m = d * torch.randint(-8, 8, (64, 4), generator=draw)
    found = unpacked(Codes(codes, d, m + 8 * d).packed(), 128)
    exact = (codes.view(64, 4, 32) * d[..., None] + m[..., None]).view(64, 128)
    assert torch.equal(found.float(), exact)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_the_file_s_within_bfloat16(kind: str) -> None:
    data = quantize(weight(), KINDS[kind])
    exact = torch.tensor(dequantize(data, KINDS[kind]))
    codes = packed.codes(torch.tensor(data), kind)
    assert codes is not None
    found = unpacked(codes.packed(), 96).float()
    rounded = (exact.bfloat16().float() - exact).norm() / exact.norm()
    # d and m + 8 d are rounded too, and the sum is of opposite signs.
    assert (found - exact).norm() / exact.norm() < 2.5 * rounded


def test_what_the_kernel_does_not_take_is_left_out() -> None:
    assert packed.codes(torch.zeros(16, 110, dtype=torch.uint8), "Q6_K") is None
    assert packed.codes(torch.tensor(quantize(weight(40), KINDS["Q4_1"])), "Q4_1") is None


def test_a_file_is_packed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "home"))
    writer = GGUFWriter(tmp_path / "some.gguf", "llama")
    for name in ("a", "b"):
        data = quantize(weight(), KINDS["Q4_1"])
        writer.add_tensor(name, data, raw_dtype=KINDS["Q4_1"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    wanted = {"both": ["a", "b"], "none": ["c"]}
    first = packed.read(tmp_path / "some.gguf", wanted)
    assert first.keys() == {"both"}
    monkeypatch.setattr(packed, "_pack", None)  # a second time fails
    again = packed.read(tmp_path / "some.gguf", wanted)
    x = torch.randn(3, 96).bfloat16()
    assert torch.equal(again["both"](x), first["both"](x))
    assert again["both"](x).shape == (3, 96)
    [kept] = (tmp_path / "home" / "cache" / "packed").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    monkeypatch.undo()
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "home"))
    assert torch.equal(packed.read(tmp_path / "some.gguf", wanted)["both"](x), first["both"](x))
