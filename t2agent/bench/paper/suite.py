"""What is measured: a base model and its tasks, those of t2-nano or real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2agent.dispatch.dispatcher import CLASSIFIER, OTHERS
from t2agent.dispatch.shipped_requests import GENERAL, real_examples, written_requests
from t2agent.errors import ConfigError, ModalityError
from t2agent.experts.card import check_name
from t2agent.models.installed import NANO
from t2agent.models.model import T2Model
from t2agent.nano.experts import DESCRIPTIONS, LEARNING_RATES, small_talk
from t2agent.nano.tasks import COMBINATIONS, DOMAINS, SIBLINGS, TASKS, conflicting, foreign
from t2agent.tasks.examples import read_examples
from t2agent.tasks.paper import REAL_TASKS, load_task
from t2agent.tasks.paper.base import RealTask
from t2agent.train import Example, ExampleTask, Task

_UNSEEN = {
    "gsm8k": "math",
    "mbpp": "humaneval",
    "arc_easy": "arc_challenge",
    "textvqa": "okvqa",
}
"""Real training tasks -> the unseen tasks that the paper measures them on."""

_UNSEEN_FILE = ".unseen.jsonl"
_KNOWN_BY = 256  # examples of a split that tell whether a task's data are the same


@dataclass(frozen=True, slots=True)
class Suite:
    """A base model and its tasks.

    Attributes:
        model: the base model.
        tasks: name -> task, trained and unseen ones.
        domains: the tasks that an expert is trained for.
        siblings: domain -> an unseen task of its kind.
        combinations: unseen tasks that need several experts -> these.
        examples: domain -> further example requests for its expert's card.
        others: requests that no expert is for.
        descriptions: domain -> what its expert is for.
        rates: domain -> the learning rate of its expert, where it is not the product's own.
        conflicting: whether two domains reward what is wrong for the other.
        foreign: task -> the same with the answers of another writer than the base model; one that
            is not there has such answers already, as real data have.
    """

    model: T2Model
    tasks: Mapping[str, Task]
    domains: tuple[str, ...]
    siblings: Mapping[str, str]
    combinations: Mapping[str, tuple[str, ...]]
    examples: Mapping[str, Sequence[str]]
    others: tuple[str, ...]
    descriptions: Mapping[str, str]
    rates: Mapping[str, float]
    conflicting: Callable[[str, str], bool]
    foreign: Mapping[str, Task] = field(default_factory=dict)

    @property
    def unseen(self) -> tuple[str, ...]:
        """The tasks that no expert is trained for."""
        return (*self.siblings.values(), *self.combinations)

    def expected(self, task: str) -> str | None:
        """The domain whose expert a request of the task should go to; None where several fit."""
        if task in self.domains:
            return task
        return next((domain for domain, name in self.siblings.items() if name == task), None)

    def checked(self) -> dict[str, str]:
        """Task -> a hash of its data, once it is sure that all tasks can be run.

        Raises:
            ConfigError: a task lacks a split, a domain cannot name an expert, or its data are not
                to be had.
            ModalityError: a task has images, and the model reads text only.
        """
        hashes = {}
        for name, task in self.tasks.items():
            splits = ("train", "val", "test") if name in self.domains else ("test",)
            examples = [e for split in splits for e in draw(task, _KNOWN_BY, 0, split)]
            if any(e.image is not None for e in examples) and "image" not in self.model.modalities:
                raise ModalityError(
                    f"task {name!r} has images, but {self.model.name} reads text only; leave the "
                    f"task out, or give a vision-language model, such as {NANO}"
                )
            text = repr([(e.prompt, e.answer) for e in examples])
            hashes[name] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        for name in self.domains:
            if check_name(name) in (CLASSIFIER, OTHERS):
                raise ConfigError(
                    f"a task {name!r} cannot have an expert, since dispatch needs the name; give "
                    "the task another one (a file's stem is its task's name)"
                )
        return hashes


def draw(task: Task, n: int, seed: int, split: str) -> list[Example]:
    """``n`` examples of a split; where it is a list that has fewer, each of them once.

    Raises what the task's ``sample`` raises.
    """
    if isinstance(task, ExampleTask):
        n = min(n, max(1, len(task.split(split))))
    elif isinstance(task, RealTask):
        n = min(n, task.size(split))
    return task.sample(n, seed=seed, split=split)


def nano_suite(model: T2Model) -> Suite:
    """t2-nano and its own tasks."""
    return Suite(
        model=model,
        tasks=TASKS,
        domains=DOMAINS,
        siblings=SIBLINGS,
        combinations=COMBINATIONS,
        examples={name: real_examples(name) for name in ("math", "code", "reasoning")},
        others=small_talk(),
        descriptions=DESCRIPTIONS,
        rates=LEARNING_RATES,
        conflicting=conflicting,
        foreign={name: foreign(task) for name, task in TASKS.items() if task.form != "call"},
    )


def real_suite(model: T2Model, names: Sequence[str]) -> Suite:
    """A real checkpoint and the tasks that an expert is to be trained for.

    names: of `REAL_TASKS` (each with the unseen task that the paper pairs it with), or JSON-lines
    files as `ExampleTask.from_jsonl` reads them; beside NAME.jsonl, NAME.unseen.jsonl holds the
    examples of its unseen task.

    Raises:
        ConfigError: there are no tasks, two have one name, or one is neither a name nor a file.
    """
    if not names:
        raise ConfigError(
            f"which tasks shall {model.name} be measured on? Give --task, once or more: one of "
            f"{', '.join(REAL_TASKS)}, or a file of examples in JSON lines"
        )
    tasks: dict[str, Task] = {}
    siblings = {}
    for name in names:
        if name in REAL_TASKS:
            tasks[name] = load_task(name)
            if name in _UNSEEN:
                siblings[name] = _UNSEEN[name]
                tasks[_UNSEEN[name]] = load_task(_UNSEEN[name])
    for name in names:
        if name not in REAL_TASKS:
            task = _from_file(name)
            if task.name in tasks:
                raise ConfigError(
                    f"two tasks are named {task.name!r}; rename {name}, whose stem names its task"
                )
            tasks[task.name] = task
            beside = Path(name).with_name(f"{task.name}{_UNSEEN_FILE}")
            if beside.is_file():
                unseen = f"{task.name}_unseen"
                siblings[task.name] = unseen
                tasks[unseen] = ExampleTask(unseen, {"test": read_examples(beside)})
    domains = tuple(name for name in tasks if name not in siblings.values())
    return Suite(
        model=model,
        tasks=tasks,
        domains=domains,
        siblings=siblings,
        combinations={},
        examples={},
        others=tuple(written_requests(GENERAL)),
        descriptions={name: f"Requests of {name}." for name in domains},
        rates={},
        # Every pair may conflict: real tasks do not say what they share.
        conflicting=lambda one, other: one != other,
    )


def _from_file(name: str) -> ExampleTask:
    if not Path(name).is_file():
        raise ConfigError(
            f"got the task {name!r}; needed one of {', '.join(REAL_TASKS)}, or a file of examples "
            "in JSON lines"
        )
    return ExampleTask.from_jsonl(Path(name))
