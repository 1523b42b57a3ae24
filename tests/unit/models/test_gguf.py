"""GGUF files as base models: weights, tokenizers, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import quantize

from t2agent import ConfigError, T2Model
from t2agent.models.generate import Prompt, generate
from t2agent.models.gguf import SPLITS
from t2agent.models.options import GenerationOptions

HEADS, KEYS, HEAD, HIDDEN, MIDDLE = 4, 2, 16, 64, 96
SHORT = r"'s|'t|'re|'ve|'m|'ll|'d"
GPT2 = SHORT + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def alphabet() -> list[str]:
    """GPT-2's characters of the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in kept]
    spelled = {byte: chr(byte) for byte in kept} | {b: chr(256 + i) for i, b in enumerate(rest)}
    return [spelled[byte] for byte in range(256)]


BYTES = alphabet()


def merges() -> list[tuple[str, str]]:
    """Some merges that meet what the rules differ in: digits, blank lines, capitals, spaces."""
    line, space = BYTES[10], BYTES[32]
    pairs = [(line, line), (space, space), ("1", "2"), ("12", "3"), ("'", "s"), ("'", "S")]
    for letter in "abcdefghijklmnop":
        pairs += [(space, letter), (letter, "e"), (letter.upper(), letter), (".", letter)]
    pairs += [
        (space, "1"),
        (space + "1", "2"),
        (".", "."),
        ("..", line),
        (space, line),
        ("e", "e"),
        (line, "a"),
    ]
    return list(dict.fromkeys(pairs))


