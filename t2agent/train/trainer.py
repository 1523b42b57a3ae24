"""Training an expert: from a base model and a task to z vectors with a card."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from accelerate.tracking import GeneralTracker

from t2agent.errors import ConfigError
from t2agent.experts.card import check_name
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.models.model import T2Model
from t2agent.tasks.reward import is_right
from t2agent.tasks.task import Task, distinct
from t2agent.train.adapters import SvfAdapter
from t2agent.train.checkpoint import FINISHED
from t2agent.train.choosing import chosen_course
from t2agent.train.course import check_course, count_of
from t2agent.train.evaluation import replies
from t2agent.train.judging import judged
from t2agent.train.keeping import alone, first_process, run_folder
from t2agent.train.near_misses import near_misses
from t2agent.train.options import Method
from t2agent.train.report import write_report
from t2agent.train.run import Run
from t2agent.train.setup import frozen_base, step_of
from t2agent.train.signals import NoSignal
from t2agent.train.trackers import Trackers, check_trackers, logs_folder

Negatives = Task | Sequence[str] | Literal["near"] | None
"""Where `train_expert` takes the requests from that the expert is not for."""

_ASKED = 64  # requests of another task


def train_expert(
    model: T2Model,
    task: Task,
    *,
    method: Method = "auto",
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    checkpoint: Path | str | Literal[False] | None = None,
    progress: bool = True,
    name: str | None = None,
    description: str = "",
    start: Expert | None = None,
    negatives: Negatives = "near",
    report_to: str | GeneralTracker | Trackers | None = None,
    verbose: bool = False,
    no_signal: NoSignal = "error",
    **hyper: Any,
) -> Expert:
    """Train an expert for a task; the base model stays as it is, bit for bit.

    Only z is trained, from z = 1 or from another expert's. The z with the best reward on validation
    (these two among them) is returned; its ``scores`` are the mean rewards ``val`` and, of the base
    model, ``val_base``, and the shares of right replies ``val_right`` and ``val_base_right``.
    Where none was better than that of the start, a warning says so.
    All draws depend on (seed, step) only, so a run that was stopped and resumed from its
    checkpoint ends with the same z as one that was not.

    Args:
        model: any base model; with images in the task, a vision-language model.
        task: where examples come from and how replies are judged.
        method: "reinforce" (`train.reinforce`); "sft", next-token training (`train.sft`);
            "sft+reinforce", the one until validation stalls or its share of the steps is over
            (`TrainOptions.sft_steps`), then the other from the best z; or "auto", which samples
            replies of the base model and chooses (`train.choosing`).
        steps: most updates, 40 if not given; training ends before if validation stops improving or
            is perfect.
        epochs: instead of steps, how often the examples to train on are gone through, in another
            order each time; by each of the two methods of "sft+reinforce".
        seed: of all draws.
        checkpoint: a folder for the state, figures (metrics.jsonl, curve.png), sample replies
            (samples.jsonl) and the final report (report.md). A run that is there already
            is resumed; ``steps`` may differ from then, nothing else may. Without it the folder is
            ``$T2AGENT_HOME/runs/<base>/<name>``, where a run that was stopped is resumed by the
            same call. Once trained, the expert is in its folder ``expert``, until the next
            training of this name. False keeps nothing.
        progress: show a bar with the reward on stderr.
        name: the expert's; the task's if not given.
        description: for the card.
        start: an expert of this model to go on from, such as one that "sft" has taught what
            sampling would never come upon.
        negatives: requests that the expert is not for, for its card; the dispatcher's gate learns
            them. "near": requests with the words of the examples that want something else, from
            the frames that come with t2agent. A Task: its requests that the base model answers
            rightly, greedily. Or the requests themselves, or None.
        report_to: "tensorboard", "wandb" or "trackio", a tracker of accelerate, or several: they
            get the figures of each step. TensorBoard's files are in ``$T2AGENT_HOME/logs/<base>``.
        verbose: show some replies of each validation, with their rewards, above the bar.
        no_signal: "keep" returns what training began with, with a warning, where its first steps
            had nothing to learn from.
        hyper: fields of `TrainOptions`; those that are not given suit model and task
            (`train.options`). ``modules`` and ``directions`` leave part of z at 1.
            The expert names the chosen modules only, and ``training["parameters"]`` on its card
            counts the values that were free.

    Raises:
        ConfigError: an option or the task is unusable, a reward is not in [-1, 1], or the
            checkpoint is another run's.
        TrainingError: the first steps had nothing to learn from (unless ``no_signal`` is "keep"),
            or gradients stay infinite.
        ModalityError: the task has images and the model reads text only.
        ExpertMismatchError: ``start`` is for another model.
        ExpertExistsError: another process trains an expert of this name.
        KeyboardInterrupt: it was interrupted; the message says at which step, and how to go on.
    """
    check_course(task, method, steps, epochs, hyper)
    _check_negatives(negatives)
    trackers = check_trackers(report_to)
    if start is not None:
        model.registry.check(start)
    named = check_name(task.name if name is None else name)
    with ExitStack() as stack:
        folder = None if checkpoint is False else checkpoint
        if own := checkpoint is None:
            folder = stack.enter_context(alone(model.name, named))
        stack.enter_context(frozen_base(model.model))
        course = chosen_course(
            model,
            task,
            method,
            steps=steps,
            epochs=epochs,
            seed=seed,
            hyper=hyper,
            folder=folder,
        )
        if course.why and progress and first_process():
            print(f"{named}: {course.method}, since {course.why}", file=sys.stderr)
        adapter = SvfAdapter.start(model, course.phases[-1].options)
        first = None if start is None else start.z
        run = Run(
            model,
            task,
            course,
            seed,
            folder,
            adapter,
            first,
            renew=own,
            no_signal=no_signal,
            trackers=trackers,
            logs=logs_folder(model.name, named) if trackers else None,
            verbose=verbose,
        )
        run.train(progress)
        examples = tuple(example.prompt for example in run.examples)
        card = ExpertCard(
            named,
            description=description,
            examples=examples,
            modality=run.modality,
            base=model.name,
            base_fingerprint=model.fingerprint,
            training=run.record(),
            scores=run.scores,
            negatives=_collected(model, negatives, examples, images=run.modality == "image"),
            step=step_of(run.examples),
        )
        expert = Expert(card, {key: value.cpu() for key, value in run.best.items()})
        told = list(run.state.progress.told)
        if not run.learned:
            told.append(run.nothing_learned())
        if run.folder is not None and run.accelerator.is_main_process:
            counts = {"to train on": count_of(task), "to validate on": len(run.validation)}
            write_report(run.folder, card, data=counts, samples=run.samples, told=told)
        if own and run.accelerator.is_main_process:
            expert.save(run_folder(model.name, named) / FINISHED)
    if not run.learned and first_process():
        warnings.warn(f"{named}: {run.nothing_learned()}", UserWarning, stacklevel=2)
    return expert


def _check_negatives(given: Negatives) -> None:
    if given is None or given == "near" or isinstance(given, Task):
        return
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError(
            f"negatives is {given!r:.80}; give 'near', a Task, a sequence of requests, or None"
        )


def _collected(
    model: T2Model, given: Negatives, own: Sequence[str], *, images: bool
) -> tuple[str, ...]:
    """The requests that an expert with these examples is not for, without these."""
    found: Sequence[str]
    if given is None:
        found = ()
    elif isinstance(given, Task):
        examples = distinct(given.sample(_ASKED, seed=0, split="train"))
        rewards = judged(model, given, replies(model, given, examples), examples)
        found = [e.prompt for e, reward in zip(examples, rewards, strict=True) if is_right(reward)]
    else:
        found = near_misses(own, images=images) if given == "near" else list(given)
    return tuple(text for text in dict.fromkeys(found) if text not in own)
