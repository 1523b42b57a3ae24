"""Reading weights: plain, transposed, quantised, offloaded, missing."""

from __future__ import annotations

from pathlib import Path

import accelerate
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError
from t2agent.svf import layer
from t2agent.svf.fingerprint import digest


class Int8Linear(nn.Linear):
    """Weight-only quantisation to int8, with a scale for each output, as libraries do it."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__(source.in_features, source.out_features, bias=source.bias is not None)
        scale = source.weight.detach().abs().amax(1, keepdim=True) / 127
        weight = (source.weight.detach() / scale).round().to(torch.int8)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = source.bias
        self.register_buffer("scale", scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias)


def test_conv1d_is_read_out_by_in() -> None:
    conv = Conv1D(6, 4)
    assert layer.shape(conv) == (6, 4)
    with layer.read(conv, "conv") as (weight, bias):
        x = torch.randn(2, 4)
        torch.testing.assert_close(x @ weight.mT + bias, conv(x))


@pytest.mark.parametrize("bias", [True, False])
def test_a_quantised_weight_is_read_through_the_layer(bias: bool) -> None:
    quantised = Int8Linear(nn.Linear(700, 9, bias=bias))
    assert not layer.is_plain(quantised)
    with layer.read(quantised, "quantised") as (weight, _):
        wanted = quantised.weight.float() * quantised.scale
        torch.testing.assert_close(weight, wanted, rtol=1e-5, atol=1e-6)


def test_an_offloaded_weight_is_fetched_and_let_go(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 6))
    wanted = model[0].weight.detach().clone()
    accelerate.disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert layer.is_offloaded(model[0])
    with layer.read(model[0], "0") as (weight, _):
        assert torch.equal(weight, wanted)
    assert model[0].weight.device.type == "meta"


def test_a_missing_weight_is_an_error() -> None:
    with (
        pytest.raises(ConfigError, match=r"the weight of lost lies on the meta device"),
        layer.read(nn.Linear(3, 3, device="meta"), "lost"),
    ):
        pass


def test_only_layers_that_are_called_count() -> None:
    attention = nn.MultiheadAttention(8, 2)
    assert layer.is_linear(nn.Linear(2, 2))
    assert not layer.is_linear(attention.out_proj)
    with pytest.raises(ConfigError, match="LayerNorm is not a linear layer"):
        layer.shape(nn.LayerNorm(3))


def test_digest_tells_contents_apart() -> None:
    x = torch.arange(6.0)
    assert digest(x) == digest(x.clone())
    others = [x.view(2, 3), x.double(), x + 1, None]
    assert len({digest(x), *map(digest, others)}) == 5
    assert digest(x, None) != digest(None, x)
    assert digest(torch.ones(3, dtype=torch.bfloat16)) != digest(torch.ones(3).half())
