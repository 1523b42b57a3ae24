"""Prompts are read, so that their replies can begin.

A prompt of one row is read in pieces (`t2agent.models.prefixes.piece_ends`), of which those that
were read before, by the same mixture, are taken from the model's `T2Model.prefix_cache`. The pieces
are the same whether they are known or not, so the same numbers come of the same passes: a reply is
bit for bit the one that it would be with nothing known, in any dtype. (Read in one pass, as in a
batch of several, a prompt's numbers are rounded otherwise.)

Prompts with images are read whole, and nothing of them is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from t2agent.models.decoding import end_tokens
from t2agent.models.likelihood import position_ids
from t2agent.models.model import T2Model
from t2agent.models.plans import Resolved
from t2agent.models.prefixes import piece_ends
from t2agent.models.slots import Held


def in_pieces(hf: PreTrainedModel, inputs: Mapping[str, Any]) -> bool:
    """Whether encoded prompts are one row of text without padding, with positions that count its
    tokens."""
    if set(inputs) != {"input_ids", "attention_mask"} or len(inputs["input_ids"]) > 1:
        return False
    positions = position_ids(hf, dict(inputs))
    return positions is not None and positions.dim() == 2 and bool(inputs["attention_mask"].all())


@torch.no_grad()
def read_prompt(
    model: T2Model, inputs: Mapping[str, Any], what: Resolved | None = None
) -> tuple[Tensor, DynamicCache]:
    """The logits (rows, 1, vocabulary) after encoded prompts, and their keys and values.

    For models that `branching.branches` is true of. what: the mixture that the model is adapted
    to; None where that is not known: then nothing is looked up or kept.
    """
    hf, cache = model.model, DynamicCache()
    ids: Tensor = inputs["input_ids"]
    positions = position_ids(hf, dict(inputs))
    more: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    if positions is None or not in_pieces(hf, inputs):
        whole: Tensor = hf(**inputs, position_ids=positions, **more).logits
        return whole, cache
    tokens = ids[0].tolist()
    ends = piece_ends(tokens, end_tokens(model))
    names: list[Any] = []
    if what is not None:
        made_by = (what.key, model.rewritten, hf.dtype, ids.device)
        names = [(made_by, *tokens[:end]) for end in ends]
    known = model.prefix_cache.find(names)
    for at, layer in enumerate(zip(*(piece.layers for piece in known), strict=True)):
        keys, values = (torch.cat(each, dim=1)[None] for each in zip(*layer, strict=True))
        cache.update(keys, values, at)
    new = list(pairwise([0, *ends, len(tokens)]))[len(known) :]
    for start, end in new:
        logits: Tensor = hf(
            input_ids=ids[:, start:end],
            attention_mask=inputs["attention_mask"][:, :end],
            position_ids=positions[:, start:end],
            **more,
        ).logits
    held = Held.of(cache, None)
    pieces = zip(names[len(known) :], new, strict=False)  # but for what is left of the prompt
    model.prefix_cache.keep({name: held.part(*place) for name, place in pieces})
    return logits, cache
