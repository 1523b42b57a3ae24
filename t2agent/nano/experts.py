"""Train the experts that are shipped with t2-nano: ``python -m t2agent.nano.experts``.

Each is trained with the product's own trainer (`t2agent.train.train_expert`) by REINFORCE, on
prompts of the train split, chosen on the validation split, and scored once on the test split.
Its card carries example prompts of ours and, where there are any, of real data.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2agent.dispatch.classification import ClassificationTask
from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.dispatch.shipped_requests import real_examples
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.nano.errand_task import ErrandTask
from t2agent.nano.tasks import DOMAINS, TASKS
from t2agent.nano.words import SMALL_TALK
from t2agent.paths import bundled
from t2agent.train import Task, TrainOptions, attach_record, train_expert
from t2agent.train.evaluation import accuracy
from t2agent.train.near_misses import near_misses
from t2agent.train.options import Method

DESCRIPTIONS = {
    "math": "Arithmetic and word problems, worked out step by step.",
    "code": "Python expressions, answered as the console shows them.",
    "reasoning": "Which option fits: questions with choices, answered with the word alone.",
    "json": "The result as a JSON object, whatever leads to it.",
    "tools": "Requests that one of the offered tools serves, answered with a call of it.",
    "read": "Numbers in an image, read and given alone.",
    "chart": "Bar charts: how high a bar is, which is the tallest, worked out.",
    "count": "How many shapes of a colour or a kind an image shows, counted one by one.",
}
_KNOWN_BY = {
    "math": "apples, marbles, pencils, sums, arithmetic, multiplication, fractions, numbers, "
    "division, equations, algebra, percentages, coins, eggs, sweets, bags, boxes, addition,"
    " geometry, prices, shells, crates, money, counting",
    "code": "Python, lists, strings, programming, software, functions, computers, loops, the "
    "console, sorting, variables, code, an algorithm, a programmer, numbers, the maximum, "
    "print, keyboards, bugs, text, a script, snakes, typing, arrays",
    "reasoning": "metals, animals, fruits, garments, tools, silver, horses, hammers, dresses, "
    "words, logic, puzzles, shoes, iron, vehicles, apples, options, riddles, drills, objects, "
    "copper, cats, trams, oranges",
    "json": "JSON, JSON files, the JSON format, JSON objects, JSON parsers, a JSON document, JSON "
    "keys, data formats, curly braces, objects, keys, answers, structured data, XML, "
    "brackets, Jason",
    "tools": "calendars, alarms, timers, prices, flights, the weather, weekdays, reminders, lamps, "
    "hotels, thermostats, dates, colours, stock, files, maps, appointments, stars, "
    "temperature, crosswords, dice, currencies, experts, assistants",
    "read": "number, numbers, digits, digit, numeral, printed number, written number, figure, "
    "sign, writing",
    "chart": "chart, bars, bar chart, axis, diagram, tallest bar, graph, red bar, columns, legend",
    "count": "shapes, circles, squares, triangles, red shapes, figures, colours, blue circles, "
    "pattern, objects",
}
"""Domain -> the words that near requests, which its expert is not for, are made with; for images,
those of what is to be seen in them."""
_REAL = ("math", "code", "reasoning")  # domains that have real example prompts
_OWN_EXAMPLES = 256
_SCORED = 200
_STEPS = 60
_VALIDATION = 128
_PATIENCE = 8  # validations: some domains pause on the way

LEARNING_RATES: Mapping[str, float] = {"json": 0.01, "tools": 0.005}
"""Domain -> the learning rate that validation preferred to the product's own. Faster, "json" keeps
to the hasty writers, who are often right, and "tools", which starts high, falls again."""

_STAGES: tuple[tuple[Method, int, float, int], ...] = (
    ("sft", 300, 0.02, 25),
    ("sft", 200, 0.005, 25),
    ("reinforce", _STEPS, LEARNING_RATES["tools"], 10),
)
"""How the expert for tools is trained: methods, steps, learning rates, and the steps from one
validation to the next."""


def _taught(model: T2Model, *, seed: int, work: Path | None, progress: bool) -> Expert:
    """The expert for tools: at the steps of errands, taught first and then reinforced.

    The base answers as soon as one tool has replied, so sampling never comes upon a second call
    for a request that it has not seen in pretraining; next-token training shows it.
    """
    expert: Expert | None = None
    for stage, (method, steps, rate, every) in enumerate(_STAGES):
        folder = work and (work / f"taught-{stage}" if method == "sft" else work)
        expert = train_expert(
            model,
            ErrandTask(),
            name="tools",
            description=DESCRIPTIONS["tools"],
            method=method,
            steps=steps,
            start=expert,
            learning_rate=rate,
            validation=2 * _VALIDATION,
            validate_every=every,
            patience=0,
            seed=seed,
            checkpoint=folder,
            progress=progress,
        )
    assert expert is not None
    # Some of its examples have images; it is for requests without any as well.
    return Expert(replace(expert.card, modality="text"), expert.z)


def train_domain(
    model: T2Model, name: str, *, seed: int = 0, work: Path | None = None, progress: bool = True
) -> Expert:
    """Train and score the expert of one domain. ``work``: folder of its checkpoint."""
    task: Task = TASKS[name]
    sources: list[Task] = [task]
    if name == "tools":
        expert = _taught(model, seed=seed, work=work, progress=progress)
        sources.append(ErrandTask())
    else:
        expert = _trained(
            model,
            task,
            seed=seed,
            work=work,
            progress=progress,
            name=name,
            description=DESCRIPTIONS[name],
            learning_rate=LEARNING_RATES.get(name, TrainOptions().learning_rate),
        )
    prompts = [
        e.prompt for one in sources for e in one.sample(_OWN_EXAMPLES, seed=0, split="train")
    ]
    if name in _REAL:
        prompts += real_examples(name)
    return _scored(model, task, expert, prompts, shipped_negatives(name, prompts))


def _trained(
    model: T2Model, task: Task, *, seed: int, work: Path | None, progress: bool, **more: Any
) -> Expert:
    """By REINFORCE, for as long as all experts are; more: of `train_expert`."""
    return train_expert(
        model,
        task,
        method="reinforce",
        steps=_STEPS,
        validation=_VALIDATION,
        patience=_PATIENCE,
        seed=seed,
        checkpoint=work,
        progress=progress,
        **more,
    )


def shipped_negatives(name: str, prompts: Sequence[str]) -> list[str]:
    """What the card of a domain's expert says that it is not for."""
    images = name in ("read", "chart", "count")
    return near_misses(prompts, words=_KNOWN_BY[name].split(", "), images=images)


