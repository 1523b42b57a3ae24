"""Typed decisions: questions about a state, answered by a probability for each option.

What is asked and answered has the shapes of System One, which langchain-core's decision models and
the endpoint /v1/systemone of `transformers serve` share: questions of the types "choice" (named
options), "noul" (yes or no) and "score" (ordered levels). Nothing is generated: the options are
scored by their log-likelihood as replies, under the mixture of experts that dispatch chooses for
the question, and the prompt that they share is run once.

An option's score is (log p(option | state) - log p(option | no state)) / its tokens, the second
being the mean over three states that say nothing. Source: Zhao et al., Calibrate Before Use (arXiv
2102.09690), for such states; Holtzman et al., Surface Form Competition (arXiv 2104.08315), for the
difference. Deviation: the division by the length, without which the probabilities are far too sure.

Measured with SmolLM2-135M on 59 to 65 rows of seven feelings and of spam, in the two wordings below
(accuracy / expected calibration error / negative log-likelihood of the right option):

    score                           with expert label     base model
    log p                           .42 / .31 / 1.58      .30 / .41 / 2.70
    log p / tokens                  .47 / .13 / 1.30      .30 / .19 / 1.55
    log p - without a state         .53 / .06 / 1.20      .29 / .18 / 1.53
    the same / tokens (this one)    .47 / .08 / 1.25      .33 / .06 / 1.40

One empty state in place of three: .47 / .09 / 1.24 and .33 / .10 / 1.41.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Any, Literal, TypeAlias
from weakref import ref

import torch
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from t2agent.engine.two_passes import Choice as Chooser
from t2agent.engine.two_passes import Engine, Given
from t2agent.errors import ConfigError, ContextLengthError
from t2agent.experts.expert import MixtureLike
from t2agent.models.generate import room
from t2agent.models.likelihood import (
    answer_tokens,
    log_likelihoods,
    passes,
    reply_starts,
    rows_per_pass,
)
from t2agent.models.model import T2Model
from t2agent.models.options import config_errors
from t2agent.models.plans import Resolved
from t2agent.models.prompt import Prompt, encode, render

Content: TypeAlias = str | dict[str, Any] | list[Any]
"""Text, or JSON that is written out."""

_NOTHING = ("", "N/A", "...")
"""States that say nothing."""
_KEPT = 256  # questions of which the scores without a state are kept
_MOST_OPTIONS = 255
_YES_NO = ("yes", "no")


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    instructions: Content | None = None


class NoulCriteria(BaseModel):
    """What counts as yes, and as no."""

    model_config = ConfigDict(extra="forbid", strict=True)

    true: Any = None
    false: Any = None


class Noul(_Asked):
    """{"type": "noul", "instructions": "Is this spam?", "criteria": {"true": "an ad"}}"""

    type: Literal["noul"]
    criteria: NoulCriteria | None = None


class Choice(_Asked):
    """{"type": "choice", "instructions": "Which tone?", "criteria": {"calm": "polite", "angry":
    null}}"""

    type: Literal["choice"]
    criteria: dict[Annotated[str, Field(pattern=r"\S")], Any] = Field(
        min_length=1, max_length=_MOST_OPTIONS
    )


class Score(_Asked):
    """{"type": "score", "instructions": "How urgent?", "criteria": ["can wait", "today"]}"""

    type: Literal["score"]
    criteria: list[Any] = Field(min_length=1, max_length=_MOST_OPTIONS)


Question = Annotated[Noul | Choice | Score, Field(discriminator="type")]
Questions = Annotated[dict[str, Question], Field(min_length=1)]
_QUESTIONS: TypeAdapter[dict[str, Noul | Choice | Score]] = TypeAdapter(Questions)


@dataclass(frozen=True, slots=True)
class Decided:
    """Answers by the names of their questions, as System One has them, and the prompts' tokens.

    "noul": {"type", "noul"}; "choice": {"type", "choice", "confidence", "probabilities"}; "score":
    {"type", "score", "legend", "confidence", "probabilities"}, with levels as "0", "1", ...
    ``mixtures``: who answered each question, as plain JSON.
    """

    answers: dict[str, dict[str, Any]]
    mixtures: dict[str, dict[str, Any]]
    tokens: int


def answer_questions(
    engine: Engine,
    state: str,
    questions: Mapping[str, Any],
    *,
    images: Mapping[str, Image] | None = None,
    choice: Chooser = None,
) -> Decided:
    """Answer each question about a state.

    questions: by name, in the shapes of `Noul`, `Choice` and `Score`.
    images: by the placeholders that stand for them, in the state or in the questions' texts.
    choice: who chooses the mixtures; as of `Engine.decide`, which sees each question as a request.

    Raises:
        ConfigError: there is no question, or one of another shape; the model is no decoder or has
            no end-of-sequence token.
        ModalityError: there are images, and the model reads text only.
        ContextLengthError: a question with its state and options is too long for the model.
        ExpertNotFoundError: as of `Engine.decide`.
    """
    with config_errors("questions"):
        read = _QUESTIONS.validate_python(dict(questions))
    asked = [_Written.of(engine.model, name, one) for name, one in read.items()]
    prompts = [render(engine.model, one.prompt(state, images or {})) for one in asked]
    decisions = engine.decide(prompts, choice)
    alike: dict[Any, list[int]] = {}
    for i, decision in enumerate(decisions):
        alike.setdefault(decision.mixture, []).append(i)
    odds: dict[int, list[float]] = {}
    tokens = _lengths(engine.model, prompts, asked)
    for mixture, rows in alike.items():
        what = choice.what if isinstance(choice, Given) else mixture
        with torch.no_grad(), engine.model.adapted(what):
            scorer = _Scorer(engine.model, what, images or {})
            found = scorer.odds([prompts[i] for i in rows], [asked[i] for i in rows])
        odds |= dict(zip(rows, found, strict=True))
    return Decided(
        {one.name: one.answer(odds[i]) for i, one in enumerate(asked)},
        {one.name: decisions[i].mixture.to_dict() for i, one in enumerate(asked)},
        sum(tokens),
    )


def split_at(text: str, images: Mapping[str, Image]) -> tuple[list[dict[str, str]], list[Image]]:
    """The parts of a message that a text with placeholders of images is, and its images in order.

    Of two placeholders that begin alike the longer one counts.
    """
    if not images:
        return [{"type": "text", "text": text}], []
    names = sorted(images, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    parts: list[dict[str, str]] = []
    found: list[Image] = []
    for number, piece in enumerate(pieces):
        if number % 2:
            parts.append({"type": "image"})
            found.append(images[piece])
        elif piece:
            parts.append({"type": "text", "text": piece})
    return parts, found


def in_text(value: Any) -> str:
    """A text as it is, None as "", other JSON written out. Raises ConfigError for what is none."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{value!r:.120} is no JSON ({error}); give text or JSON") from error


