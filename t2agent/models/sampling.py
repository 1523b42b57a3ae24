"""How the next token is drawn, and what is kept of the probabilities that it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor

from t2agent.models.options import GenerationOptions


class Sampler(LogitsProcessor):
    """Leaves one token of each row possible, drawn by inverting the distribution function.

    seeds: one for each row. limit: tokens an answer can have. start: the length of the sequence
    before the first of them. Sampling is from softmax(logits / temperature), of which first the
    `top_k` likeliest are left, then the smallest set whose probabilities reach `top_p`, then those
    that are at least `min_p` times as likely as the likeliest.
    """

    def __init__(
        self, seeds: Sequence[int], options: GenerationOptions, *, limit: int, start: int
    ) -> None:
        draws = [torch.rand(limit, generator=torch.Generator().manual_seed(s)) for s in seeds]
        self._draws = torch.stack(draws)  # (rows, limit) float32 in [0, 1)
        self._start = start
        self._options = options

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary): 0 for the token drawn, -inf for all others."""
        chosen = self.draw(scores, torch.arange(len(scores)), input_ids.shape[1] - self._start)
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen[:, None], 0)

    def draw(self, scores: Tensor, rows: Tensor, step: int) -> Tensor:
        """A token of each of these rows, (rows,) int64, by their scores (rows, vocabulary)."""
        self._draws = self._draws.to(scores.device)
        draw = self._draws[rows.to(scores.device), step, None]
        # The largest logit is 0, so that no temperature overflows.
        logits = scores.float()
        logits = (logits - logits.max(-1, keepdim=True).values) / self._options.temperature
        probabilities = torch.softmax(logits, dim=-1)
        order = None
        if self._options.cuts:
            probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
            probabilities = self._cut(probabilities)
        # In float64, where a draw below 1 stays below the sum.
        steps = probabilities.double().cumsum(-1)
        chosen = torch.searchsorted(steps, draw.double() * steps[:, -1:], right=True)
        if order is not None:
            chosen = order.gather(-1, chosen)
        return chosen[:, 0]

    def _cut(self, probabilities: Tensor) -> Tensor:
        """Probabilities (rows, vocabulary), the largest first, with 0 where nothing is drawn."""
        options = self._options
        if options.top_k:
            probabilities = probabilities.clone()
            probabilities[:, options.top_k :] = 0
            probabilities /= probabilities.sum(-1, keepdim=True)
        if options.top_p < 1:
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= options.top_p, 0)
        least = options.min_p * probabilities[:, :1]
        return probabilities.masked_fill(probabilities < least, 0)


def repetition(options: GenerationOptions) -> list[LogitsProcessor]:
    """What makes tokens that stand before less likely (arXiv 1909.05858); none at 1."""
    if options.repetition_penalty == 1:
        return []
    return [RepetitionPenaltyLogitsProcessor(options.repetition_penalty)]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of a reply with the logarithm of its probability.

    ``top``: the likeliest tokens in its place with theirs, the likeliest first. Probabilities are
    the model's, before temperature, penalties and constraints.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Logprobs(LogitsProcessor):
    """Changes nothing, and remembers the log-probabilities of what is chosen; comes before others.

    top: likeliest tokens that are kept for each place.
    """

    def __init__(self, rows: int, top: int) -> None:
        self._top = top
        self._rows: list[list[TokenLogprob]] = [[] for _ in range(rows)]
        self._last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores (rows, vocabulary), as they are."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            self._note(row, token)
        self._last = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def so_far(self, row: int) -> Sequence[TokenLogprob]:
        """Those of a row that goes on, but for its latest token; the list grows."""
        return self._rows[row]

    def of(self, row: int, tokens: Sequence[int]) -> tuple[TokenLogprob, ...]:
        """Those of a row, which has ended with these tokens."""
        if len(self._rows[row]) < len(tokens):
            self._note(row, tokens[-1])
        return tuple(self._rows[row][: len(tokens)])

    def _note(self, row: int, token: int) -> None:
        if self._last is None:
            return
        logs = self._last[row]
        best = logs.topk(self._top)
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        self._rows[row].append(TokenLogprob(token, float(logs[token]), top))