def train_classifier(
    model: T2Model, *, seed: int = 0, work: Path | None = None, progress: bool = True
) -> Expert:
    """Train the expert that tells which domain a request is of (strategy "classifier")."""
    task = ClassificationTask(CLASSIFIER, {name: TASKS[name] for name in DOMAINS}, small_talk())
    expert = _trained(
        model,
        task,
        seed=seed,
        work=work,
        progress=progress,
        description="Which kind of request is this? Used by dispatch, never chosen by it.",
    )
    return _scored(model, task, expert)


def small_talk() -> tuple[str, ...]:
    """Requests that no expert is for."""
    return tuple(way for ways, _ in SMALL_TALK for way in ways)


def _scored(
    model: T2Model,
    task: Task,
    expert: Expert,
    prompts: Sequence[str] | None = None,
    negatives: Sequence[str] = (),
) -> Expert:
    """The expert with its accuracy on the test split, and these example prompts and negatives."""
    examples = task.sample(_SCORED, seed=0, split="test")
    card = replace(
        expert.card,
        examples=expert.card.examples if prompts is None else tuple(dict.fromkeys(prompts)),
        scores={
            **expert.card.scores,
            "test": accuracy(model, task, examples, expert),
            "test_base": accuracy(model, task, examples),
            "test_requests": _SCORED,
        },
        negatives=tuple(negatives),
        license="Apache-2.0",
    )
    return Expert(card, expert.z)


def main() -> None:
    """Train what the command line asks for and write it into the shipped experts."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m t2agent.nano.experts")
    names = (*DOMAINS, CLASSIFIER)
    parser.add_argument("names", nargs="*", choices=[*names, []], help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/experts"), help="checkpoints")
    parser.add_argument("--out", type=Path, help="folder of the experts (default: the shipped)")
    options = parser.parse_args()
    out = options.out or bundled("experts") / "t2-nano"
    model = T2Model.from_pretrained("t2-nano")
    for name in options.names or names:
        work = options.work / f"{name}-{options.seed}"
        if name == CLASSIFIER:
            expert = train_classifier(model, seed=options.seed, work=work)
        else:
            expert = train_domain(model, name, seed=options.seed, work=work)
        expert.save(out / name)
        attach_record(work, out / name)
        print(name, dict(expert.card.scores))


if __name__ == "__main__":
    main()
