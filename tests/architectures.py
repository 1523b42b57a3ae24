"""Tiny random models of many architectures, with a batch for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from t2agent.experts.expert import Expert, ExpertCard
from t2agent.models.model import T2Model

VOCABULARY = 96
PICTURE = 90  # the id of the placeholder of a picture
ROWS = 3

LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CLIP = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}

Built = tuple[hf.PreTrainedModel, dict[str, Tensor]]


class Tokens:
    """What a T2Model needs of a tokenizer when a test feeds it token ids."""

    model_max_length = 128


def text(config: hf.PreTrainedConfig) -> Built:
    ids = torch.randint(3, VOCABULARY, (ROWS, 6))
    return hf.AutoModelForCausalLM.from_config(config), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }


def seeing(model: hf.PreTrainedModel, pictures: list[int], tokens: int, **inputs: Tensor) -> Built:
    """A batch whose rows hold some pictures each, padded on the left."""
    picture = [92] + [PICTURE] * tokens + [93]
    rows = [picture * count + [5 + row, 6, 7] for row, count in enumerate(pictures)]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == PICTURE).int()
    return model, {"input_ids": ids, "attention_mask": (ids != 0).long(), **inputs}


def llama_family(name: str, **more: Any) -> Callable[[], Built]:
    return lambda: text(getattr(hf, name)(**LLAMA, **more))


def _neox_family(name: str, **more: Any) -> Callable[[], Built]:
    common = {key: LLAMA[key] for key in LLAMA if key != "num_key_value_heads"}
    return lambda: text(getattr(hf, name)(**common, **more))


def _gpt2() -> Built:
    return text(
        hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    )


def _opt() -> Built:
    return text(
        hf.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            word_embed_proj_dim=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def _bloom() -> Built:
    return text(hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4))


def _llava() -> Built:
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**LLAMA),
        image_token_index=PICTURE,
        vision_feature_layer=-1,
    )
    model = hf.LlavaForConditionalGeneration(config)
    return seeing(model, [2, 1, 1], 16, pixel_values=torch.randn(4, 3, 16, 16))


def _idefics3() -> Built:
    config = hf.Idefics3Config(
        vision_config=CLIP,
        text_config={"model_type": "llama", **LLAMA},
        image_token_id=PICTURE,
        scale_factor=2,
        pad_token_id=0,
    )
    pixels = torch.randn(ROWS, 2, 3, 16, 16)
    pixels[1:, 1] = 0  # padding: rows 1 and 2 have one picture
    model = hf.Idefics3ForConditionalGeneration(config)
    return seeing(model, [2, 1, 1], 4, pixel_values=pixels)


def _qwen2_vl() -> Built:
    config = hf.Qwen2VLConfig(
        text_config={
            **LLAMA,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 4,
            "mlp_ratio": 2,
        },
        image_token_id=PICTURE,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    grid = torch.tensor([[1, 4, 4], [1, 4, 4], [1, 4, 4], [1, 4, 4]])
    patches = torch.randn(4 * 16, 3 * 2 * 4 * 4)
    model = hf.Qwen2VLForConditionalGeneration(config)
    return seeing(model, [2, 1, 1], 4, pixel_values=patches, image_grid_thw=grid)


def _paligemma() -> Built:
    config = hf.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **CLIP},
        text_config={"model_type": "gemma", "head_dim": 8, **LLAMA},
        image_token_index=PICTURE,
        projection_dim=32,
        pad_token_id=0,
    )
    model = hf.PaliGemmaForConditionalGeneration(config)
    return seeing(model, [1, 1, 1], 16, pixel_values=torch.randn(3, 3, 16, 16))


TEXT: dict[str, Callable[[], Built]] = {
    "llama": llama_family("LlamaConfig"),
    "qwen2": llama_family("Qwen2Config"),
    "qwen3": llama_family("Qwen3Config", head_dim=8),
    "mistral": llama_family("MistralConfig"),
    "phi3": llama_family("Phi3Config"),
    "gemma": llama_family("GemmaConfig", head_dim=8),
    "olmo": llama_family("OlmoConfig"),
    "neox": _neox_family("GPTNeoXConfig"),
    "falcon": _neox_family("FalconConfig", new_decoder_architecture=True, num_kv_heads=2),
    "gpt2": _gpt2,
    "opt": _opt,
    "bloom": _bloom,
}
VISION: dict[str, Callable[[], Built]] = {
    "llava": _llava,
    "idefics3": _idefics3,
    "qwen2_vl": _qwen2_vl,
    "paligemma": _paligemma,
}


def build(name: str, *, targets: str = "all") -> tuple[T2Model, dict[str, Tensor]]:
    """A model of the architecture and a batch of three rows."""
    from tests.odd_architectures import ODD

    torch.manual_seed(0)
    model, batch = (TEXT | VISION | ODD)[name]()
    # Biases start at zero in most models; nothing would be shown by them.
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(std=0.1)
    return T2Model(model, Tokens(), targets=targets, name=f"tiny-{name}"), batch


def expert(model: T2Model, name: str, seed: int, *, spread: float = 0.3) -> Expert:
    """An expert with random vectors."""
    generator = torch.Generator().manual_seed(seed)
    z = {n: 1 + spread * torch.randn(r, generator=generator) for n, r in model.shapes.items()}
    return Expert(ExpertCard(name), z)
