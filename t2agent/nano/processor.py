"""The tokenizer, chat template and image processor of t2-nano, built from its corpus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from t2agent.nano.drawing import SIZE

IMAGE_TOKENS = 16
"""Tokens that an image takes in the language model's sequence: 64 patches, 2 x 2 joined."""
VOCABULARY = 1530
"""Tokens besides those of tool calls."""

END = "<end_of_utterance>"
IMAGE = "<image>"
PAD = "<|pad|>"
ROLES = ("system", "user", "assistant", "tool")
_SPECIAL = [PAD, END, IMAGE, "<fake_token_around_image>", "<global-img>"]

CALL, CALL_END = "<tool_call>", "</tool_call>"
"""What a call of a tool stands between, in the manner of Hermes and Qwen."""

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text("utf-8")


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    roles = [f"<|{role}|>" for role in ROLES]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*_SPECIAL, *roles],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[*_SPECIAL[2:], *roles],
        padding_side="left",
        model_max_length=1024,
    )
    # Not special: a reply's text keeps them.
    fast.add_tokens([AddedToken(mark, normalized=False) for mark in (CALL, CALL_END)])
    return fast


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """The stock processor around the tokenizer: one image is one 64 x 64 tile."""
    size = {"longest_edge": SIZE}
    return Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            do_image_splitting=False,
            size=size,
            max_image_size=size,
            # The images are mostly a light background.
            image_mean=[0.9] * 3,
            image_std=[0.35] * 3,
        ),
        tokenizer=tokenizer,
        image_seq_len=IMAGE_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )
