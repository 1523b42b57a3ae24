"""Base models from GGUF files: checked, and with a tokenizer that splits text as the file says.

transformers dequantises the weights and rebuilds config and tokenizer from the file's metadata. Of
a byte-level vocabulary (``tokenizer.ggml.model`` = "gpt2") the file names the rule by which text is
split before merging (``tokenizer.ggml.pre``); names that transformers does not know, it treats as
GPT-2's, without a word: numbers and blank lines then become tokens that the model was never trained
on. The rules here are those of llama.cpp (src/llama-vocab.cpp), the format's reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import modeling_gguf_pytorch_utils as reading

from t2agent.errors import ConfigError

_SHORT = "'s|'t|'re|'ve|'m|'ll|'d"
_ANY_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = _SHORT + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"


def _words(numbers: str, signs: str = _SIGNS, short: str = _ANY_CASE) -> str:
    """The rule of Llama 3 and Qwen 2, which differ in how many digits stay together."""
    return f"{short}|{_WORD}|{numbers}|{signs}|{_LINES}"


def _cased(after: str, numbers: str) -> str:
    """The rule of GPT-4o: a word also ends where a capital follows small letters."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    start, signs = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
    words = (f"{start}{upper}*{lower}+{after}", f"{start}{upper}+{lower}*{after}")
    return "|".join((*words, numbers, signs, _LINES))


_LLAMA3 = (_words(r"\p{N}{1,3}"),)
_QWEN2 = (_words(r"\p{N}"),)
_GPT4O = (_cased(_ANY_CASE + "?", r"\p{N}{1,3}"),)
_DIGITS = (r"\p{N}", _GPT2)
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|" + _LINES,
)
_BAILING = ("'(?i:[sdmt]|ll|ve|re)|" + _WORD + r"|\p{N}|" + _SIGNS + r"|\s*[\r\n]|\s+(?!\S)|\s+",)

# Each rule splits what the one before it left, at its matches and between them.
_RULES: dict[tuple[str, ...], str] = {
    (_GPT2,): "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum "
    "modern-bert jina-v1-en jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling "
    "exaone4",
    _DIGITS: "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    _LLAMA3: "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx "
    "smaug-bpe chatglm-bpe glm4 glm5",
    _QWEN2: "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    _GPT4O: "gpt-4o llama4 kanana2 talkie minimax-m2",
    (_cased("", r"\p{N}"),): "tekken",
    (_words(r"\p{N}", r" ?[^\s\p{L}\p{N}\r\n]+"),): "seed-coder",
    (r"\p{N}{1,3}", _words(r"\p{N}+")): "minicpm5",
    _DEEPSEEK3: "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"): "deepseek-coder",
    (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"): "falcon",
    _BAILING: "bailingmoe bailingmoe2 llada-moe",
    (
        _ANY_CASE + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
        + _LINES,
    ): "qwen35",
    (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"): "default",
}  # fmt: skip
SPLITS = {name: rules for rules, names in _RULES.items() for name in names.split()}

# Whole words of the vocabulary are taken before anything is merged.
_WHOLE_FIRST = {
    *_RULES[_LLAMA3].split(),
    *("tekken", "minicpm5"),
} - {"dbrx", "smaug-bpe", "chatglm-bpe"}
_TEXT_TYPE = 8


def checked_rule(path: Path) -> str | None:
    """The name of the rule by which a file's tokenizer splits text, None where it needs none.

    Raises:
        ConfigError: the package gguf is not installed, the file is no whole GGUF file, or the rule
            is not known here: text would be read as other tokens than the model was trained on.
    """
    fields = _fields(path)
    if fields.get("tokenizer.ggml.model") != "gpt2":
        return None
    rule = fields.get("tokenizer.ggml.pre")
    if rule not in SPLITS:
        said = "does not say how" if rule is None else f"says {rule!r} for how"
        raise ConfigError(
            f"{path.name} {said} its tokenizer splits text, and it is not guessed; known are "
            f"{', '.join(sorted(SPLITS))}. Take the model's original files instead, which have a "
            "tokenizer.json"
        )
    return rule


def split_as(tokenizer: Any, rule: str) -> None:
    """Have a byte-level tokenizer of transformers split text by a rule of `SPLITS`."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.pre_tokenizer = _pre_tokenizer(SPLITS[rule])
    backend.model.ignore_merges = rule in _WHOLE_FIRST


@contextmanager
def no_bars(enabled: bool = True) -> Iterator[None]:
    """Keep transformers from drawing its bar over a file's tensors, which knows no setting."""
    drawn = getattr(reading, "tqdm", None)
    if enabled and drawn is not None:
        setattr(reading, "tqdm", partial(drawn, disable=True))  # noqa: B010
    try:
        yield
    finally:
        if drawn is not None:
            setattr(reading, "tqdm", drawn)  # noqa: B010


def _pre_tokenizer(splits: Iterable[str]) -> pre_tokenizers.PreTokenizer:
    parts = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in splits]
    return pre_tokenizers.Sequence(
        [*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _fields(path: Path) -> dict[str, str]:
    """The texts among a file's metadata."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ConfigError(
            f"{path.name} is a GGUF file, and the package that reads those is not installed: "
            "pip install 't2agent[gguf]'"
        ) from error
    try:
        reader = GGUFReader(path)
        return {
            name: str(field.contents())
            for name, field in reader.fields.items()
            if field.types and field.types[0] == _TEXT_TYPE
        }
    # What the reader raises about damaged files has no common type.
    except Exception as error:
        raise ConfigError(
            f"{path} is no whole GGUF file ({type(error).__name__}: {error}); get it again"
        ) from error
