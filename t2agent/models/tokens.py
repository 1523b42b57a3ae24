"""A model's tokens as xgrammar sees them, and constraints compiled for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from t2agent.errors import ConfigError, GrammarError
from t2agent.models.decoding import end_tokens
from t2agent.models.model import T2Model
from t2agent.models.prompt import TOKENIZER_LOCK
from t2agent.replies.constraint import Constraint

_CACHE_BYTES = 256 << 20
_TOKENS: WeakKeyDictionary[T2Model, Tokens] = WeakKeyDictionary()
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tokens:
    """A model's tokens as xgrammar sees them.

    Attributes:
        compiler: xgrammar's.
        texts: the bytes of each token.
        ids: bytes -> the token that spells them, special tokens left out.
        special: the tokens that do not show in a text.
        longest: the length of the longest of ``texts``.
        made_of: what changes with the tokenizer.
        guards: text -> what tells the tokens that would complete it; made once, over all tokens.
    """

    compiler: Any
    texts: Sequence[bytes]
    ids: Mapping[bytes, int]
    special: frozenset[int]
    longest: int
    made_of: tuple[int, frozenset[int]]
    guards: dict[bytes, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: T2Model) -> Tokens:
        """Those of a model; made once."""
        ends = end_tokens(model)
        made_of = (len(model.tokenizer), ends)
        with _LOCK:
            known = _TOKENS.get(model)
            if known is None or known.made_of != made_of:
                known = _TOKENS[model] = _tokens(model, ends, made_of)
            return known


def compiled(model: T2Model, constraint: Constraint) -> Any:
    """The constraint as xgrammar's CompiledGrammar, for a model's tokens.

    Raises GrammarError where it cannot follow the schema, ConfigError for a model without a token
    that ends replies.
    """
    if not end_tokens(model):
        raise ConfigError(
            f"{model.name} has no end-of-sequence token, and a constrained reply must end: set "
            "eos_token_id of its generation config"
        )
    tokens = Tokens.of(model)
    with _LOCK:
        try:
            return tokens.compiler.compile_structural_tag(constraint.tag)
        except (RuntimeError, ValueError, TypeError) as error:
            raise GrammarError(
                f"no grammar can be made of the schema: {' '.join(str(error).split())[:400]}. "
                "Give a JSON schema without what is named there"
            ) from error


def _tokens(model: T2Model, ends: frozenset[int], made_of: tuple[int, frozenset[int]]) -> Tokens:
    import xgrammar  # takes a while: only where something is constrained

    size = model.model.config.get_text_config().vocab_size
    with TOKENIZER_LOCK:
        info = xgrammar.TokenizerInfo.from_huggingface(
            model.tokenizer, vocab_size=size, stop_token_ids=sorted(ends)
        )
        added = model.tokenizer.added_tokens_decoder.items()
        special = {number for number, token in added if token.special}
        special |= set(model.tokenizer.all_special_ids)
    texts: list[bytes] = list(info.decoded_vocab)
    ids: dict[bytes, int] = {}
    for number, text in enumerate(texts):
        if text and number not in special:
            ids.setdefault(text, number)
    compiler = xgrammar.GrammarCompiler(info, cache_limit_bytes=_CACHE_BYTES)
    longest = max(map(len, texts), default=0)
    return Tokens(compiler, texts, ids, frozenset(special | ends), longest, made_of)
