"""Sampling with random numbers of its own: the global generators are neither read nor moved."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


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


class Sampler(LogitsProcessor):
    """Leaves one token of each row possible, drawn by inverting the distribution function.

    seeds: one for each row. limit: tokens an answer can have. start: the length of the sequence
    before the first of them. Sampling is from softmax(logits / temperature), in the smallest set
    of tokens whose probabilities reach top_p.
    """

    def __init__(
        self, seeds: Sequence[int], *, limit: int, start: int, temperature: float, top_p: float
    ) -> None:
        draws = [torch.rand(limit, generator=torch.Generator().manual_seed(s)) for s in seeds]
        self._draws = torch.stack(draws)  # (rows, limit) float32 in [0, 1)
        self._start = start
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary): 0 for the token drawn, -inf for all others."""
        self._draws = self._draws.to(scores.device)
        draw = self._draws[:, input_ids.shape[1] - self._start, None]
        # The largest logit is 0, so that no temperature overflows.
        logits = scores.float()
        logits = (logits - logits.max(-1, keepdim=True).values) / self._temperature
        probabilities = torch.softmax(logits, dim=-1)
        order = None
        if self._top_p < 1:
            probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self._top_p, 0)
        # In float64, where a draw below 1 stays below the sum.
        steps = probabilities.double().cumsum(-1)
        chosen = torch.searchsorted(steps, draw.double() * steps[:, -1:], right=True)
        if order is not None:
            chosen = order.gather(-1, chosen)
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0)
