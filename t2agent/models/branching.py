"""Several samples of each prompt, decoded from one copy of the prompt's keys and values.

The samples of a prompt are columns, not rows: of n prompts with S samples each, a step runs n rows
of S tokens, all at the same position. A mask lets each see the prompt and the tokens of its own
sample. So a prompt is run once, its keys and values lie in memory once and are read once a step for
all its samples. Prompts that are done leave the batch, and samples that are done their columns.

For models that attend by any mask that they are given and take positions: tried on each model once
(`branches`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from t2agent.models.likelihood import position_ids, shareable

_PROMPT, _HIDDEN = -1, -2  # owners of keys: all samples, none; else the number of a sample

Draw = Callable[[Tensor, Tensor, int], Tensor]
"""Logits (rows, vocabulary), the rows' numbers, and the step -> a token of each."""
Done = Callable[[Tensor], Tensor]
"""All rows' tokens so far (rows, length) -> which rows (rows,) are done."""


def branches(hf: PreTrainedModel, length: int) -> bool:
    """Whether this model can decode sequences of that many tokens so.

    Not where a sliding window would be left, which the mask does not know of.
    """
    text = hf.config.get_text_config()
    window = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None)
    if isinstance(window, int) and length > window:
        return False
    if (known := _BRANCHES.get(hf)) is None:
        try:
            known = _tried(hf)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError):
            known = False
        _BRANCHES[hf] = known
    return known


def decode(
    hf: PreTrainedModel,
    inputs: dict[str, Any],
    samples: int,
    *,
    limit: int,
    pad: int,
    draw: Draw,
    done: Done,
) -> Tensor:
    """The prompts with at most ``limit`` new tokens for each sample: (n * samples, length) int64.

    inputs: n encoded prompts, padded on the left. pad: what stands after a row's last token. done
    is asked after each step; a row that it named is not asked about again.
    """
    ids, attention = inputs["input_ids"], inputs["attention_mask"].bool()
    device, (n, start) = ids.device, ids.shape
    positions = position_ids(hf, inputs)
    assert positions is not None  # see `branches`
    # Without a window, which no sequence is as long as: all layers keep all keys.
    cache = DynamicCache()
    with torch.no_grad():
        out = hf(
            **inputs,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    tokens = torch.full((n * samples, start + limit), pad, dtype=torch.int64, device=device)
    tokens[:, :start] = ids.repeat_interleave(samples, 0)
    rows = torch.arange(n * samples, device=device)
    tokens[:, start] = draw(out.logits[:, -1].repeat_interleave(samples, 0), rows, 0)
    alive = ~done(tokens[:, : start + 1]).view(n, samples)
    prompts = torch.arange(n, device=device)  # those that are in the batch
    owners = torch.where(attention, _PROMPT, _HIDDEN)
    step = 1
    while step < limit and bool(alive.any()):
        here = alive.any(1)[prompts]
        if not bool(here.all()):
            cache.batch_select_indices(here.nonzero()[:, 0])
            prompts, owners = prompts[here], owners[here]
        live = alive[prompts]
        width = int(live.sum(1).max())
        # Which samples run: those alive come first; where a prompt has fewer, done ones fill up.
        who = live.long().argsort(dim=1, descending=True, stable=True)[:, :width]
        real = live.gather(1, who)
        row = prompts[:, None] * samples + who
        owners = torch.cat([owners, torch.where(real, who, _HIDDEN)], dim=1)
        seen = (owners[:, None] == _PROMPT) | (owners[:, None] == who[..., None])
        seen[..., -width:] |= torch.eye(width, dtype=torch.bool, device=device)  # itself
        last = positions[..., -1:].index_select(-2, prompts) + step
        with torch.no_grad():
            out = hf(
                input_ids=tokens[row, start + step - 1],
                attention_mask=seen[:, None],
                position_ids=last.expand(*last.shape[:-1], width),
                past_key_values=cache,
                use_cache=True,
            )
        rows = row[real]
        tokens[rows, start + step] = draw(out.logits[real], rows, step)
        ended = done(tokens[:, : start + step + 1]).view(n, samples)
        alive &= ~ended
        step += 1
    return tokens[:, : start + step]


_BRANCHES: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def _tried(hf: PreTrainedModel) -> bool:
    """Two samples of two steps, decoded so, against one sequence each."""
    device: Any = hf.get_input_embeddings().weight.device
    prompt = torch.tensor([[0, 1, 2, 3]], device=device)
    new = torch.tensor([[4, 5, 1], [5, 2, 2]], device=device)
    found: dict[int, Tensor] = {}

    def draw(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        found[step] = logits
        return new[rows, step]

    padded = torch.cat([prompt[:, :1], prompt], dim=1)
    mask = torch.ones_like(padded)
    mask[:, 0] = 0
    given = {"input_ids": padded, "attention_mask": mask}
    if not shareable(hf) or position_ids(hf, given) is None:
        return False
    decode(hf, given, 2, limit=3, pad=0, draw=draw, done=lambda t: torch.zeros(len(t)).bool())
    whole = torch.cat([prompt.expand(2, -1), new[:, :2]], dim=1)
    with torch.no_grad():
        wanted = hf(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[:, -1].float()
    wanted = wanted - wanted.mean(-1, keepdim=True)
    got = found[2].float()
    got = got - got.mean(-1, keepdim=True)
    return bool((got - wanted).norm() <= 0.05 * wanted.norm())
