"""What a training will do: its methods one after the other, their options and their steps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2agent.errors import ConfigError
from t2agent.models.calls import wanted_tokens
from t2agent.models.model import T2Model
from t2agent.models.options import Count, check_option
from t2agent.tasks.reward import scores
from t2agent.tasks.task import Example, Task, answer_text, whole_reply
from t2agent.train.options import METHODS, Method, Objective, Scale, TrainOptions, objectives_of

STEPS = 40
"""The most updates of a training where nobody says how many."""

_PROBED = 8  # examples whose answers are tried inside a sentence
_NUMBER = re.compile(r"[-$]*[\d,]*\.?\d+ ?%?")
_WORDS_AROUND = "I would say that it is {}, I think."
_ROOM = 8  # tokens more than half as many again as the longest reply
_LONGEST = 128  # tokens of a reply of which only the result is known


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of steps by one method: ``steps`` at most."""

    objective: Objective
    options: TrainOptions
    steps: int


@dataclass(frozen=True, slots=True)
class Course:
    """The phases of a training, of ``steps`` in all at most.

    Attributes:
        method: that of all phases together.
        epochs: how often each phase goes through ``members``, in an order of its own each time;
            None draws the examples of each step anew.
        members: the examples to train on, where ``epochs`` is not None.
        max_tokens: longest reply.
        why: what "auto" found, where it chose the method; else "".
    """

    method: Method
    phases: tuple[Phase, ...]
    steps: int
    max_tokens: int
    epochs: int | None = None
    members: Sequence[Example] = ()
    why: str = ""

    def identity(self) -> dict[str, Any]:
        """What tells two runs apart. A run may be made longer, unless its learning rate falls
        towards its last step."""
        *before, last = self.phases
        own = last.options.identity()
        first = {
            f"{phase.objective}.{name}": value
            for phase in before
            for name, value in phase.options.identity().items()
            if value != own.get(name)
        }
        falls = any(phase.options.schedule != "constant" for phase in self.phases)
        return {
            **own,
            **first,
            "method": self.method,
            "max_tokens": self.max_tokens,
            "order": "drawn" if self.epochs is None else "epochs",
            **({"steps": self.steps} if falls else {}),
            **({"chosen": self.why} if self.why else {}),
        }


def check_course(
    task: Task, method: str, steps: int | None, epochs: int | None, hyper: Mapping[str, Any]
) -> None:
    """Raise ConfigError for what is unusable, before any work is done."""
    if method not in METHODS:
        raise ConfigError(f"got the method {method!r}; needed one of {', '.join(METHODS)}")
    if not isinstance(task, Task):
        raise ConfigError(
            f"task is a {type(task).__name__}; needed a Task, with name, sample and reward: "
            "ExampleTask makes one of examples"
        )
    for name, value in (("steps", steps), ("epochs", epochs)):
        if value is not None:
            check_option(name, value, Count)
    if steps is not None and epochs is not None:
        raise ConfigError(
            f"both steps ({steps}) and epochs ({epochs}) say how long to train; give one of them"
        )
    if epochs is not None:
        _members(task)
    _phases(method, objectives_of(method, hyper), STEPS if steps is None else steps, epochs, None)


def course_of(
    model: T2Model,
    task: Task,
    method: Method,
    steps: int | None,
    epochs: int | None,
    hyper: Mapping[str, Any],
    max_tokens: int,
    why: str = "",
) -> Course:
    """The course of a method that is not "auto", with defaults that suit model and task.

    max_tokens: longest reply, as `reply_room` has it.

    Raises:
        ConfigError: as `check_course`.
    """
    members = _members(task) if epochs is not None else ()
    scale = Scale(model.model.num_parameters(), count_of(task), max_tokens)
    options = objectives_of(method, hyper, scale)
    steps = STEPS if steps is None else steps
    phases = _phases(method, options, steps, epochs, len(members))
    return Course(
        method,
        phases,
        steps if epochs is None else sum(phase.steps for phase in phases),
        max_tokens,
        epochs,
        members,
        why,
    )