@dataclass(frozen=True, slots=True)
class _Written:
    """A question in words: its text, and what may be replied.

    ``spelled``: for each option its spellings, tokens that end a reply.
    """

    name: str
    question: Noul | Choice | Score
    replies: tuple[str, ...]
    text: str
    spelled: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, model: T2Model, name: str, question: Noul | Choice | Score) -> _Written:
        replies: tuple[str, ...]
        told: Sequence[Any]
        if isinstance(question, Noul):
            replies = _YES_NO
            criteria = question.criteria or NoulCriteria()
            told = (criteria.true, criteria.false)
        elif isinstance(question, Choice):
            replies, told = tuple(question.criteria), tuple(question.criteria.values())
        else:
            replies = tuple(map(in_text, question.criteria))
            told = ("",) * len(replies)
        spelled = tuple(
            tuple(dict.fromkeys(answer_tokens(model, start + r) for start in reply_starts(model)))
            for r in replies
        )
        text = _worded(in_text(question.instructions), replies, tuple(map(in_text, told)))
        return cls(name, question, replies, text, spelled)

    def prompt(self, state: str, images: Mapping[str, Image]) -> Prompt:
        parts, found = split_at(f"{state}\n\n{self.text}" if state else self.text, images)
        return Prompt(({"role": "user", "content": parts},), tuple(found))

    @property
    def longest(self) -> int:
        return max(len(tokens) for group in self.spelled for tokens in group)

    def answer(self, odds: Sequence[float]) -> dict[str, Any]:
        """From the probabilities of the options, by the formulas of `transformers serve`."""
        n, best = len(odds), max(range(len(odds)), key=odds.__getitem__)
        if isinstance(self.question, Noul):
            return {"type": "noul", "noul": odds[0]}
        if isinstance(self.question, Choice):
            sure = 1.0 if n == 1 else max(0.0, (odds[best] - 1 / n) / (1 - 1 / n))
            return {
                "type": "choice",
                "choice": self.replies[best],
                "confidence": min(1.0, sure),
                "probabilities": dict(zip(self.replies, odds, strict=True)),
            }
        levels = range(n)
        off = sum(p * abs(level - best) for level, p in enumerate(odds))
        at_random = sum(abs(level - (n - 1) / 2) for level in levels) / n
        return {
            "type": "score",
            "score": sum(level * p for level, p in enumerate(odds)),
            "legend": {str(level): self.question.criteria[level] for level in levels},
            "confidence": 1.0 if n == 1 else max(0.0, 1 - off / at_random),
            "probabilities": {str(level): p for level, p in enumerate(odds)},
        }


