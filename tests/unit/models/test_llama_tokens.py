"""The tokens of smollm2 against llama.cpp's own of the same GGUF file."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from t2agent.models import installed

# As llama.cpp (llama-cpp-python 0.3.36) tokenises them.
CASES = {
    'List:\n\n1. 234':
        "6106 42 1116 33 30 216 34 35 36",
    "it's 12,345.60 in 2024, IT'LL be":
        "269 506 216 33 34 28 35 36 37 30 38 32 281 216 34 32 34 36 28 9627 23 16421 325",
    'a  b   c\t\td':
        "81 216 278 256 265 197 197 84",
    'x\n \n\ty  ':
        "104 198 3717 197 105 256",
    ' 12 \xbd \u2167 \u0663 \xb2':
        "216 33 34 216 16738 216 173 223 117 216 164 113 216 19133",
    'na\xefve \u4e2d\u6587\u5b57 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \U0001f642!?':
        "3546 46494 216 28589 29184 36518 216 9175 14714 9382 39511 7872 24958 47526 17 47",
    'HTTPServer __init__(self)\r\n\r\n':
        "8049 33635 10740 2758 2563 3762 771 25 18682",
    'e\u0301\xa0x \u3000\u2026':
        "85 151 219 15442 104 216 12109 218 2829",
    '<|im_start|>user':
        "44 108 306 79 3738 108 46 4093",
}  # fmt: skip
PIECES = [
    "don't", "I'LL", "123", "1,234.56", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "na\u00efve",
    "\u4e2d\u6587\u5b57", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439", "\U0001f642", "\u2026",
    "\u00a0", "__init__", '{"a": 1}', "==", "CamelCaseWord", "x1y2", "\u00bd", "\u2167", "''s",
    "!?", "....", "<|x|>", "<|im_start|>", "\u200b", "e\u0301", "\u0085", "\u2028", "\ufeff",
]  # fmt: skip


@pytest.fixture
def folder(smollm2: str, t2agent_home: Path) -> Path:
    return (t2agent_home / "models" / smollm2).resolve()


@cache
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def tokens(folder: Path) -> Callable[[str], list[int]]:
    encode = tokenizer(folder).encode
    return partial(encode, add_special_tokens=False, split_special_tokens=True)


@pytest.mark.parametrize("text", CASES)
def test_tokens_are_llama_cpp_s(tokens: Callable[[str], list[int]], text: str) -> None:
    assert " ".join(map(str, tokens(text))) == CASES[text]


def test_random_texts_against_llama_cpp_itself(
    tokens: Callable[[str], list[int]], folder: Path
) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    reference = llama_cpp.Llama(str(installed.gguf(folder)), vocab_only=True, verbose=False)
    draw = random.Random(0)
    texts = ["".join(draw.choices(PIECES, k=draw.randint(1, 14))) for _ in range(5000)]
    for text in texts:
        wanted = reference.tokenize(text.encode(), add_bos=False, special=False)
        assert tokens(text) == wanted, repr(text)
