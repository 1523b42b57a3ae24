"""Choosing layers: by part, by expression; what cannot be adapted is named."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers as hf
from torch import nn

from t2agent.errors import ConfigError
from t2agent.models.model import T2Model
from t2agent.svf.targets import choose
from tests.architectures import Tokens, build, expert

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def llama() -> hf.PreTrainedModel:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL))


def test_a_regular_expression_picks_layers() -> None:
    chosen = choose(llama(), r"layers\.1\..*(q|v)_proj$")
    assert set(chosen.layers) == {f"model.layers.1.self_attn.{n}_proj" for n in "qv"}


def test_parts_of_a_llama() -> None:
    model = llama()
    assert {n.split(".")[3] for n in choose(model, "attention").layers} == {"self_attn"}
    assert {n.split(".")[3] for n in choose(model, "mlp").layers} == {"mlp"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(choose(model, "all").layers) == 14


@pytest.mark.parametrize(
    ("targets", "words"), [("nothing_here", "matches no linear"), ("(", "reg")]
)
def test_nothing_to_adapt_is_an_error(targets: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose(llama(), targets)


@pytest.mark.parametrize("name", ["MixtralConfig", "Qwen2MoeConfig"])
def test_fused_experts_are_named_once_and_the_rest_is_adapted(name: str) -> None:
    more = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
    config = getattr(hf, name)(**SMALL, **(more if name == "Qwen2MoeConfig" else {}))
    network = hf.AutoModelForCausalLM.from_config(config)
    with pytest.warns(UserWarning, match="experts") as caught:
        model = T2Model(network, Tokens())
    assert sum("experts" in str(one.message) for one in caught) == 1
    assert not any("experts." in n for n in model.shapes)
    one = expert(model, "one", 1)
    ids = torch.randint(0, 96, (2, 5))
    with torch.no_grad():
        with model.adapted(one):
            alone = network(ids).logits
        with model.adapted([one, None]):
            rows = network(ids).logits
        base = network(ids).logits
    torch.testing.assert_close(rows, torch.stack([alone[0], base[1]]), rtol=1e-4, atol=1e-5)


class Routed(nn.Module):
    """A mixture of experts that are linear layers: each token goes to one of two."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, 32)
        first = flat[:, 0] > 0
        out = torch.empty_like(flat)
        out[first] = self.experts[0](flat[first])
        out[~first] = self.experts[1](flat[~first])
        return out.view(x.shape)


def test_rows_behind_a_router_are_refused_and_run_one_at_a_time() -> None:
    network = llama()
    network.model.layers[0].mlp = Routed()
    model = T2Model(network, Tokens())
    assert not model.per_row
    one, two = expert(model, "one", 1), expert(model, "two", 2)
    ids = torch.randint(0, 96, (2, 5))
    with pytest.raises(ConfigError, match="through a router"), model.adapted([one, two]):
        pass
    with torch.no_grad(), model.adapted([one, one]):
        both = network(ids).logits
    with torch.no_grad(), model.adapted(one):
        torch.testing.assert_close(network(ids[:1]).logits, both[:1], rtol=1e-4, atol=1e-5)


def test_pooling_heads_that_read_a_weight_uncalled_are_left_alone() -> None:
    with pytest.warns(UserWarning, match="not adapted") as caught:
        model, _ = build("paligemma", targets="all+vision")
    assert sum("not adapted" in str(one.message) for one in caught) == 1
    assert not any("head.attention" in n for n in model.shapes)


def test_weights_that_are_read_without_calling_the_layer_are_left_alone() -> None:
    with pytest.warns(UserWarning, match="dt_proj"):
        model, _ = build("mamba")
    assert {n.rpartition(".")[2] for n in model.shapes} == {"in_proj", "x_proj", "out_proj"}


def test_a_linear_subclass_that_returns_more_is_left_alone() -> None:
    with pytest.warns(UserWarning, match=r"router \(PhimoeTopKRouter\)"):
        model, _ = build("phimoe")
    assert not any("router" in n for n in model.shapes)


def test_an_encoder_that_the_model_does_not_name_is_no_language() -> None:
    ids = {"vocab_size": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sees = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1}
    sees |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 4}
    reads = {key: SMALL[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    config = hf.GitConfig(vision_config=sees, num_attention_heads=4, **reads, **ids)
    chosen = choose(hf.GitForCausalLM(config), "all").layers
    assert chosen
    assert not any("image_encoder" in n for n in chosen)


def test_rows_of_a_model_that_lays_tokens_first_are_refused() -> None:
    config = hf.XLNetConfig(vocab_size=96, d_model=32, n_layer=1, n_head=4, d_inner=48)
    with pytest.warns(UserWarning, match="rel_attn"):
        model = T2Model(hf.XLNetLMHeadModel(config), Tokens())
    one = expert(model, "one", 1)
    assert not model.per_row
    ids = torch.randint(0, 96, (2, 2))  # as many rows as tokens: their order does not show
    with pytest.raises(ConfigError, match="tokens before rows"), model.adapted([one, None]):
        model.model(ids)
    with torch.no_grad(), model.adapted([one, one]):
        model.model(ids)
