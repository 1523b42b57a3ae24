"""Answers to a batch of prompts: greedy or sampled, with stop strings, streaming, cancelling.

In `generate` of transformers, a stopping criterion sees every step of every row: it ends rows at
stop strings, streams their text and ends all when cancelled. A logits processor samples.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    BatchFeature,
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from t2agent.config import GenerationOptions
from t2agent.decoding import RowText, decode
from t2agent.errors import ContextLengthError
from t2agent.model import T2Model
from t2agent.prompt import Prompt, encode
from t2agent.sampling import Sampler, row_seeds

__all__ = ["Generation", "Prompt", "encode", "generate", "room"]

OnText = Callable[[int, str], None]
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer.

    ``text`` ends before the stop string, if one was met; ``token_ids`` are all tokens that were
    generated, the end-of-sequence token included, padding excluded.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated."""
        return len(self.token_ids)


def room(model: T2Model, inputs: BatchFeature) -> list[int]:
    """For each row of encoded prompts, the tokens that the context leaves for its answer.

    Raises ContextLengthError where that is none.
    """
    lengths: list[int] = inputs["attention_mask"].sum(1).tolist()
    if max(lengths) >= model.context_length:
        raise ContextLengthError(
            f"the prompt has {max(lengths)} tokens, but {model.name} has room for "
            f"{model.context_length}, prompt and answer together: shorten the prompt"
        )
    return [model.context_length - length for length in lengths]


