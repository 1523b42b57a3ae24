"""Beam search for a reply that a grammar holds: the likeliest whole reply, as far as it is found.

Greedy decoding begins a field of JSON because its name is likely, and is then to say of it what
nothing in the request says. Of several beginnings that are written at once (Lowerre, The Harpy
Speech Recognition System, 1976), those that become unlikely are given up. What counts is the sum of
the logarithms of the tokens' probabilities, as the model gives them before the grammar forbids any.

Free text, which may be long, is not searched: there the likeliest token alone goes on. So whether
a reply calls a tool where it may be words is decided as without a search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from t2agent.models.constrained import Constrained
from t2agent.models.options import GenerationOptions
from t2agent.replies.constraint import Constraint

_FAR = 4.0  # nats behind the likeliest after which a beginning is given up; 12 finds no better


TOKENS = 1 << 14
"""Of all beginnings together, prompt and reply, whose keys and values each has for itself (of
smollm2 .75 GB): after a longer prompt there are fewer."""


def beams(options: GenerationOptions, constraint: Constraint | None) -> int:
    """How many beginnings of a reply are written at once: 1, which is greedy, without a grammar,
    and where options ask for what a search does not tell."""
    told = options.logprobs is not None or options.repetition_penalty != 1
    if constraint is None or options.temperature > 0 or told:
        return 1
    return options.num_beams or constraint.beams


class Steps(Protocol):
    """What runs the next token of each beginning; there is one at first."""

    def branch(self, sources: Sequence[int]) -> None:
        """Go on with these of the beginnings that there are; some may come several times."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """The logits (beginnings, 1, vocabulary) after the next token (beginnings, 1) of each."""


@torch.no_grad()
def search(
    prompt: Tensor,
    logits: Tensor,
    steps: Steps,
    constrained: Constrained,
    *,
    width: int,
    limit: int,
    ends: frozenset[int],
    done: Callable[[Tensor], bool],
    cancelled: Callable[[int], bool],
) -> Tensor:
    """The prompt with at most ``limit`` new tokens: (1, length) int64.

    prompt: (1, tokens) int64. logits: (1, 1, vocabulary) after it. steps: what runs the tokens
    after it. constrained: of one row. width: beginnings that are kept. ends: tokens that end a
    reply. done: called once for each token that is certain, in order, with the sequence up to it:
    whether the reply ends there. cancelled: whether it ends as it is, after so many tokens.
    """
    certain = prompt.shape[1]
    live, known = prompt, torch.zeros(1, device=prompt.device)
    whole: list[Tensor] = []  # the likeliest reply that has ended
    best = -math.inf
    left = limit
    while True:
        left -= 1
        scores = constrained(live, torch.log_softmax(logits[:, -1].float(), -1)) + known[:, None]
        going: list[tuple[float, int, int]] = []
        for score, at, token in _likeliest(scores, constrained.free, width + len(ends)):
            if score <= best or len(going) == width or (going and score < going[0][0] - _FAR):
                break
            if token in ends:
                whole, best = [torch.cat([live[at], live.new_tensor([token])])], score
            else:
                going.append((score, at, token))
        sources = [at for _, at, _ in going]
        new = live.new_tensor([token for *_, token in going]).view(-1, 1)
        live = torch.cat([live[sources], new], dim=1)
        known = torch.tensor([score for score, *_ in going], device=prompt.device)
        each: list[Tensor] = [*whole, *live]
        result: Tensor = each[0][None]
        last = not left or not going
        for end in range(certain + 1, (len(each[0]) if last else _agreed(each)) + 1):
            certain = end
            if done(result[:, :end]):
                return result[:, :end]
        if last:
            return result
        if cancelled(certain):
            return result[:, :certain]
        constrained.branch(sources)
        steps.branch(sources)
        logits = steps(new)


def _likeliest(scores: Tensor, free: Sequence[bool], count: int) -> list[tuple[float, int, int]]:
    """The best ways to go on: a score, a beginning and its next token. scores: (beginnings,
    vocabulary). free: which beginnings are in free text. count: at most of each."""
    top = scores.topk(min(count, scores.shape[1]), dim=1)
    rows = zip(free, top.values.tolist(), top.indices.tolist(), strict=True)
    found = [
        (score, at, token)
        for at, (alone, values, tokens) in enumerate(rows)
        for score, token in islice(zip(values, tokens, strict=True), 1 if alone else None)
    ]
    return sorted(found, key=lambda one: -one[0])


def _agreed(sequences: Sequence[Tensor]) -> int:
    """Tokens with which all of the sequences (length,) begin."""
    shortest = min(len(one) for one in sequences)
    alike = torch.stack([one[:shortest] == sequences[0][:shortest] for one in sequences]).all(0)
    return int(alike.long().cumprod(0).sum())
