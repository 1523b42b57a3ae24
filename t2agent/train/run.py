"""The training loop: steps, validation, checkpoints and early stop, whatever is trained."""

from __future__ import annotations

import hashlib
import math
import random
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from t2agent.errors import NoSignalWarning, TrainingError
from t2agent.models.model import T2Model
from t2agent.progress import Bar, progress_bar
from t2agent.tasks.reward import is_right
from t2agent.tasks.task import Example, Task
from t2agent.train.adapters import Adapter, restore, snapshot
from t2agent.train.checkpoint import State, load_state, make_way, save_state
from t2agent.train.course import Course, Phase
from t2agent.train.draws import data_fingerprint, drawn_for, examples_for, seed_of
from t2agent.train.judging import judged, says_everything
from t2agent.train.learner import Learner, StepFigures, reply_seeds
from t2agent.train.memory import peak_bytes
from t2agent.train.metrics import (
    METRIC_NAMES,
    METRICS,
    SAMPLES,
    Metrics,
    read_rows,
    sampled_figures,
    samples_of,
    shown_sample,
    write_curve,
    write_rows,
)
from t2agent.train.options import TrainOptions
from t2agent.train.reinforce import sampled
from t2agent.train.setup import modality_of, start_accelerator
from t2agent.train.sft import wanted
from t2agent.train.signals import FIRST_STEPS, NoSignal, why
from t2agent.train.trackers import Trackers, reports

_MAX_SKIPPED = 5  # steps in a row without a finite gradient

_EPSILON = 1e-7
"""Adam's, between noise and signal. Components of the gradient that are rounding noise (of the KL
term at z = 1) measure 4e-11 on t2-nano and 6e-10 on a model of 135 million parameters, root mean
square; medians of true ones 2e-6 (KL term) to 5e-3 (next token), and of REINFORCE on t2-nano 6e-5,
with one in a hundred below 2e-7. Noise of 6e-10 makes 6 % of a full step with Adam's usual 1e-8,
and 0.6 % with this, which takes 5 % from the smallest of the true medians and 0.2 % from
REINFORCE's."""