def _worded(instructions: str, replies: Sequence[str], told: Sequence[str]) -> str:
    """A question as requests for labels are worded, so that experts for them are found and fit."""
    if any(told):
        lines = [f"- {r}: {t}" if t else f"- {r}" for r, t in zip(replies, told, strict=True)]
        offered = "Which of these labels fits:\n" + "\n".join(lines) + "\n"
    else:
        offered = f"Which of these labels fits: {', '.join(replies)}? "
    return f"{instructions} {offered}Answer with the label only.".lstrip()


class _Unstated:
    """The options' scores without a state, of the questions that were asked last. Safe to use from
    several threads."""

    def __init__(self, _model: T2Model) -> None:
        self._known: OrderedDict[Any, list[float]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any) -> list[float] | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: Any, scores: list[float]) -> None:
        with self._lock:
            self._known[key] = scores
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)


class _Scorer:
    """Scores the options of questions by the model as it is adapted where this is used."""

    def __init__(
        self, model: T2Model, what: MixtureLike | Resolved, images: Mapping[str, Image]
    ) -> None:
        self._model, self._images = model, images
        mixture, experts = model.resolve(what)
        # Weak: what is known of a mixture is kept for longer than its experts are.
        self._mixture = (mixture, tuple(map(ref, experts)))

    def odds(self, prompts: Sequence[Prompt], asked: Sequence[_Written]) -> list[list[float]]:
        """The probabilities of each question's options."""
        unstated = self._model.attached(_Unstated)
        keys = [(self._mixture, one.text, one.replies) for one in asked]
        seen = [any(name in one.text for name in self._images) for one in asked]
        known = [None if sees else unstated.get(key) for key, sees in zip(keys, seen, strict=True)]
        missing = [i for i, scores in enumerate(known) if scores is None]
        blank = [(asked[i].prompt(state, self._images), asked[i]) for i in missing
                 for state in _NOTHING]  # fmt: skip
        found = self._likelihoods(
            [*prompts, *(prompt for prompt, _ in blank)], [*asked, *(one for _, one in blank)]
        )
        rest = found[len(prompts) :]
        for place, i in enumerate(missing):
            own = rest[place * len(_NOTHING) : (place + 1) * len(_NOTHING)]
            known[i] = [sum(scores) / len(own) for scores in zip(*own, strict=True)]
            if not seen[i]:
                unstated.put(keys[i], known[i] or [])
        return [
            _softmax(
                [
                    (stated - blank_score) / len(group[0])
                    for stated, blank_score, group in zip(
                        scores, base or [], one.spelled, strict=True
                    )
                ]
            )
            for scores, base, one in zip(found, known, asked, strict=False)
        ]

    def _likelihoods(
        self, prompts: Sequence[Prompt], asked: Sequence[_Written]
    ) -> list[list[float]]:
        """log p(option | prompt) of the options of each prompt's question, over its spellings."""
        every = [
            (i, tokens) for i, one in enumerate(asked) for group in one.spelled for tokens in group
        ]
        longest = max(one.longest for one in asked)
        length = int(encode(self._model, prompts)["attention_mask"].shape[1])
        scores: list[float] = []
        rows = rows_per_pass(self._model, length, longest)
        for part, completions in passes(prompts, every, rows):
            scores += log_likelihoods(self._model, part, completions).double().tolist()
        given = iter(scores)
        return [
            [_logsumexp([next(given) for _ in group]) for group in one.spelled] for one in asked
        ]


def _lengths(model: T2Model, prompts: Sequence[Prompt], asked: Sequence[_Written]) -> list[int]:
    inputs = encode(model, prompts)
    for left, one in zip(room(model, inputs), asked, strict=True):
        if left < one.longest:
            raise ContextLengthError(
                f"question {one.name!r} with its state leaves {left} of {model.context_length} "
                f"tokens of {model.name}, but an option has {one.longest}: shorten the state"
            )
    lengths: list[int] = inputs["attention_mask"].sum(1).tolist()
    return lengths


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def _softmax(scores: Sequence[float]) -> list[float]:
    total = _logsumexp(scores)
    return [math.exp(score - total) for score in scores]
