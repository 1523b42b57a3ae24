"""Answers to a batch of prompts: greedy or sampled, with stop strings, streaming, cancelling.

In `generate` of transformers, a stopping criterion sees every step of every row: it ends rows at
stop strings, streams their text and ends all when cancelled. A logits processor
samples, with random numbers of its own: the global generators are neither read nor moved.
"""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import (
    BatchFeature,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    StoppingCriteriaList,
)

from t2agent.errors import ContextLengthError
from t2agent.models import beams, branching, drafting, packed_steps
from t2agent.models.constrained import Constrained
from t2agent.models.decoding import Cancel, FinishReason, OnText, RowText, Stops, Watcher, reader
from t2agent.models.drafting import CachedSteps
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.packed_steps import Steps, packed_weights
from t2agent.models.plans import Resolved
from t2agent.models.prompt import Prompt, encode
from t2agent.models.reading import in_pieces, read_prompt
from t2agent.models.sampling import Logprobs, Sampler, TokenLogprob, repetition
from t2agent.replies.constraint import Constraint

__all__ = ["Cancel", "FinishReason", "Generation", "OnText", "Prompt", "encode", "generate", "room"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer.

    ``text`` ends before the stop string, if one was met; ``token_ids`` are all tokens that were
    generated, the end-of-sequence token included, padding excluded; ``logprobs`` tells of each how
    likely it was, where the options ask for that.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None

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
    prompts: Sequence[Prompt | str],
    options: GenerationOptions,
    *,
    samples: int = 1,
    cancel: Cancel = None,
    on_text: OnText | None = None,
    inputs: BatchFeature | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    keep: frozenset[int] = frozenset(),
    alike: bool = False,
    seeds: Sequence[int] | None = None,
    quantized: bool = False,
    what: Resolved | None = None,
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
    seeds: one for each sample of each prompt, by default `row_seeds` of the options' seed.
    quantized: decode by the weights of the model's GGUF file as they lie there, where it has one
        and this processor is faster so: see `t2agent.models.packed_steps`.
    what: the mixture that the model is adapted to here, where what it reads of a single prompt may
        be kept, and taken from earlier ones that began alike: see `t2agent.models.reading`.

    With a seed, an answer depends on the prompt, the options and the seed alone: see
    `row_seeds`. The answers of one batch share the room that its longest prompt
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
    rows = len(prompts) * copies
    start = 1 if model.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    stops = Stops.of(model, options.stop)
    read = reader(model.tokenizer, keep)
    watcher = Watcher(
        read,
        [RowText(read, stops.texts) for _ in range(rows)] if stops.texts or on_text else None,
        stops.tokens,
        _each(cancel, len(prompts), copies),
        _spread(on_text, samples // copies),
        start,
    )
    processors = LogitsProcessorList()
    logprobs = None if options.logprobs is None else Logprobs(rows, options.logprobs)
    if logprobs is not None:
        processors.append(logprobs)
    processors += repetition(options)
    constrained = None
    if constraints is not None and any(constraints):
        each = [one for one in constraints for _ in range(copies)]
        constrained = Constrained(
            model, each, ends=stops.tokens, limit=limit, start=start, keep=keep
        )
        processors.append(constrained)
    config = _config(model, stops.tokens, limit)
    if options.temperature > 0:
        keys = [prompt_key(prompt) for prompt in prompts]
        sampler = Sampler(
            seeds or row_seeds(options.seed, keys, copies, alike=alike),
            options,
            limit=limit,
            start=start,
        )
        processors.append(sampler)
    width = 1
    if rows == 1 and constraints is not None:
        most = max(1, beams.TOKENS // (start + limit))
        width = min(beams.beams(options, constraints[0]), most)
    guess = None
    if rows == 1 and constrained is not None and len(processors) == 1:
        guess = constrained.guess
    alone = rows == 1 and (guess is not None or in_pieces(model.model, inputs))
    branched = copies > 1 and len(processors) == 1
    packed = _steps(model, config, inputs, rows, limit, width) if quantized else None
    if packed is None and (alone or branched) and not _branches(model, config, start + limit):
        alone = branched = False
    if packed is not None or alone:
        logits, cache = read_prompt(model, inputs, what)
        steps = CachedSteps(model.model, cache) if packed is None else packed(cache)
    if alone and constrained is not None and width > 1:
        sequences = beams.search(
            inputs["input_ids"],
            logits,
            steps,
            constrained,
            width=width,
            limit=limit,
            ends=stops.tokens,
            done=lambda tokens: bool(watcher(tokens, tokens).any()),
            cancelled=watcher.cancelled,
        )
    elif packed is not None or alone:
        sequences = drafting.decode(
            inputs["input_ids"],
            logits,
            steps,
            limit=limit,
            pad=config.pad_token_id,
            ends=stops.tokens,
            scores=processors,
            done=watcher,
            guess=guess,
        )
    elif branched:
        ends = torch.tensor(sorted(stops.tokens), device=inputs["input_ids"].device)
        sequences = branching.decode(
            model.model,
            dict(inputs),
            copies,
            limit=limit,
            pad=config.pad_token_id,
            draw=sampler.draw,
            done=lambda tokens: watcher(tokens, tokens) | torch.isin(tokens[:, -1], ends),
        )
    else:
        if copies > 1:
            inputs = _repeated(model, prompts, inputs, copies)
        sequences = model.model.generate(
            **inputs,
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([watcher]),
        )
    answers = []
    for row, sequence in enumerate(sequences[:, start:].tolist()):
        tokens = _until(sequence[: watcher.length(row)], stops.tokens)
        answer = Generation(
            watcher.finish(row, tokens),
            tuple(tokens),
            watcher.reason(row, tokens, limit),
            lengths[row // copies],
            None if logprobs is None else logprobs.of(row, tokens),
        )
        answers += [answer] * (samples // copies)
    return answers


_OURS: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,  # what "not set" is here: no warning about a setting without effect
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "max_length": None,
    "min_length": 0,
    "return_dict_in_generate": False,
}


def _config(model: T2Model, ends: frozenset[int], limit: int) -> GenerationConfig:
    """The checkpoint's own, with the sampling left to us."""
    config: GenerationConfig = copy.deepcopy(model.model.generation_config)
    config.update(**_OURS, max_new_tokens=limit, eos_token_id=sorted(ends) or None)
    if config.pad_token_id is None:
        pad = model.tokenizer.pad_token_id
        config.pad_token_id = min(ends, default=0) if pad is None else pad
    return config


def _branches(model: T2Model, config: GenerationConfig, length: int) -> bool:
    """Whether samples of a prompt may run beside each other: with one mixture for all rows, and
    where the checkpoint asks for nothing but the tokens of its own."""
    return not model.mixed and not asks_more(config) and branching.branches(model.model, length)


def asks_more(config: GenerationConfig) -> bool:
    """Whether the checkpoint wants more of decoding than that it ends at certain tokens."""
    tokens = {"bos_token_id", "eos_token_id", "pad_token_id"}
    neutral = {*_OURS, *tokens, "max_new_tokens", "use_cache", "transformers_version"}
    asked = {
        key
        for key, value in config.to_diff_dict().items()
        if value is not False and not key.startswith("_")
    }
    return bool(asked - neutral)


def _steps(
    model: T2Model,
    config: GenerationConfig,
    inputs: BatchFeature,
    rows: int,
    limit: int,
    width: int,
) -> Callable[[DynamicCache], Steps] | None:
    """What decodes the batch by packed weights, up to ``width`` beginnings of its only row; None
    where that is not possible, or slower."""
    if rows != len(inputs["input_ids"]) or rows > packed_steps.ROWS or asks_more(config):
        return None
    if set(inputs) != {"input_ids", "attention_mask"}:
        return None
    made = packed_weights(model)
    layers = None if made is None else made.adapted(model)
    if made is None or layers is None:
        return None
    attention = inputs["attention_mask"].repeat_interleave(width, 0)
    return partial(Steps.after, made, layers, attention=attention, room=limit)


def _repeated(
    model: T2Model, prompts: Sequence[Prompt | str], inputs: BatchFeature, copies: int
) -> BatchFeature:
    """The input with each row repeated, the copies side by side."""
    if set(inputs) == {"input_ids", "attention_mask"}:
        return BatchFeature({k: v.repeat_interleave(copies, 0) for k, v in inputs.items()})
    # Where the images of the rows lie differs between families: encode them again.
    return encode(model, [prompt for prompt in prompts for _ in range(copies)])


def _each(cancel: Cancel, prompts: int, copies: int) -> list[threading.Event]:
    """The event of each row; none where nothing ends them early."""
    events = [cancel] * prompts if isinstance(cancel, threading.Event) else cancel or ()
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


def prompt_key(prompt: Prompt | str) -> str:
    """What makes a prompt the same prompt."""
    if isinstance(prompt, str):
        return prompt
    known = [prompt.messages, prompt.tools] if prompt.tools else prompt.messages
    digest = hashlib.blake2b(json.dumps(known, default=str).encode(), digest_size=16)
    for image in prompt.images:
        digest.update(repr((image.mode, image.size)).encode())
        digest.update(image.tobytes())
    return digest.hexdigest()


def row_seeds(
    seed: int | None, keys: Sequence[Hashable], samples: int, *, alike: bool = False
) -> list[int]:
    """A seed for each sample of each prompt, prompts first.

    A row's seed depends on the seed, the prompt's key, how often the prompt came before in this
    batch and the number of the sample, so a prompt is answered alike alone and in any batch, while
    prompts, copies of a prompt and samples are independent; with `alike` and a seed, copies of a
    prompt are answered alike. Without a seed they are fresh.
    """
    base = secrets.randbits(63) if seed is None else seed
    seen: Counter[Hashable] = Counter()
    seeds = []
    for key in keys:
        for sample in range(samples):
            name = repr((base, key, seen[key], sample)).encode()
            seeds.append(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> 1)
        if not alike or seed is None:
            seen[key] += 1
    return seeds
