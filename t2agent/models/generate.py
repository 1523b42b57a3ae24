"""Answers to a batch of prompts: greedy or sampled, with stop strings, streaming, cancelling.

In `generate` of transformers, a stopping criterion sees every step of every row: it ends rows at
stop strings, streams their text and ends all when cancelled. A logits processor samples.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import (
    BatchFeature,
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteriaList,
)

from t2agent.errors import ContextLengthError
from t2agent.models.constrained import Constrained
from t2agent.models.decoding import RowText, hidden
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from t2agent.models.sampling import Sampler, row_seeds
from t2agent.models.watching import Cancel, FinishReason, OnText, Stops, Watcher
from t2agent.paths import GenerationOptions
from t2agent.replies.constraint import Constraint

__all__ = ["Cancel", "FinishReason", "Generation", "OnText", "Prompt", "encode", "generate", "room"]


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
    cancel: Cancel = None,
    on_text: OnText | None = None,
    inputs: BatchFeature | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    keep: frozenset[int] = frozenset(),
    alike: bool = False,
) -> list[Generation]:
    """Answer prompts (or continue plain texts), as the model is adapted where this is called.

    samples: answers to each prompt; all of a prompt's come before the next prompt's. At
        temperature 0 they are equal and generated once.
    cancel: ends all answers at the next token when it is set; or one event for each prompt.
    on_text: called with a row (of the result) and a piece of its text, as soon as it is certain;
        the pieces of a row together are the text of its result.
    inputs: what `encode` returned for the prompts, where the caller has it already.
    constraints: what the answer to each prompt must look like (`t2agent.grammar`).
    keep: special tokens that stay in the text.
    alike: copies of a prompt get the same seed, as if each were alone; else independent ones.

    With a seed, an answer depends on the prompt, the options and the seed alone: see
    `t2agent.models.sampling.row_seeds`. The answers of one batch share the room that its longest prompt
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
    start = 1 if model.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    stops = Stops.of(model, options.stop)
    dropped = hidden(model.tokenizer, keep) if keep else None
    watcher = Watcher(
        [RowText(model.tokenizer, stops.texts, dropped) for _ in range(rows)]
        if stops.texts or on_text
        else None,
        stops.tokens,
        _each(cancel, len(prompts), copies),
        _spread(on_text, samples // copies),
        dropped,
        start=start,
    )
    processors = LogitsProcessorList()
    if constraints is not None and any(constraints):
        each = [one for one in constraints for _ in range(copies)]
        processors.append(
            Constrained(model, each, ends=stops.tokens, limit=limit, start=start, keep=keep)
        )
    if options.temperature > 0:
        processors.append(
            Sampler(
                row_seeds(options.seed, [_key(prompt) for prompt in prompts], copies, alike=alike),
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


def _each(cancel: Cancel, prompts: int, copies: int) -> list[threading.Event] | None:
    """The event of each row."""
    if cancel is None:
        return None
    events = [cancel] * prompts if isinstance(cancel, threading.Event) else cancel
    return [event for event in events for _ in range(copies)]


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
    known = [prompt.messages, prompt.tools] if prompt.tools else prompt.messages
    digest = hashlib.blake2b(json.dumps(known, default=str).encode(), digest_size=16)
    for image in prompt.images:
        digest.update(repr((image.mode, image.size)).encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