def tensors(architecture: str) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    words = 3 + 256 + len(merges())
    shapes = {"token_embd.weight": (words, HIDDEN), "output_norm.weight": (HIDDEN,)}
    layer = {
        "attn_norm.weight": (HIDDEN,),
        "ffn_norm.weight": (HIDDEN,),
        "attn_q.weight": (HEADS * HEAD, HIDDEN),
        "attn_k.weight": (KEYS * HEAD, HIDDEN),
        "attn_v.weight": (KEYS * HEAD, HIDDEN),
        "attn_output.weight": (HIDDEN, HEADS * HEAD),
        "ffn_gate.weight": (MIDDLE, HIDDEN),
        "ffn_up.weight": (MIDDLE, HIDDEN),
        "ffn_down.weight": (HIDDEN, MIDDLE),
    }
    if architecture == "qwen2":
        layer |= {"attn_q.bias": (HEADS * HEAD,), "attn_k.bias": (KEYS * HEAD,)}
        layer |= {"attn_v.bias": (KEYS * HEAD,)}
    shapes |= {f"blk.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    return {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write(file: Path, *, architecture: str = "llama", pre: str | None = "smollm") -> Path:
    """A small model of random weights in Q4_1, with a byte-level vocabulary."""
    writer = GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(2)
    writer.add_feed_forward_length(MIDDLE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HEAD)
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [*control, *BYTES, *("".join(pair) for pair in merges())]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types([3] * len(control) + [1] * (len(words) - len(control)))
    writer.add_token_merges([" ".join(pair) for pair in merges()])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, value in tensors(architecture).items():
        if value.ndim == 1:
            writer.add_tensor(name, value)
        else:
            kind = GGMLQuantizationType.Q4_1
            writer.add_tensor(name, quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def stored(file: Path) -> dict[str, torch.Tensor]:
    """The weights that a file holds, by the format's own rule: d * q + m, 32 numbers a block."""
    found = {}
    for tensor in GGUFReader(file).tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if tensor.tensor_type != GGMLQuantizationType.Q4_1:
            found[tensor.name] = torch.tensor(np.array(tensor.data)).reshape(shape)
            continue
        blocks = np.array(tensor.data).reshape(-1, 20)
        scale, least = (blocks[:, i : i + 2].copy().view(np.float16) for i in (0, 2))
        codes = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
        numbers = scale.astype(np.float32) * codes + least.astype(np.float32)
        found[tensor.name] = torch.tensor(numbers).reshape(shape)
    return found


def halves_apart(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp lays the two halves that a rotation turns side by side; Hugging Face, apart."""
    return weight.view(heads, HEAD // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_weights_are_those_of_the_file_in_bfloat16(tmp_path: Path, architecture: str) -> None:
    file = write(tmp_path / "tiny.gguf", architecture=architecture, pre="qwen2")
    weights = T2Model.from_pretrained(file).model.state_dict()
    wanted = {name: value.to(torch.bfloat16) for name, value in stored(file).items()}
    names = {
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    }  # fmt: skip
    assert torch.equal(weights["model.embed_tokens.weight"], wanted["token_embd.weight"])
    for short, long in names.items():
        expected = wanted[f"blk.1.{short}.weight"]
        if architecture == "llama" and short in ("attn_q", "attn_k"):
            expected = halves_apart(expected, HEADS if short == "attn_q" else KEYS)
        assert torch.equal(weights[f"model.layers.1.{long}.weight"], expected), short
    if architecture == "qwen2":
        assert torch.equal(
            weights["model.layers.1.self_attn.k_proj.bias"], wanted["blk.1.attn_k.bias"]
        )


def test_a_model_answers_and_is_adapted(llama: Path) -> None:
    model = T2Model.from_pretrained(llama.parent, gguf_file=llama.name)
    plain = generate(model, [Prompt.user("ab 12")], GenerationOptions(max_tokens=5))
    assert plain[0].prompt_tokens > 5
    assert sum(model.shapes.values()) == 2 * (HIDDEN * 5 + 2 * KEYS * HEAD)


def pieces(text: str, rules: Sequence[str]) -> list[str]:
    """What llama.cpp cuts a text into: each rule cuts what the one before left, at its matches and
    between them."""
    parts = [text]
    for rule in rules:
        cut = []
        for part in parts:
            end = 0
            for match in regex.finditer(rule, part):
                cut += [part[end : match.start()], match[0]]
                end = match.end()
            cut.append(part[end:])
        parts = [piece for piece in cut if piece]
    return parts


def merged(piece: str, rank: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a piece: the pair that was merged first in training, again and again."""
    symbols = [BYTES[byte] for byte in piece.encode()]
    while pairs := [p for p in pairwise(symbols) if p in rank]:
        left, right = min(pairs, key=rank.__getitem__)
        joined, i = [], 0
        while i < len(symbols):
            both = symbols[i : i + 2] == [left, right]
            joined.append(left + right if both else symbols[i])
            i += 1 + both
        symbols = joined
    return symbols


TEXTS = [
    "List:\n\n1. 234", "it's 12,345.60 in 2024", "IT'S", "a  b   c", "x\n \n\ty", " 12", "½ Ⅷ ٣ ²",
    "naïve 中文字 русский", "ends in spaces   ", "HTTPServer aB", "....\n\na", "e\u0301\u00a0x",
    "🙂!? _a_",
]  # fmt: skip


def test_text_is_split_by_the_rule_of_the_file(llama: Path) -> None:
    """smollm: digits one by one, then GPT-2's rule."""
    tokenizer = T2Model.from_pretrained(llama).tokenizer
    draw = random.Random(0)
    alike = "ab12'sS.\n eE\u00e9½_ \t"
    texts = TEXTS + ["".join(draw.choices(alike, k=draw.randint(1, 20))) for _ in range(1000)]
    rank = {pair: place for place, pair in enumerate(merges())}
    for text in texts:
        wanted = [
            token for piece in pieces(text, [r"\p{N}", GPT2]) for token in merged(piece, rank)
        ]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids) == wanted, repr(text)


@pytest.mark.parametrize("rule", sorted(SPLITS))
def test_no_rule_loses_text(rule: str, tmp_path: Path, llama: Path) -> None:
    from transformers import AutoTokenizer

    from t2agent.models.gguf import split_as

    tokenizer = AutoTokenizer.from_pretrained(llama.parent, gguf_file=llama.name)
    split_as(tokenizer, rule)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("pre", ["brand-new-bpe", None])
def test_an_unknown_rule_is_refused(tmp_path: Path, pre: str | None) -> None:
    file = write(tmp_path / "tiny.gguf", pre=pre)
    with pytest.raises(ConfigError, match=r"not guessed.*smollm.*original files"):
        T2Model.from_pretrained(file)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.gguf", architecture="plamo")
    with pytest.raises(ConfigError, match=r"architecture plamo .*original files"):
        T2Model.from_pretrained(file)


def test_a_damaged_file_is_refused(llama: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(llama.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="no whole GGUF file"):
        T2Model.from_pretrained(short)
    other = tmp_path / "other.gguf"
    other.write_text("hello")
    with pytest.raises(ConfigError, match="no whole GGUF file"):
        T2Model.from_pretrained(other)


def test_a_file_that_is_not_there(llama: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder or file"):
        T2Model.from_pretrained(llama.parent / "none.gguf")
    with pytest.raises(ConfigError, match=r"no GGUF file 'none\.gguf'"):
        T2Model.from_pretrained(llama.parent, gguf_file="none.gguf")
    with pytest.raises(ConfigError, match="leave out gguf_file"):
        T2Model.from_pretrained(llama, gguf_file="tiny.gguf")
