"""On every architecture: what `adapted` and `merged` compute is the paper's formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from tests.architectures import TEXT, VISION, build, expert
from tests.odd_architectures import ODD

CASES = [(name, "all") for name in (*TEXT, *ODD)] + [
    (name, "all+vision") for name in (*VISION, "mllama", "blip2")
]


def logits(model: T2Model, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.model(**batch).logits


def by_svd(model: T2Model, batch: dict[str, Tensor], what: Expert) -> Tensor:
    """Logits with every weight replaced by U diag(s z) V^T, from torch.linalg.svd in float64."""
    kept = {}
    for name, layer in model.targets.layers.items():
        weight: Any = layer.weight
        kept[name] = weight.data
        turned = isinstance(layer, Conv1D)
        W = (weight.data.mT if turned else weight.data).double()
        U, s, Vh = torch.linalg.svd(W, full_matrices=False)
        new = (U * (s * what.z[name].double())) @ Vh
        weight.data = (new.mT if turned else new).to(weight.dtype).contiguous()
    try:
        return logits(model, batch)
    finally:
        for name, layer in model.targets.layers.items():
            layer.weight.data = kept[name]


def gap(got: Tensor, wanted: Tensor, base: Tensor) -> float:
    """Norm of the error, as a part of the norm of the expert's effect."""
    return float((got - wanted).norm() / (wanted - base).norm())


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_adapted_is_the_papers_formula(name: str, targets: str) -> None:
    model, batch = build(name, targets=targets)
    one = expert(model, "one", 1)
    weights = {k: p.clone() for k, p in model.model.named_parameters()}
    base = logits(model, batch)
    wanted = by_svd(model, batch, one)
    with model.adapted(one):
        got = logits(model, batch)
    with model.merged(one):
        merged = logits(model, batch)
    assert (wanted - base).norm() > 1e-3 * base.norm()
    assert gap(got, wanted, base) < 2e-3
    assert gap(merged, wanted, base) < 2e-3
    assert torch.equal(logits(model, batch), base)
    assert all(torch.equal(p, weights[k]) for k, p in model.model.named_parameters())


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_per_row_equals_one_at_a_time(name: str, targets: str) -> None:
    model, batch = build(name, targets=targets)
    one, two = expert(model, "one", 1), expert(model, "two", 2)
    base = logits(model, batch)
    alone = {}
    for which in (one, two):
        with model.adapted(which):
            alone[which.name] = logits(model, batch)
    with model.adapted([one, None, two]):
        rows = logits(model, batch)
    for row, wanted in enumerate((alone["one"], base, alone["two"])):
        assert (rows[row] - wanted[row]).norm() < 1e-4 * (alone["one"] - base)[row].norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [3, 12])  # of one token: few positions, and many
def test_only_directions_that_something_moves_are_read(dtype: torch.dtype, rows: int) -> None:
    model, batch = build("qwen2")
    ids = batch["input_ids"][:1, :1].repeat(rows, 1)
    few = [expert(model, f"few-{k}", k) for k in range(2)]
    for k, one in enumerate(few):
        for z in one.z.values():
            z[2 + k :] = 1
    mixtures = [*few, *[None] * (rows - 2)]
    wanted = [by_svd(model, {"input_ids": ids[:1]}, one)[0] for one in few]
    model.model.to(dtype)
    base = logits(model, {"input_ids": ids})
    for basis in model.bases.values():
        basis.q[:, 3:] = torch.nan
    with model.adapted(mixtures):
        got = logits(model, {"input_ids": ids})
    assert torch.equal(got[2:], base[2:])
    for row, one in enumerate(wanted):
        error = gap(got[row].float(), one.float(), base[row].float())
        assert error < (1e-3 if dtype == torch.float32 else 0.1)
    for z in few[0].z.values():
        z[3] = 2
    with model.adapted(mixtures):
        assert not logits(model, {"input_ids": ids})[0].isfinite().any()


@pytest.mark.parametrize("name", [*TEXT, *VISION, *ODD])
def test_generate_with_return_sequences_per_row(name: str) -> None:
    model, batch = build(name)
    batch.pop("decoder_input_ids", None)
    one, two = expert(model, "one", 1, spread=1.0), expert(model, "two", 2, spread=1.0)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    if name in ("llava", "idefics3", "paligemma", "mllama", "blip2"):
        options |= {"num_beams": 1}
    else:
        options |= {"num_beams": 2, "num_return_sequences": 2}
    with model.adapted([one, two, None]):
        rows = model.model.generate(**batch, **options)
    copies = len(rows) // 3
    for row, which in enumerate((one, two, None)):
        with model.adapted(which):
            alone = model.model.generate(**batch, **options)
        wanted = alone[row * copies : (row + 1) * copies]
        assert torch.equal(rows[row * copies : (row + 1) * copies], wanted)


@pytest.mark.parametrize("name", [*TEXT, *VISION])
def test_all_leaves_out_head_and_vision(name: str) -> None:
    model, _ = build(name)
    parts = set(model.shapes)
    assert not any(n.endswith(("lm_head", "embed_out")) for n in parts)
    vision = model.model.get_encoder(modality="image")
    if vision is not model.model:
        seen = {id(m) for m in vision.modules()}
        assert not any(id(model.targets.layers[n]) in seen for n in parts)
        everything, _ = build(name, targets="all+vision")
        assert parts < set(everything.shapes)
        assert everything.targets.vision == set(everything.shapes) - parts
    attention, _ = build(name, targets="attention")
    mlp, _ = build(name, targets="mlp")
    assert set(attention.shapes) | set(mlp.shapes) == parts
    assert not set(attention.shapes) & set(mlp.shapes)
    assert len(attention.shapes) >= 4
    assert len(mlp.shapes) >= 4