def reply_room(
    model: T2Model, task: Task, hyper: Mapping[str, Any], examples: Sequence[Example]
) -> int:
    """How many tokens a reply may have: what ``hyper`` or the task says, else by the examples."""
    given = hyper.get("max_tokens") or getattr(task, "max_tokens", None)
    if given is not None:
        return int(given)
    known = [example for example in examples if _wanted(task, example)]
    if not known or not _are_whole(task, examples):
        return _LONGEST
    longest = max(len(wanted_tokens(model, one, whole_reply(task, one))) for one in known)
    return longest + longest // 2 + _ROOM


def are_taught(task: Task, examples: Sequence[Example]) -> bool:
    """Whether the examples hold replies to learn: whole ones that all earn the full reward."""
    wanted = [_wanted(task, example) for example in examples]
    return (
        all(wanted)
        and _are_whole(task, examples)
        and min(scores(task, wanted, examples), default=-1.0) >= 1.0
    )


def _wanted(task: Task, example: Example) -> str:
    """What next-token training would teach of an example, as a reward reads it; "" for nothing."""
    return whole_reply(task, example) or answer_text(example)


def _are_whole(task: Task, examples: Sequence[Example]) -> bool:
    """Whether what is wanted is a whole reply, not only the result that a reply leads up to.

    A reply leads up to a result where that counts as right with words around it: by a reward that
    looks for it anywhere, or as a bare number. Of other answers that a reward by name judges (a
    label, JSON, calls) nothing has to come first.
    """
    if any(whole_reply(task, example) for example in examples):
        return True
    results = [example for example in examples if example.answer]
    if getattr(task, "reward_name", "") and not getattr(task, "earned_by_saying_everything", ()):
        results = [one for one in results if _NUMBER.fullmatch(one.answer.strip())]
    inside = [_WORDS_AROUND.format(one.answer) for one in results[:_PROBED]]
    return not inside or max(scores(task, inside, results[:_PROBED])) < 1.0


def count_of(task: Task) -> int | None:
    """How many examples a task has to train on; None where it makes them without end."""
    if callable(size := getattr(task, "size", None)):
        return int(size("train"))
    split = getattr(task, "split", None)
    return len(split("train")) if callable(split) else None


def _members(task: Task) -> Sequence[Example]:
    """All examples to train on."""
    for name in ("split", "all"):
        if callable(every := getattr(task, name, None)):
            found: Sequence[Example] = every("train")
            return found
    raise ConfigError(
        f"task {task.name!r} makes examples without end, so it has no epochs; give steps, or a "
        "task over a list of examples, as ExampleTask makes it"
    )


def _phases(
    method: str,
    options: Mapping[Objective, TrainOptions],
    steps: int,
    epochs: int | None,
    members: int | None,
) -> tuple[Phase, ...]:
    """Next-token training takes half of the steps, where it is the first of two, or as many as
    ``sft_steps`` says; what it leaves is REINFORCE's. Epochs are those of each."""
    found = []
    for objective, own in options.items():
        most = steps
        if epochs is not None:
            most = math.ceil(epochs * (members or 1) / (own.prompts * own.accumulate))
        elif method == "sft+reinforce" and objective == "sft":
            most = own.sft_steps or steps // 2
            if not 0 < most < steps:
                raise ConfigError(
                    f"steps is {steps} and sft_steps {own.sft_steps}: that leaves none of the two "
                    "methods of 'sft+reinforce' a step; give at least 2 steps, and fewer sft_steps"
                )
        if (epochs is None or members is not None) and own.warmup >= most:
            raise ConfigError(
                f"warmup is {own.warmup}, of {most} steps by {objective}; give fewer, or more steps"
            )
        found.append(Phase(objective, own, most))
    return tuple(found)
