"""The shape of t2-nano: a stock transformers class, about 4.7 million parameters."""

from __future__ import annotations

import torch
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from t2agent.nano.drawing import PATCH, SIZE
from t2agent.nano.processor import IMAGE

CONTEXT = 1024
"""Tokens that the model can attend to."""


def build(tokenizer: PreTrainedTokenizerFast, seed: int) -> Idefics3ForConditionalGeneration:
    """The untrained model, in float32."""
    torch.manual_seed(seed)
    vocabulary = 8 * -(-len(tokenizer) // 8)
    config = Idefics3Config(  # type: ignore[call-arg]  # keywords of the base class
        text_config={
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            "tie_word_embeddings": True,
        },
        vision_config={
            "hidden_size": 160,
            "intermediate_size": 448,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": PATCH,
        },
        scale_factor=2,
        image_token_id=int(tokenizer.convert_tokens_to_ids(IMAGE)),  # type: ignore[arg-type]
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    # What it needs where tools are bound (`t2agent.engine.shortlist`), and that its documents
    # begin with their image (`t2agent.models.prompt`).
    config.t2agent = {"max_tools": 4, "images_first": True}
    config._attn_implementation = "eager"
    model = Idefics3ForConditionalGeneration(config)
    # The stock initialisation leaves the patches' positions too faint to be told apart.
    torch.nn.init.normal_(model.model.vision_model.embeddings.position_embedding.weight, std=0.1)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return model
