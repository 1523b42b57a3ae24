"""Merged weights: written once, put back exactly, kept within a budget."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError
from t2agent.models.model import T2Model
from t2agent.svf.basis import decompose
from t2agent.svf.merge import MergedCache, WeightSwitch, merge_gradient, merged_weight
from tests.architectures import Tokens, build, expert
from tests.unit.svf.test_layer import Int8Linear


def parameters(numbers: int) -> dict[str, nn.Parameter | None]:
    return {"layer": nn.Parameter(torch.zeros(numbers))}


def test_the_least_recently_used_goes_first() -> None:
    cache = MergedCache(budget=80)
    for key in "ab":
        cache.put(key, parameters(10))
    assert cache.get("a") is not None
    cache.put("c", parameters(10))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.bytes == 80
    cache.put("large", parameters(100))
    assert cache.get("large") is None


def test_the_switch_nests_and_comes_back() -> None:
    layers = {"x": nn.Linear(2, 2), "y": nn.Linear(2, 2)}
    base = [layer.weight for layer in layers.values()]
    switch = WeightSwitch(layers)
    first, second = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.zeros(2, 2))
    with switch.use({"x": first}):
        with switch.use({"y": second}):
            assert layers["x"].weight is base[0]
            assert layers["y"].weight is second
        with switch.use({}):
            assert layers["x"].weight is base[0]
        assert layers["x"].weight is first
        assert layers["y"].weight is base[1]
    assert [layer.weight for layer in layers.values()] == base


def test_entering_again_swaps_the_kept_weights() -> None:
    model, _ = build("llama")
    one = expert(model, "one", 1)
    name, layer = next(iter(model.targets.layers.items()))
    with model.merged(one):
        first = layer.weight
    with model.merged(one):
        assert layer.weight is first
    with torch.no_grad():
        one.z[name].add_(1)  # the same expert, trained further
    with model.merged(one):
        assert not torch.equal(layer.weight, first)


def test_without_budget_nothing_is_kept() -> None:
    model, batch = build("llama")
    model.merged_cache.budget = 0
    one = expert(model, "one", 1)
    with torch.no_grad(), model.adapted(one):
        wanted = model.model(**batch).logits
    for _ in range(2):
        with torch.no_grad(), model.merged(one):
            torch.testing.assert_close(model.model(**batch).logits, wanted, rtol=1e-4, atol=1e-5)
    assert model.merged_cache.bytes == 0


def test_shared_weights_differ_only_where_they_are_adapted() -> None:
    config = hf.LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    network = hf.LlamaForCausalLM(config)
    network.model.layers[1].mlp.up_proj.weight = network.model.layers[0].mlp.up_proj.weight
    model = T2Model(network, Tokens(), targets=r"layers\.1\.mlp\.up_proj")
    one = expert(model, "one", 1)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        base = network(ids).logits
        with model.adapted(one):
            adapted = network(ids).logits
        with model.merged(one):
            merged = network(ids).logits
            assert network.lm_head.weight is network.model.embed_tokens.weight
        torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
        assert torch.equal(network(ids).logits, base)
    assert not torch.equal(adapted, base)
    assert network.model.layers[1].mlp.up_proj.weight is network.model.layers[0].mlp.up_proj.weight


def test_quantised_weights_are_adapted_but_not_merged() -> None:
    model, batch = build("llama")
    layers = model.model.model.layers
    layers[0].mlp.up_proj = Int8Linear(layers[0].mlp.up_proj)
    model = T2Model(model.model, Tokens())
    one = expert(model, "one", 1)
    assert not model.writable
    with pytest.raises(ConfigError, match="quantised"), model.merged(one):
        pass
    quantised = layers[0].mlp.up_proj
    plain = nn.Linear(32, 48, bias=False)
    plain.weight.data = quantised.weight.float() * quantised.scale
    with torch.no_grad(), model.adapted(one):
        got = model.model(**batch).logits
    layers[0].mlp.up_proj = plain
    twin = T2Model(model.model, Tokens())
    with torch.no_grad(), twin.adapted(one):
        torch.testing.assert_close(got, model.model(**batch).logits, rtol=1e-4, atol=1e-5)


def test_merging_takes_one_mixture() -> None:
    model, _ = build("llama")
    with pytest.raises(ConfigError, match="one mixture"), model.merged([None, None]):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(24, 64), (64, 24)])
@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
def test_a_merged_weight_is_rounded_once(
    dtype: torch.dtype, shape: tuple[int, int], size: float
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(shape[1], shape[0], bias=False).to(dtype)
    basis = decompose(layer.weight.detach(), None)
    delta = size * torch.randn(min(shape))
    q, w = basis.q.double(), layer.weight.detach().double()
    change = q @ torch.diag(delta.double()) @ q.mT
    exact = w + (change @ w if basis.side == "out" else w @ change)
    once = (exact.to(dtype).double() - exact).norm()
    assert (merged_weight(layer, basis, delta).double() - exact).norm() <= 1.01 * once


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (24, 24)])
@pytest.mark.parametrize("columns", [None, 2])
def test_the_gradient_is_autograds(kind: str, shape: tuple[int, int], columns: int | None) -> None:
    torch.manual_seed(0)
    m, n = shape
    layer: nn.Module = nn.Linear(n, m, bias=False) if kind == "linear" else Conv1D(m, n)
    weight = layer.weight.detach() if kind == "linear" else layer.weight.detach().mT
    basis = decompose(weight, None)
    delta = 0.3 * torch.randn(min(shape))
    delta[columns:] = 0.0
    free = delta.clone().requires_grad_()
    change = basis.q @ torch.diag(free) @ basis.q.mT
    wanted = weight + (change @ weight if basis.side == "out" else weight @ change)
    seen = torch.randn_like(wanted)
    (wanted * seen).sum().backward()
    formed = merged_weight(layer, basis, delta)
    laid_out = (lambda x: x) if kind == "linear" else (lambda x: x.mT)
    torch.testing.assert_close(laid_out(formed), wanted.detach(), atol=1e-5, rtol=1e-5)
    found = merge_gradient(layer, basis, laid_out(seen), columns)
    kept = free.grad.clone()  # type: ignore[union-attr]
    kept[len(kept) if columns is None else columns :] = 0.0
    torch.testing.assert_close(found, kept, atol=1e-4, rtol=1e-4)
