"""The method "auto": what the base model earns decides how it is taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from t2agent.models.generate import generate
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.tasks.task import Example, Task
from t2agent.train.checkpoint import saved_run
from t2agent.train.course import Course, are_taught, course_of, reply_room
from t2agent.train.draws import data_fingerprint, examples_for
from t2agent.train.judging import judged
from t2agent.train.options import Method, objectives_of
from t2agent.train.setup import modality_of, plain_sampling

_PROMPTS = 24
_SAMPLES = 4
_ROWS = 32  # replies at once
_SPREAD = 0.25
_LONG = 64  # tokens


@dataclass(frozen=True, slots=True)
class Prospect:
    """What training has to begin with.

    Attributes:
        reward: mean reward of the replies that the base model samples to validation examples.
        spread: share of these examples whose replies differ in reward: REINFORCE learns from them.
        taught: whether the examples hold whole replies that earn the full reward: next-token
            training learns them.
        tokens: of the longest reply.
    """

    reward: float
    spread: float
    taught: bool
    tokens: int

    def method(self) -> tuple[Method, str]:
        """The method that suits, and why."""
        told = (
            f"sampled replies of the base model earn {self.reward:.2f} in the mean, and for "
            f"{self.spread:.0%} of the requests some earn more than others"
        )
        if not self.taught:
            return "reinforce", f"{told}; the examples hold no whole reply to learn from"
        if self.spread >= _SPREAD and self.reward >= 0:
            return "reinforce", f"{told}, which is enough to learn from"
        if not self.spread and self.tokens > _LONG:
            return "sft", f"{told}; sampling would hardly come upon replies as long as are wanted"
        return "sft+reinforce", f"{told}, which is little to learn from before replies are taught"


def prospect(
    model: T2Model,
    task: Task,
    validation: Sequence[Example],
    examples: Sequence[Example],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> Prospect:
    """Sample replies of the base model to some of the validation examples, and judge them.

    examples: some of those to train on.
    """
    some = list(validation)[:_PROMPTS]
    options = GenerationOptions(max_tokens=max_tokens, temperature=temperature, seed=seed)
    texts: list[str] = []
    with model.adapted(None), plain_sampling(model.model):
        for start in range(0, len(some), _ROWS // _SAMPLES):
            prompts = [Prompt.of(example) for example in some[start : start + _ROWS // _SAMPLES]]
            texts += [g.text for g in generate(model, prompts, options, samples=_SAMPLES)]
    asked = [example for example in some for _ in range(_SAMPLES)]
    rewards = judged(model, task, texts, asked)
    groups = [set(rewards[k : k + _SAMPLES]) for k in range(0, len(rewards), _SAMPLES)]
    return Prospect(
        mean(rewards),
        mean(len(group) > 1 for group in groups),
        are_taught(task, examples),
        max_tokens,
    )


def chosen_course(
    model: T2Model,
    task: Task,
    method: Method,
    *,
    steps: int | None,
    epochs: int | None,
    seed: int,
    hyper: Mapping[str, Any],
    folder: Path | str | None,
) -> Course:
    """The course of a training, whose method is found out where it is "auto".

    folder: where the training is kept. A run that was stopped there keeps its method.
    """
    usual = list(objectives_of(method, hyper).values())[-1]
    validation, examples = examples_for(task, seed, usual.validation)
    modality_of(model, examples)
    room, why = reply_room(model, task, hyper, examples), ""
    if method == "auto":
        saved = {} if folder is None else saved_run(Path(folder))
        data = data_fingerprint(task, validation, examples)
        here = {"data": data, "seed": seed, "base_fingerprint": model.fingerprint}
        if saved.get("chosen") and here.items() <= saved.items():
            method, why = saved["method"], saved["chosen"]
        else:
            found = prospect(
                model,
                task,
                validation,
                examples,
                max_tokens=room,
                temperature=usual.temperature,
                seed=seed,
            )
            method, why = found.method()
            if steps == 1 and method == "sft+reinforce":
                method = "sft"
    return course_of(model, task, method, steps, epochs, hyper, room, why)
