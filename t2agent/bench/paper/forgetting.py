"""What an adapter costs where it was not trained: how far it leads a model from its own replies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from t2agent.experts.expert import MixtureLike
from t2agent.models.generate import generate
from t2agent.models.likelihood import answer_tokens, log_likelihoods
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt

_TOKENS = 48  # of a reply

Replies = Sequence[tuple[Prompt, Sequence[int]]]
"""Prompts with the tokens of what was replied."""


def own_replies(model: T2Model, requests: Sequence[str]) -> Replies:
    """What the base model replies to requests, greedily."""
    prompts = [Prompt.user(request) for request in requests]
    with model.adapted(None):
        replies = generate(model, prompts, GenerationOptions(max_tokens=_TOKENS))
    said = (
        (prompt, answer_tokens(model, reply.text))
        for prompt, reply in zip(prompts, replies, strict=True)
    )
    return [(prompt, tokens) for prompt, tokens in said if tokens]


def log_likelihood(model: T2Model, replies: Replies, what: MixtureLike = None) -> float:
    """The mean log-likelihood of a token of the replies, in nats; ``what`` as `T2Model.adapted`
    takes it. The base model's less an adapter's is an estimate of their divergence from the base
    model's replies: 0 for an adapter that changes none of them."""
    total, count = 0.0, 0
    with torch.no_grad(), model.adapted(what):
        for prompt, tokens in replies:
            total += float(log_likelihoods(model, [prompt], [(0, tokens)]).sum())
            count += len(tokens)
    return total / count
