"""Next-token training on the answers, the alternative that the paper compares with (table 4).

Only the answer's tokens and the token that ends it count; the prompt's do not. With ``kl`` above 0
the adapted model is held near the base model as in `reinforce`.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2agent.errors import ConfigError
from t2agent.model import T2Model
from t2agent.train.policy import Policy, Row, StepFigures
from t2agent.train.task import Example


def sft_step(policy: Policy, examples: Sequence[Example]) -> StepFigures:
    """Add the gradient of the mean negative log-probability of the answers to ``z.grad``."""
    rows = []
    for index, example in enumerate(examples):
        answer = answer_tokens(policy.model, example.answer)
        # The prompt's characters stand for its tokens: the length only decides what runs together.
        rows.append(Row(index, answer, 1.0, 1, len(example.prompt) + len(answer)))
    tokens = sum(len(row.tokens) for row in rows)
    sums = policy.backward(examples, rows, tokens)
    kl = sums.kl / tokens if policy.options.kl > 0 else None
    return StepFigures((policy.options.kl * sums.kl - sums.objective) / tokens, None, kl, tokens)


def answer_tokens(model: T2Model, answer: str) -> tuple[int, ...]:
    """The tokens of an answer with the token that ends a reply."""
    return (*_plain_tokens(model, answer), end_token(model))


def _plain_tokens(model: T2Model, text: str) -> list[int]:
    # A special token's name inside an answer is text, not a control token.
    ids: list[int] = model.tokenizer.encode(
        text, add_special_tokens=False, split_special_tokens=True
    )
    return ids


def end_token(model: T2Model) -> int:
    """The token that ends a reply: the tokenizer's own, if generation stops at it."""
    stops = getattr(model.model.generation_config, "eos_token_id", None)
    stops = [stops] if isinstance(stops, int) else list(stops or [])
    own = model.tokenizer.eos_token_id
    if own is not None and (own in stops or not stops):
        return int(own)
    if not stops:
        raise ConfigError(
            f"{model.name} has no end-of-sequence token; set tokenizer.eos_token before training"
        )
    return int(stops[0])
