"""Replies step by step, where a step may check several tokens that were guessed.

Where somebody can guess what comes next (`Guess`), the guess is run with the last token, and as
much of it is kept as would have been chosen token by token; so the reply is the one that it would
be without (in half precision up to ties, since a pass over several tokens rounds otherwise). A
guess costs little where decoding waits for the weights to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

Guess = Callable[[Tensor], Sequence[int]]
"""The tokens so far (1, length) -> some that may follow."""
Choose = Callable[[Any, Any], Tensor]
"""The tokens so far (rows, length) and the scores of the next (rows, vocabulary) -> those scores
changed, of which the largest is taken."""
Done = Callable[[Any, Any], Tensor]
"""The tokens so far and the scores of the last -> which rows (rows,) end with it."""


class Steps(Protocol):
    """What runs the next tokens of each row; setting ``length`` to less forgets the last ones."""

    length: int

    def __call__(self, tokens: Tensor) -> Tensor:
        """The logits (rows, n, vocabulary) after each of the next n tokens (rows, n)."""


class CachedSteps:
    """Steps of transformers' own model, of one prompt without padding.

    For models that `branching.branches` is true of: their cache can be cut.
    """

    def __init__(self, hf: PreTrainedModel, cache: DynamicCache) -> None:
        self._hf, self._cache = hf, cache

    @property
    def length(self) -> int:
        """Tokens whose keys and values are known."""
        return self._cache.get_seq_length()

    @length.setter
    def length(self, length: int) -> None:
        if length < self.length:
            self._cache.crop(length - self.length)

    def branch(self, sources: Sequence[int]) -> None:
        """As of `t2agent.models.beams.Steps`."""
        layers: Any = self._cache.layers
        if list(sources) != list(range(len(layers[0].keys))):
            self._cache.batch_select_indices(torch.tensor(sources, device=self._hf.device))

    def __call__(self, tokens: Tensor) -> Tensor:
        """As of `Steps`."""
        logits: Tensor = self._hf(
            input_ids=tokens, past_key_values=self._cache, use_cache=True
        ).logits
        return logits


@torch.no_grad()
def decode(
    tokens: Tensor,
    logits: Tensor,
    step: Steps,
    *,
    limit: int,
    pad: int,
    ends: frozenset[int],
    scores: Choose,
    done: Done,
    guess: Guess | None = None,
) -> Tensor:
    """The prompts with at most ``limit`` new tokens: (rows, length) int64, as generate() of
    transformers gives them without sampling.

    tokens: (rows, prompt) int64, padded on the left. logits: (rows, 1, vocabulary) after them.
    step: what runs those after the prompts. pad: what stands after a row's end, which is one of
    ``ends``. scores and done are called once for each token, in order. guess: for one row.
    """
    end = tokens.shape[1] + limit
    last = torch.tensor(sorted(ends), device=tokens.device)
    going = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    drafted = tokens[:, :0]
    while True:
        for place in range(drafted.shape[1] + 1):
            chosen = scores(tokens, logits[:, place].float()).argmax(-1)
            tokens = torch.cat([tokens, chosen.where(going, pad)[:, None]], dim=1)
            going &= ~(done(tokens, logits) | torch.isin(tokens[:, -1], last))
            if tokens.shape[1] == end or not going.any():
                return tokens
            if place < drafted.shape[1] and not torch.equal(tokens[:, -1], drafted[:, place]):
                break
        # The keys of the last token are not there yet; those of what was guessed wrongly go.
        step.length = tokens.shape[1] - 1
        if guess is not None:
            guessed = list(guess(tokens))[: end - tokens.shape[1] - 1]
            drafted = tokens.new_tensor([guessed]).view(1, -1)
        logits = step(torch.cat([tokens[:, -1:], drafted], dim=1))
