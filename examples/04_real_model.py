"""Adapt any Hugging Face model: a checkpoint by name, placed by device_map.

    python examples/04_real_model.py [MODEL]

MODEL is a name on the Hub or a folder, Qwen/Qwen2-0.5B-Instruct by default. Where it is not on
this machine's disk, a tiny random model of the same class stands in, and the output says so.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from t2agent import Expert, Mixture, T2Model

MODEL = "Qwen/Qwen2-0.5B-Instruct"


def on_disk(name: str) -> bool:
    """An example should not start a download of a gigabyte."""
    return Path(name).is_dir() or isinstance(try_to_load_from_cache(name, "config.json"), str)


def write_stand_in(folder: Path) -> None:
    """A checkpoint of Qwen2 with two layers, random weights and one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0, **{symbol: i + 1 for i, symbol in enumerate(alphabet)}}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", padding_side="left"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else MODEL
    with tempfile.TemporaryDirectory() as scratch:
        if not on_disk(name):
            print(f"{name} is not on this machine's disk.")
            print("STAND-IN: a tiny Qwen2 with random weights: its text means nothing.")
            name = str(Path(scratch) / "tiny-qwen2")
            write_stand_in(Path(name))
        show(T2Model.from_pretrained(name, device_map="auto"))


def show(model: T2Model) -> None:
    """Two experts in one batch, and the base model as it was."""
    print(f"{type(model.model).__name__} on {model.device}: {len(model.shapes)} layers adapted")

    # Two experts with z drawn at random; `train_expert` is how real ones are made.
    generator = torch.Generator().manual_seed(1)
    for name in ("warm", "cold"):
        expert = Expert.identity(model, name)
        z = {layer: one + 0.3 * torch.randn(one.shape, generator=generator)
             for layer, one in expert.z.items()}  # fmt: skip
        model.registry.register(Expert(expert.card, z))

    inputs = model.tokenizer(["Once upon a time"] * 3, return_tensors="pt").to(model.device)

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model.model(**inputs).logits.float()

    base = logits()
    # One batch, a mixture for each row; the first row is the base model.
    with model.adapted([None, "warm", Mixture({"warm": 0.5, "cold": 0.5})]):
        mixed = logits()
        tokens = model.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    for row, text in zip(mixed - base, model.tokenizer.batch_decode(tokens), strict=True):
        print(f"largest change of a logit {row.abs().max():.3f}: {text!r}")
    print("base model restored bit for bit:", torch.equal(base, logits()))


if __name__ == "__main__":
    main()