class Run:
    """One training run of an adapter, from its first draw to its best values.

    course: what is to be done.
    checkpoint: the folder that the run is kept in, and resumed from; None keeps nothing.
    renew: where another run, or one that was finished, lies in that folder, it makes way for this.
    start: values of the adapter's parameters from which training goes on; those that it lacks, and
        without it all, are those of the base model.
    trackers, logs: who is told of each step, and the folder that they may write to.
    verbose: sample replies are shown above the bar.
    """

    def __init__(
        self,
        model: T2Model,
        task: Task,
        course: Course,
        seed: int,
        checkpoint: Path | str | None,
        adapter: Adapter,
        start: Mapping[str, Tensor] | None = None,
        *,
        renew: bool = False,
        no_signal: NoSignal = "error",
        trackers: Trackers = (),
        logs: Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.start = {} if start is None else start
        self.model, self.task, self.course, self.seed = model, task, course, seed
        self.adapter, self.renew, self.verbose = adapter, renew, verbose
        self.no_signal = no_signal
        self.folder = None if checkpoint is None else Path(checkpoint)
        options = [phase.options for phase in course.phases]
        self.accelerator = [start_accelerator(model, each, trackers, logs) for each in options][-1]
        self.state = State(dict(adapter.parameters), snapshot(adapter))
        self.learners = [
            Learner(model, adapter, each, course.max_tokens, self.accelerator) for each in options
        ]
        self.optimizer = self._fresh_optimizer()
        self.validation, self.examples = examples_for(task, seed, options[-1].validation)
        self.modality = modality_of(model, self.examples)
        self.rows: list[Metrics] = []
        self.samples: list[Metrics] = []
        self.bar = Bar(None)
        name = getattr(task, "reward_name", "")
        self.judged = {"reward": name} if name else {}
        self.identity = {
            "task": task.name,
            **self.judged,
            "data": data_fingerprint(task, self.validation, self.examples),
            "seed": seed,
            "base_fingerprint": model.fingerprint,
            **course.identity(),
            **adapter.identity,
            **({"start": _fingerprint(self.start)} if self.start else {}),
        }

    @property
    def phase(self) -> Phase:
        """The phase that is on."""
        return self.course.phases[self.state.progress.phase]

    @property
    def learner(self) -> Learner:
        """Of the phase that is on."""
        return self.learners[self.state.progress.phase]

    @property
    def options(self) -> TrainOptions:
        """Of the phase that is on."""
        return self.phase.options

    @property
    def learned(self) -> bool:
        """Whether anything was found on validation that is better than what training began with."""
        return self.state.progress.best > self.state.progress.first

    def train(self, show: bool) -> None:
        """Run the course's steps, or those that a resumed run has left of them.

        Raises:
            TrainingError: the first steps had nothing to learn from, or gradients stay infinite.
            KeyboardInterrupt: it was interrupted; the message says where it stands.
        """
        at, steps = self.state.progress, self.course.steps
        resumed = False
        if self.folder is not None:
            self.accelerator.wait_for_everyone()  # all have read what they choose the method by
            if self.renew and self.accelerator.is_main_process:
                make_way(self.folder, self.identity)
            self.accelerator.wait_for_everyone()
            resumed = load_state(self.folder, self.identity, self.state, self.optimizer)
        if resumed and self.folder is not None:
            at = self.state.progress
            self.rows = read_rows(self.folder / METRICS, at.step)
            if (kept := self.folder / SAMPLES).is_file():
                self.samples = read_rows(kept, at.step)
        self.adapter.prepare(show)
        self.learner.check(self.examples)
        show = show and self.accelerator.is_main_process
        config = {"task": self.task.name, "method": self.course.method, "seed": self.seed}
        with (
            reports(self.accelerator, {**config, **self.options.to_dict()}),
            progress_bar(f"training {self.task.name}", steps, show) as bar,
        ):
            self.bar = bar
            try:
                if not resumed:
                    self._validate("base")
                    at.base, at.base_right = at.best, at.best_right
                    if self.start:
                        restore(self.adapter, self.start)
                        self._validate()
                    at.first = at.best
                    begun = {"step": 0, "val": at.best, "val_right": at.best_right}
                    self._keep({**dict.fromkeys(METRIC_NAMES), **begun})
                bar.advance(min(at.step, steps))
                while not self._over():
                    row = self._step()
                    shown = {k: f"{row[k]:.2f}" for k in ("reward", "loss") if row[k] is not None}
                    bar.advance(1, **shown, val=f"{at.best:.2f}", right=f"{at.best_right:.0%}")
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(self._stopped()) from error
            finally:
                if self.folder is not None and self.rows and self.accelerator.is_main_process:
                    write_curve(self.folder, self.rows, self.task.name)
        self.accelerator.wait_for_everyone()  # what the main process has written is there for all

    def record(self) -> dict[str, Any]:
        """How it was trained, for a card; plain JSON."""
        at, course = self.state.progress, self.course
        phases: list[dict[str, Any]] = [
            {"method": phase.objective, "hyper": phase.options.to_dict()} for phase in course.phases
        ]
        if len(phases) > 1:
            begun = at.begin if at.phase else at.step
            phases[0]["steps"], phases[1]["steps"] = begun, at.step - begun
        return {
            "task": self.task.name,
            **self.judged,
            "method": course.method,
            **({"chosen": course.why} if course.why else {}),
            **({"phases": phases} if len(phases) > 1 else {}),
            **({"epochs": course.epochs} if course.epochs else {}),
            "max_tokens": course.max_tokens,
            "steps": at.step,
            "best_step": at.best_step,
            "validation": len(self.validation),
            "seed": self.seed,
            "seconds": round(at.seconds, 1),
            "parameters": self.adapter.free,
            "hyper": phases[-1]["hyper"],
            **({"start": self.identity["start"]} if self.start else {}),
        }

    def _stopped(self) -> str:
        """At which step it was interrupted, and how it goes on."""
        what = f"training {self.task.name!r} was stopped"
        if not self.rows:
            return f"{what} before its first step, so nothing was lost"
        what += f" after step {self.rows[-1]['step']} of {self.course.steps}"
        if self.folder is None:
            return f"{what}; it was not kept (checkpoint=False)"
        return f"{what}, which is kept in {self.folder}: the same call goes on from there"

    def nothing_learned(self) -> str:
        """What to do where `learned` is False."""
        at = self.state.progress
        if at.first >= 1.0:
            return (
                f"the base model answers all {len(self.validation)} validation examples rightly, "
                "so there was nothing to learn; give harder examples"
            )
        return (
            f"learned nothing better than what it began with (reward {at.first:.2f} on "
            f"{len(self.validation)} validation examples, {at.step} steps); give more steps or "
            "examples, another learning_rate or method, or a reward with degrees"
        )

    @property
    def scores(self) -> dict[str, float]:
        """Mean rewards on validation and shares of right replies, of the best values and of the
        base model."""
        at = self.state.progress
        return {
            "val": at.best,
            "val_base": at.base,
            "val_right": at.best_right,
            "val_base_right": at.base_right,
        }

    @property
    def best(self) -> dict[str, Tensor]:
        """The parameters with the best reward on validation so far."""
        return self.state.best_z

    def _over(self) -> bool:
        """Whether training has come to its end; turns to the next phase where one has.

        Raises:
            TrainingError: the first steps of all had no signal.
        """
        at, options = self.state.progress, self.options
        done = at.step - at.begin
        silent = self._silent(done)
        stale = options.patience > 0 and at.stale >= options.patience
        ended = at.best >= 1.0 or stale or silent
        last = at.phase == len(self.course.phases) - 1
        if not ended and done < self.phase.steps and at.step < self.course.steps:
            return False
        if at.step % options.validate_every and not ended:
            # Not kept: a longer run that resumes here must not see this validation.
            self._validate()
        if last or at.best >= 1.0 or at.step >= self.course.steps:
            return True
        restore(self.adapter, self.state.best_z)
        self.optimizer = self._fresh_optimizer()
        at.phase, at.begin = at.phase + 1, at.step
        at.updates = at.signals = at.skipped = at.stale = 0
        return False

    def _silent(self, done: int) -> bool:
        """Whether this phase has no signal: none in its first steps, or in all that it has."""
        at = self.state.progress
        if at.signals or not done:
            return False
        end = done >= self.phase.steps or at.step >= self.course.steps
        stale = self.options.patience > 0 and at.stale >= self.options.patience
        if not (done >= FIRST_STEPS or end or stale) or at.best >= 1.0:
            return False
        reason = why(at, self.options)
        told = f"task {self.task.name!r}, the first {done} step(s) by reinforce: {reason}"
        if at.phase == 0 and self.no_signal == "error":
            raise TrainingError(told)
        self._warn(f"{told}. Training ends with what was best before", NoSignalWarning)
        return True

    def _step(self) -> dict[str, Any]:
        at, options = self.state.progress, self.options
        begin = time.perf_counter()
        step, rate = at.step + 1, self._rate()
        examples = self._examples(step, options.prompts * options.accumulate)
        share = self._share
        mine = examples[share]
        if self.phase.objective == "sft":
            lesson = wanted(self.learner, self.task, mine)
        else:
            seeds = reply_seeds(examples, options.samples, seed_of(self.seed, "replies", step))
            lesson = sampled(self.learner, self.task, mine, seeds[share])
        # A process without a signal of its own adds its KL term where another has one.
        signals, tokens = self._sum(lesson.signal, lesson.tokens)
        reward, norm = self._mean(lesson.reward, len(mine)), 0.0
        if options.baseline == "none" and not signals:
            # Of processes whose replies all earn the same, one may earn more than another.
            signals = len(set(gather_object([lesson.reward]))) > 1
        figures = StepFigures(None, lesson.reward, None, lesson.tokens)
        if signals:
            self.optimizer.zero_grad(set_to_none=True)
            figures = self.learner.backward(
                lesson.examples, lesson.rows, int(tokens), lesson.reward
            )
            norm = self._update(figures.loss, rate)
            at.signals += 1
        elif not at.signals and reward is not None:
            at.lowest, at.highest = min(at.lowest, reward), max(at.highest, reward)
            if step == at.begin + 1:
                self._warn(
                    f"task {self.task.name!r}, step {step}: {why(at, self.options)}",
                    NoSignalWarning,
                )
        at.step = step
        trained = time.perf_counter() - begin
        val, right = self._validate() if step % options.validate_every == 0 else (None, None)
        at.seconds += time.perf_counter() - begin
        parts = gather_object([lesson.sampled] if lesson.sampled else [])
        row = {
            "step": step,
            "loss": _finite(self._total(figures.loss)),
            "reward": reward,
            **sampled_figures(parts),
            "entropy": _finite(self._mean(figures.entropy, lesson.tokens)),
            "kl": _finite(self._total(figures.kl)),
            "grad_norm": _finite(norm),
            "learning_rate": rate,
            "tokens": int(tokens),
            "seconds": round(time.perf_counter() - begin, 3),
            "tokens_per_second": round(tokens / trained, 1),
            "memory": round(peak_bytes(self.model.device) / 2**30, 3),
            "val": val,
            "val_right": right,
        }
        self._keep(row)
        return row

    def _examples(self, step: int, count: int) -> list[Example]:
        """Those of a step: drawn for it, or the next ones of an epoch."""
        course, at = self.course, self.state.progress
        if course.epochs is None:
            return drawn_for(self.task, count, self.seed, "train", step)
        found: list[Example] = []
        place = (step - at.begin - 1) * count
        while len(found) < count:
            epoch, inside = divmod(place + len(found), len(course.members))
            order = list(range(len(course.members)))
            random.Random(f"{self.seed} {at.phase} {epoch}").shuffle(order)
            found += [course.members[k] for k in order[inside : inside + count - len(found)]]
        return found

    def _rate(self) -> float:
        """The learning rate of the step that is on."""
        at, options = self.state.progress, self.options
        done, warmup = at.step - at.begin, options.warmup
        if done < warmup:
            return options.learning_rate * (done + 1) / warmup
        steps = min(self.phase.steps, self.course.steps - at.begin) - warmup
        gone = (done - warmup) / steps
        factor = {
            "constant": 1.0,
            "linear": 1.0 - gone,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * gone)),
        }
        return options.learning_rate * factor[options.schedule]

    def _fresh_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.state.z.values(), eps=_EPSILON)

    def _sum(self, *values: float) -> list[float]:
        """Each, summed over the processes."""
        return [math.fsum(column) for column in zip(*gather_object([values]), strict=True)]

    def _update(self, loss: float | None, rate: float) -> float:
        """Add up the gradient over the processes, clip it and step; its norm before clipping.

        A gradient that is not finite is dropped, with parameters and moments left as they are.
        """
        at = self.state.progress
        for parameter in self.state.z.values():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.accelerator.reduce(gradient, "sum")
        self.adapter.mask_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.state.z.values(), self.options.clip))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.adapter.update(self.optimizer)
            at.updates, at.skipped = at.updates + 1, 0
        else:
            at.skipped += 1
        broken = any(not bool(torch.isfinite(z).all()) for z in self.state.z.values())
        if broken or at.skipped >= _MAX_SKIPPED:
            what = (
                "a parameter is" if broken else f"the gradients of {at.skipped} steps in a row were"
            )
            raise TrainingError(
                f"{what} not finite (loss {loss}); lower learning_rate (now "
                f"{self.options.learning_rate}), raise kl, or load the base model in "
                "float32 or bfloat16"
            )
        return norm

    def _validate(self, by: str = "expert") -> tuple[float, float]:
        """Mean reward of greedy replies to the validation examples, and the share that is right;
        remembers the best values, and some replies as ``by``'s.

        Of two equal rewards the later counts as better, but not as an improvement.
        """
        at = self.state.progress
        mine = self.validation[self._share]
        replies = self.learner.replies(mine, samples=1, temperature=0.0) if mine else []
        texts = [group[0].text for group in replies]
        rewards = judged(self.model, self.task, texts, mine)
        if told := says_everything(self.task, texts, mine):
            self._warn(told)
        some = samples_of(at.step, by, mine, texts, rewards)
        self.samples += some
        if self.verbose:
            self.bar.tell("\n".join(shown_sample(one) for one in some))
        gathered = gather_object(rewards)
        value = math.fsum(gathered) / len(gathered)
        right = sum(map(is_right, gathered)) / len(gathered)
        at.stale = 0 if value > at.best else at.stale + 1
        if value >= at.best:
            at.best, at.best_right, at.best_step = value, right, at.step
            self.state.best_z = snapshot(self.adapter)
        return value, right

    def _warn(self, told: str, kind: type[Warning] = UserWarning) -> None:
        """Tell the caller of the training, and the report."""
        if told not in self.state.progress.told:
            self.state.progress.told.append(told)
        if self.accelerator.is_main_process:
            warnings.warn(told, kind, stacklevel=5)

    def _keep(self, row: Metrics) -> None:
        self.rows.append(row)
        measured = {k: v for k, v in row.items() if v is not None and k != "step"}
        self.accelerator.log(measured, step=row["step"])
        if self.folder is not None and self.accelerator.is_main_process:
            write_rows(self.folder / METRICS, self.rows)
            write_rows(self.folder / SAMPLES, self.samples)
            save_state(self.folder, self.identity, self.state, self.optimizer)

    @property
    def _share(self) -> slice:
        """Which of a step's or validation's examples are this process's."""
        return slice(self.accelerator.process_index, None, self.accelerator.num_processes)

    def _mean(self, value: float | None, count: int) -> float | None:
        """Over the processes that have one, by what each counts."""
        if self.accelerator.num_processes == 1:
            return value
        total, counted = self._sum(*((0.0, 0) if value is None else (value * count, count)))
        return total / counted if counted else None

    def _total(self, value: float | None) -> float | None:
        """Over the processes, of which all have one or none has."""
        return None if value is None else self._sum(value)[0]


def _finite(value: float | None) -> float | None:
    """None for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def _fingerprint(values: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(name.encode() + values[name].detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