def generate(
    model: T2Model,
    prompts: Sequence[Prompt] | Sequence[str],
    options: GenerationOptions,
    *,
    samples: int = 1,
    cancel: threading.Event | None = None,
    on_text: OnText | None = None,
    inputs: BatchFeature | None = None,
) -> list[Generation]:
    """Answer prompts (or continue plain texts), as the model is adapted where this is called.

    samples: answers to each prompt; all of a prompt's come before the next prompt's. At
        temperature 0 they are equal and generated once.
    cancel: ends all answers at the next token when it is set.
    on_text: called with a row (of the result) and a piece of its text, as soon as it is certain;
        the pieces of a row together are the text of its result.
    inputs: what `encode` returned for the prompts, where the caller has it already.

    With a seed, an answer depends on the prompt, the options and the seed alone: see
    `t2agent.sampling.row_seeds`. The answers of one batch share the room that its longest prompt
    leaves in the context. What the checkpoint's generation config says beyond sampling, such as
    the end tokens or a repetition penalty, holds.

    Raises ContextLengthError, and what `encode` raises.
    """
    if not prompts:
        return []
    inputs = encode(model, prompts) if inputs is None else inputs
    limit = min(options.max_tokens, *room(model, inputs))
    lengths: list[int] = inputs["attention_mask"].sum(1).tolist()
    copies = samples if options.temperature > 0 else 1
    if copies > 1:
        inputs = _repeated(model, prompts, inputs, copies)
    rows = len(prompts) * copies
    stops = _Stops.of(model, options.stop)
    watcher = _Watcher(
        [RowText(model.tokenizer, stops.texts) for _ in range(rows)]
        if stops.texts or on_text
        else None,
        stops.tokens,
        cancel,
        _spread(on_text, samples // copies),
    )
    start = 1 if model.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    processors = LogitsProcessorList()
    if options.temperature > 0:
        processors.append(
            Sampler(
                row_seeds(options.seed, [_key(prompt) for prompt in prompts], copies),
                limit=limit,
                start=start,
                temperature=options.temperature,
                top_p=options.top_p,
            )
        )
    sequences = model.model.generate(
        **inputs,
        generation_config=_config(model, stops.tokens, limit),
        logits_processor=processors,
        stopping_criteria=StoppingCriteriaList([watcher]),
    )
    answers = []
    for row, sequence in enumerate(sequences[:, start:].tolist()):
        tokens = _until(sequence[: watcher.length(row)], stops.tokens)
        answer = Generation(
            watcher.finish(row, tokens, model.tokenizer),
            tuple(tokens),
            watcher.reason(row, tokens, limit),
            lengths[row // copies],
        )
        answers += [answer] * (samples // copies)
    return answers


@dataclass(frozen=True, slots=True)
class _Stops:
    """What ends an answer: tokens, and texts."""

    tokens: frozenset[int]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, model: T2Model, stop: Sequence[str]) -> _Stops:
        ends = model.model.generation_config.eos_token_id
        if ends is None:
            ends = model.tokenizer.eos_token_id
        tokens = {ends} if isinstance(ends, int) else set(ends or ())
        # Special tokens do not show in the text, so they are looked for as tokens.
        special = {
            token.content: number
            for number, token in (model.tokenizer.added_tokens_decoder.items() if stop else ())
            if token.special and token.content in stop
        }
        tokens.update(special.values())
        return cls(frozenset(tokens), tuple(text for text in stop if text not in special))


class _Watcher(StoppingCriteria):
    """Sees each new token of each row.

    texts: one for each row where the text is needed at each step, else None.
    """

    def __init__(
        self,
        texts: list[RowText] | None,
        ends: frozenset[int],
        cancel: threading.Event | None,
        on_text: OnText | None,
    ) -> None:
        self._texts = texts
        self._ends = ends
        self._cancel = cancel
        self._on_text = on_text
        self._lengths = [0] * len(texts or ())
        self._done = [False] * len(texts or ())
        self.cancelled = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **_kwargs: Any) -> Tensor:  # noqa: ARG002
        if self._texts is not None:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                if not self._done[row]:
                    self._see(row, token, self._texts[row])
        self.cancelled = self._cancel is not None and self._cancel.is_set()
        if self.cancelled or self._texts is None:
            shape = (len(input_ids),)
            return torch.full(shape, self.cancelled, dtype=torch.bool, device=input_ids.device)
        return torch.tensor(self._done, device=input_ids.device)

    def length(self, row: int) -> int | None:
        """The tokens of the row, where it is known; more may be padding."""
        return None if self._texts is None else self._lengths[row]

    def reason(self, row: int, tokens: list[int], limit: int) -> FinishReason:
        """Why the row ended."""
        stopped = self._texts is not None and self._texts[row].stopped
        if stopped or (tokens and tokens[-1] in self._ends):
            return "stop"
        return "cancelled" if self.cancelled and len(tokens) < limit else "length"

    def finish(self, row: int, tokens: list[int], tokenizer: Any) -> str:
        """The text of the row, of which the last piece is handed out now."""
        if self._texts is None:
            return decode(tokenizer, tokens)
        if not self._done[row]:
            self._end(row, self._texts[row])
        return self._texts[row].text

    def _see(self, row: int, token: int, text: RowText) -> None:
        self._lengths[row] += 1
        if token in self._ends:
            self._end(row, text)
            return
        self._hand_out(row, text.push(token))
        self._done[row] = text.stopped

    def _end(self, row: int, text: RowText) -> None:
        self._done[row] = True
        self._hand_out(row, text.finish())

    def _hand_out(self, row: int, piece: str) -> None:
        if piece and self._on_text is not None:
            self._on_text(row, piece)


def _config(model: T2Model, ends: frozenset[int], limit: int) -> GenerationConfig:
    """The checkpoint's own, with the sampling left to us."""
    config: GenerationConfig = copy.deepcopy(model.model.generation_config)
    config.update(
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,  # what "not set" is here: no warning about a setting without effect
        min_p=None,
        typical_p=1.0,
        epsilon_cutoff=0.0,
        eta_cutoff=0.0,
        max_length=None,
        max_new_tokens=limit,
        min_length=0,
        eos_token_id=sorted(ends) or None,
        return_dict_in_generate=False,
    )
    if config.pad_token_id is None:
        pad = model.tokenizer.pad_token_id
        config.pad_token_id = min(ends, default=0) if pad is None else pad
    return config


def _repeated(
    model: T2Model, prompts: Sequence[Prompt] | Sequence[str], inputs: BatchFeature, copies: int
) -> BatchFeature:
    """The input with each row repeated, the copies side by side."""
    if set(inputs) == {"input_ids", "attention_mask"}:
        return BatchFeature({k: v.repeat_interleave(copies, 0) for k, v in inputs.items()})
    # Where the images of the rows lie differs between families: encode them again.
    return encode(model, [prompt for prompt in prompts for _ in range(copies)])  # type: ignore[arg-type]


def _spread(on_text: OnText | None, times: int) -> OnText | None:
    """Hand out the text of a row that stands for several equal ones."""
    if on_text is None or times == 1:
        return on_text

    def spread(row: int, piece: str) -> None:
        for sample in range(times):
            on_text(row * times + sample, piece)

    return spread


def _until(tokens: list[int], ends: frozenset[int]) -> list[int]:
    at = next((i for i, token in enumerate(tokens) if token in ends), None)
    return tokens if at is None else tokens[: at + 1]


def _key(prompt: Prompt | str) -> str:
    """What makes a prompt the same prompt."""
    if isinstance(prompt, str):
        return prompt
    digest = hashlib.blake2b(json.dumps(prompt.messages, default=str).encode(), digest_size=16)
    for image in prompt.images:
        digest.update(repr((image.mode, image.size)).encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
