"""Tiny random base models with a tokenizer or processor and a chat template, built in code.

The weights are random but the same in every run. What `build_...` makes is the caller's own, its
tokenizer with it. `tiny_text_model` and `tiny_vision_model` are shared by all tests of a process: a
test that changes a model (registers experts and keeps them, adds tokens) builds its own.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from t2agent.models.model import T2Model

BOS, START, END, PAD = "<|begin|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
IMAGE, FAKE, GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
IMAGE_SIZE = 64
PATCH = 8
IMAGE_TOKENS = 16
CONTEXT = 256
_SPECIAL = (PAD, BOS, START, END, IMAGE, FAKE, GLOBAL)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<image>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

_TEXTS = (
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "What is seven times three plus twelve? The answer is thirty-three.",
    "Write a function that sorts a list of numbers and prints the result.",
    "system user assistant tool question answer image red blue circle square",
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 entries, padding on the left."""
    return copy.deepcopy(_trained_tokenizer())


@functools.cache
def _trained_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START, IMAGE, FAKE, GLOBAL],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=CONTEXT,
    )


def build_text_model(seed: int = 0, *, context: int = CONTEXT) -> T2Model:
    """A Llama of two layers, 64 wide, with random weights in float32."""
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        **_ids(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        _spread(model)
    model.generation_config = GenerationConfig(**_ids(tokenizer))
    return T2Model(model, tokenizer, name="tiny-text")


def save_bfloat16(folder: Path) -> None:
    """Write `build_text_model` there as a checkpoint in bfloat16."""
    made = build_text_model()
    made.model.to(torch.bfloat16).save_pretrained(folder)
    made.processor.save_pretrained(folder)


def build_vision_model(seed: int = 0, *, context: int = CONTEXT) -> T2Model:
    """An Idefics3 of two language and two vision layers, with random weights in float32.

    It reads images of 64 x 64 pixels as 64 patches, joined into 16 image tokens.
    """
    tokenizer = build_tokenizer()
    size = {"longest_edge": IMAGE_SIZE}
    processor = Idefics3Processor(  # it adds a token: the model is built after it
        image_processor=Idefics3ImageProcessorPil(
            do_image_splitting=False, size=size, max_image_size=size
        ),
        tokenizer=tokenizer,
        image_seq_len=IMAGE_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": context,
            "tie_word_embeddings": False,
            **_ids(tokenizer),
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
        **_ids(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(config)
        _spread(model)
    model.generation_config = GenerationConfig(**_ids(tokenizer))
    return T2Model(model, processor, name="tiny-vision")


@functools.cache
def tiny_text_model() -> T2Model:
    """The shared `build_text_model()`."""
    return build_text_model()


@functools.cache
def tiny_vision_model() -> T2Model:
    """The shared `build_vision_model()`."""
    return build_vision_model()


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _spread(model: torch.nn.Module) -> None:
    """Weights large enough that the next token depends on the prompt, images among it."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            scale = 1.0 if "embed" in name else 1.5 * parameter.shape[-1] ** -0.5
            torch.nn.init.normal_(parameter, std=scale)
