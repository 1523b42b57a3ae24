"""Tiny random models that are each peculiar in one way."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers as hf

from tests.architectures import (
    CLIP,
    LLAMA,
    PICTURE,
    ROWS,
    VOCABULARY,
    Built,
    llama_family,
    seeing,
    text,
)


def _mllama() -> Built:
    config = hf.MllamaConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [1],
            "max_num_tiles": 2,
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
        },
        text_config={
            **LLAMA,
            "num_hidden_layers": 3,
            "cross_attention_layers": [1],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        image_token_index=PICTURE,
    )
    model = hf.MllamaForConditionalGeneration(config)
    with torch.no_grad():  # a new model's gates are shut: its pictures change nothing
        for name, parameter in model.named_parameters():
            if "gate" in name and parameter.numel() == 1:
                parameter.fill_(0.7)
    model, batch = seeing(model, [1, 1, 1], 1)
    rows, length = batch["input_ids"].shape
    return model, {
        **batch,
        "pixel_values": torch.randn(rows, 1, 2, 3, 16, 16),
        "aspect_ratio_ids": torch.full((rows, 1), 2),
        "aspect_ratio_mask": torch.ones(rows, 1, 2, dtype=torch.long),
        "cross_attention_mask": torch.ones(rows, length, 1, 2, dtype=torch.long),
    }


def _blip2() -> Built:
    config = hf.Blip2Config(
        vision_config=CLIP,
        qformer_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "encoder_hidden_size": 24,
            "cross_attention_frequency": 1,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "word_embed_proj_dim": 32,
            "pad_token_id": 0,
        },
        num_query_tokens=4,
        image_token_index=PICTURE,
    )
    model = hf.Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        model.query_tokens.normal_()
    return seeing(model, [1, 1, 1], 4, pixel_values=torch.randn(3, 3, 16, 16))


def _mamba() -> Built:
    return text(
        hf.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=2)
    )


def _t5() -> Built:
    config = hf.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    ids = torch.randint(3, VOCABULARY, (ROWS, 6))
    return hf.T5ForConditionalGeneration(config), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "decoder_input_ids": torch.randint(3, VOCABULARY, (ROWS, 4)),
    }


# A weight read without calling its layer, a router that is an nn.Linear,
# an encoder, keys from cross-attention, a language model that generates by itself.
ODD: dict[str, Callable[[], Built]] = {
    "mamba": _mamba,
    "phimoe": llama_family("PhimoeConfig", num_local_experts=4),
    "gemma3": llama_family("Gemma3TextConfig", head_dim=8),
    "t5": _t5,
    "mllama": _mllama,
    "blip2": _blip2,
}
