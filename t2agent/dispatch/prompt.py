"""Dispatch by asking the model itself for the request's category (strategies A and B).

Source: Transformer-Squared (arXiv 2501.06252), sec. 3.3: A, "prompt engineering", asks the base
model; B, "classification expert", asks it with an expert that was trained for this question.
Deviation: the paper lets the model generate its reply. Here every possible reply is scored, which
takes one pass of the model, cannot give a name that is not there, and tells probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from t2agent.dispatch.asking import AskingDispatcher, with_offer
from t2agent.dispatch.dispatcher import CLASSIFIER, OTHERS, Decision, Request, category_question
from t2agent.dispatch.labels import Experts
from t2agent.errors import ConfigError, ContextLengthError, ExpertNotFoundError
from t2agent.experts.card import ExpertCard
from t2agent.experts.expert import Expert, MixtureLike
from t2agent.models.likelihood import (
    answer_tokens,
    log_likelihoods,
    passes,
    reply_starts,
    rows_per_pass,
)
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode

_LONGEST = 1_024  # tokens of a question: a request's kind shows in its beginning and end
_CHARACTERS = 16 * _LONGEST  # so that no whole book is tokenised
_GAP = " ... "


class PromptDispatcher(AskingDispatcher):
    """Asks the base model which kind of request it is (strategy "prompt", paper A).

    The replies that count are the experts' names and "others", each followed by the end of the
    reply. Where the chat template leaves it to the reply to start with a space, a name counts with
    and without one. A request goes to the most probable one; at "others" the base model answers.
    Which experts may be chosen, `AskingDispatcher` says. The model sees no images, only that
    there are some. Of a request that would make the question longer than 1,024 tokens, or than
    the context, the middle is left out.

    All methods may be called from any thread.

    Args:
        model: the base model.
        experts: those to choose among; None for all of the model's registry.
    """

    strategy = "prompt"

    def __init__(self, model: T2Model, experts: Experts | None = None) -> None:
        super().__init__(model.registry if experts is None else experts)
        self._model = model

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model.name!r})"

    def dispatch(self, requests: Sequence[Request]) -> list[Decision]:
        """As of `AskingDispatcher`.

        Raises:
            ConfigError: the model is no decoder, or its tokenizer has no end-of-sequence token.
            ContextLengthError: the names alone are too many for the model's context.
        """
        return super().dispatch(requests)

    def _asked(self) -> MixtureLike:
        """What answers the question."""
        return None

    def _odds(
        self, requests: Sequence[Request], cards: dict[str, ExpertCard]
    ) -> NDArray[np.float64]:
        names, starts = list(cards), reply_starts(self._model)
        # Spellings of one reply that come out equal are one.
        replies = [
            list(dict.fromkeys(answer_tokens(self._model, start + name) for start in starts))
            for name in (*names, OTHERS)
        ]
        columns = np.array([k for k, spelled in enumerate(replies) for _ in spelled])
        spelled = [tokens for group in replies for tokens in group]
        longest = max(map(len, spelled))
        prompts, length = self._questions(requests, names, longest)
        every = [(prompt, tokens) for prompt in range(len(prompts)) for tokens in spelled]
        found: list[float] = []
        with torch.no_grad(), self._model.adapted(self._asked()):
            rows = rows_per_pass(self._model, length, longest)
            for part, completions in passes(prompts, every, rows):
                found += log_likelihoods(self._model, part, completions).double().tolist()
        by_spelling = np.array(found).reshape(len(requests), len(spelled))
        by_spelling -= by_spelling.max(axis=1, keepdims=True)
        odds = np.zeros((len(requests), len(replies)))
        np.add.at(odds.T, columns, np.exp(by_spelling).T)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def _questions(
        self, requests: Sequence[Request], names: Sequence[str], reply: int
    ) -> tuple[list[Prompt], int]:
        """A question for each request, and how many tokens the longest has.

        reply: the tokens of the longest reply, for which the context must leave room.
        """
        most = min(_LONGEST, self._model.context_length - reply)
        requests = [_shortened(with_offer(r), _CHARACTERS) for r in requests]
        prompts = [_ask(request, names) for request in requests]
        lengths = _lengths(self._model, prompts)
        for i, length in enumerate(lengths):
            if length > most:
                prompts[i], lengths[i] = self._cut(requests[i], names, most)
        return prompts, max(lengths)

    def _cut(self, request: Request, names: Sequence[str], most: int) -> tuple[Prompt, int]:
        """The longest question of at most `most` tokens with a gap in the request's middle."""
        fitting, too_long = -1, len(request.text)
        while too_long - fitting > 1:
            kept = (fitting + too_long) // 2
            if _lengths(self._model, [_ask(_shortened(request, kept), names)])[0] <= most:
                fitting = kept
            else:
                too_long = kept
        if fitting < 0:
            raise ContextLengthError(
                f"the question of strategy {self.strategy!r}, which names {len(names)} experts, "
                f"does not fit into {most} tokens of {self._model.name}: choose among fewer "
                "experts, or use strategy 'embedding'"
            )
        prompt = _ask(_shortened(request, fitting), names)
        return prompt, _lengths(self._model, [prompt])[0]


class ClassifierDispatcher(PromptDispatcher):
    """Asks as `PromptDispatcher`, with an expert for this question (strategy "classifier", B).

    Args:
        model: the base model.
        experts: those to choose among; None for all of the model's registry.
        expert: the one that answers the question, by name or itself. It need not be among
            ``experts``, and is never chosen.

    Raises:
        ExpertNotFoundError: there is no such expert; the message says how to train one.
    """

    strategy = "classifier"

    def __init__(
        self,
        model: T2Model,
        experts: Experts | None = None,
        *,
        expert: Expert | str = CLASSIFIER,
    ) -> None:
        super().__init__(model, experts)
        if not isinstance(expert, str | Expert):
            raise ConfigError(f"expert is a {type(expert).__name__}; give a name or an Expert")
        self._expert = expert
        self._asked()

    @property
    def version(self) -> str:
        """As of `PromptDispatcher`."""
        given = self._expert if isinstance(self._expert, str) else self._expert.digest()
        return f"{super().version} {given}"

    def _asked(self) -> MixtureLike:
        if isinstance(self._expert, str) and self._expert not in self._model.registry:
            raise ExpertNotFoundError(
                f"strategy {self.strategy!r} needs an expert {self._expert!r} for base model "
                f"{self._model.name!r}, and there is none. Train one: task = "
                f"ClassificationTask({self._expert!r}, {{expert's name: its task, ...}}) from "
                "t2agent.dispatch.classification, then model.registry.register(train_expert(model, "
                "task)); or use strategy 'prompt', which needs none"
            )
        return self._expert

    def _never(self) -> frozenset[str]:
        name = self._expert if isinstance(self._expert, str) else self._expert.name
        return super()._never() | {name}


def _ask(request: Request, names: Sequence[str]) -> Prompt:
    return Prompt.user(category_question(request, names))


def _shortened(request: Request, kept: int) -> Request:
    """The request with at most so many characters of its text, half of them from its end."""
    text = request.text
    if len(text) <= kept:
        return request
    end = kept // 2
    return replace(request, text=text[: kept - end] + _GAP + text[len(text) - end :])


def _lengths(model: T2Model, prompts: Sequence[Prompt]) -> list[int]:
    lengths: list[int] = encode(model, prompts)["attention_mask"].sum(1).tolist()
    return lengths
