"""One reply, greedy, with several tokens checked in one pass of the model.

Where somebody can guess what comes next (`Guess`), the guess is run with the last token, and as
much of it is kept as the model would have chosen by itself; so the reply is the one that it would
give token by token (in half precision up to ties, since a pass over several tokens rounds
otherwise). A guess costs little where decoding waits for the weights to be read.

For models that `branching.branches` is true of: their cache can be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

Guess = Callable[[Tensor], Sequence[int]]
"""The tokens so far (1, length) -> some that may follow."""
Choose = Callable[[Tensor, Tensor], Tensor]
"""The tokens so far (1, length) and the scores of the next (1, vocabulary) -> what may follow."""
Done = Callable[[Tensor], bool]
"""The tokens so far -> whether the last ended the reply. Asked once for each."""


@torch.no_grad()
def decode(
    hf: PreTrainedModel,
    inputs: dict[str, Any],
    *,
    limit: int,
    guess: Guess,
    scores: Choose,
    done: Done,
) -> Tensor:
    """A prompt with at most ``limit`` new tokens: (1, length) int64.

    inputs: an encoded prompt without padding. scores: changes those of the next token, of which
    the largest is taken; called once for each token, in order.
    """
    tokens: Tensor = inputs["input_ids"]
    end = tokens.shape[1] + limit
    cache = DynamicCache()
    out = hf(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    drafted: Tensor = tokens[:, :0]
    while True:
        for place in range(drafted.shape[1] + 1):
            chosen = scores(tokens, out.logits[:, place].float()).argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, chosen], dim=1)
            if done(tokens) or tokens.shape[1] == end:
                return tokens
            if place < drafted.shape[1] and not torch.equal(chosen[:, 0], drafted[:, place]):
                break
        # The keys of the last token are not there yet; those of what was guessed wrongly go.
        if (wrong := cache.get_seq_length() - (tokens.shape[1] - 1)) > 0:
            cache.crop(-wrong)
        guessed = list(guess(tokens))[: end - tokens.shape[1] - 1]
        drafted = tokens.new_tensor([guessed]).view(1, -1)
        out = hf(
            input_ids=torch.cat([tokens[:, -1:], drafted], dim=1),
            past_key_values=cache,
            use_cache=True,
        )
