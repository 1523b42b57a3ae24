"""Grammars compiled for a model's tokens, each once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from t2agent.errors import ConfigError, GrammarError
from t2agent.models.decoding import end_tokens
from t2agent.models.lengths import of_bytes
from t2agent.models.model import T2Model
from t2agent.models.once import Once
from t2agent.replies.constraint import Constraint

_NUMBER = re.compile(rb"\s?-?\d")
_CACHE_BYTES = 128 << 20
_GRAMMARS = 64  # compiled grammars that a model keeps
_STATES = 10_000_000  # times tokens: what a core compiles in less than two seconds


@dataclass(frozen=True)
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
        grammars: those that were compiled.
        exact: those that were compiled for bytes.
    """

    compiler: Any
    texts: Sequence[bytes]
    ids: Mapping[bytes, int]
    special: frozenset[int]
    longest: int
    made_of: tuple[int, frozenset[int]]
    guards: dict[bytes, Any] = field(default_factory=dict)
    grammars: Once[str, Any] = field(default_factory=partial(Once, _GRAMMARS))
    exact: Once[str, Any] = field(default_factory=partial(Once, _GRAMMARS))

    @cached_property
    def quotes(self) -> frozenset[int]:
        """The tokens that a string of JSON ends with."""
        return frozenset(at for at, text in enumerate(self.texts) if text.startswith(b'"'))

    @cached_property
    def digits(self) -> frozenset[int]:
        """The tokens that begin a number."""
        return frozenset(at for at, text in enumerate(self.texts) if _NUMBER.match(text))

    @classmethod
    def of(cls, model: T2Model) -> Tokens:
        """Those of a model; made once."""
        made_of = _made_of(model)
        return model.attached(_tokens, lambda known: known.made_of == made_of)


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
    return _made(tokens.grammars, constraint.tag, tokens.compiler)


def compiled_exactly(model: T2Model, constraint: Constraint) -> Any:
    """What `Constraint.exact` holds, for bytes: with few tokens, many states are compiled at once.
    None where there is none; raises GrammarError as `compiled`."""
    if not constraint.exact:
        return None
    return _made(Tokens.of(model).exact, constraint.exact_tag, of_bytes())


def _made(known: Once[str, Any], tag: str, compiler: Any) -> Any:
    try:
        return known.of(tag, compiler.compile_structural_tag)
    except (RuntimeError, ValueError, TypeError) as error:
        raise GrammarError(
            f"no grammar can be made of the schema: {' '.join(str(error).split())[:400]}. "
            "Give a JSON schema without what is named there"
        ) from error


def room(model: T2Model) -> float:
    """How large a grammar may be for a model's tokens, so that it is compiled within two seconds.

    A state takes up to 0.16 microseconds of a core for each token (measured for Qwen 2's 151,000);
    xgrammar works on all cores that the process may use, up to 8.
    """
    tokens: int = model.model.config.get_text_config().vocab_size
    own = getattr(os, "sched_getaffinity", None)  # not everywhere
    cores = len(own(0)) if own is not None else os.cpu_count() or 1
    return _STATES * min(cores, 8) / int(tokens)


def _made_of(model: T2Model) -> tuple[int, frozenset[int]]:
    return len(model.tokenizer), frozenset(end_tokens(model))


def _tokens(model: T2Model) -> Tokens:
    import xgrammar  # takes a while: only where something is constrained

    made_of = _made_of(model)
    ends = made_of[1]
    size = model.model.config.get_text_config().vocab_size
    with model.tokenizer_lock:
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
