"""The training loop: steps, validation, checkpoints, early stop, and the expert at the end."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2agent.card import check_name
from t2agent.errors import ConfigError
from t2agent.expert import Expert, ExpertCard
from t2agent.model import T2Model
from t2agent.progress import progress_bar
from t2agent.train.checkpoint import State, load_state, save_state
from t2agent.train.options import Method, TrainOptions, options_for
from t2agent.train.policy import Policy
from t2agent.train.record import METRIC_NAMES, Metrics, read_metrics, write_curve, write_metrics
from t2agent.train.reinforce import reinforce_step
from t2agent.train.reward import score
from t2agent.train.setup import frozen_base, modality_of, start_accelerator
from t2agent.train.sft import sft_step
from t2agent.train.task import Example, Task

_MAX_TOKENS = 128
_MAX_SKIPPED = 5  # steps in a row without a finite gradient
_CARD_EXAMPLES = 64


def train_expert(
    model: T2Model,
    task: Task,
    *,
    method: Method = "reinforce",
    steps: int = 40,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    progress: bool = True,
    name: str | None = None,
    description: str = "",
    **hyper: Any,
) -> Expert:
    """Train an expert for a task; the base model stays as it is, bit for bit.

    Only z is trained, from z = 1. The z with the best reward on validation (z = 1 among them) is
    returned; its ``scores`` are the mean rewards ``val`` and, of the base model, ``val_base``.
    All draws depend on (seed, step) only, so a run that was stopped and resumed from its
    checkpoint ends with the same z as one that was not.

    Args:
        model: any base model; with images in the task, a vision-language model.
        task: where examples come from and how replies are judged.
        method: "reinforce" (`train.reinforce`) or "sft", next-token training (`train.sft`).
        steps: most updates; training ends before if validation stops improving or is perfect.
        seed: of all draws.
        checkpoint: a folder for state, metrics.jsonl and curve.png. A run that is there already
            is resumed; ``steps`` may differ from then, nothing else may.
        progress: show a bar with the reward on stderr.
        name: the expert's; the task's if not given.
        description: for the card.
        hyper: fields of `TrainOptions`.

    Raises:
        ConfigError: an option or the task is unusable, a reward is not in [-1, 1], the checkpoint
            is another run's, or gradients stay infinite.
        ModalityError: the task has images and the model reads text only.
    """
    options = options_for(method, hyper)
    if not isinstance(task, Task):
        raise ConfigError(
            f"task is a {type(task).__name__}; needed a Task, with name, sample and reward: "
            "ExampleTask makes one of examples"
        )
    check_name(task.name if name is None else name)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ConfigError(f"steps is {steps!r}; it must be a whole number >= 1")
    with frozen_base(model.model):
        run = _Run(model, task, method, seed, options, checkpoint)
        run.train(steps, progress)
        return run.expert(name or task.name, description, options)


class _Run:
    """One training run, from its first draw to its expert."""

    def __init__(
        self,
        model: T2Model,
        task: Task,
        method: Method,
        seed: int,
        options: TrainOptions,
        checkpoint: Path | str | None,
    ) -> None:
        self.model, self.task, self.method, self.seed = model, task, method, seed
        self.folder = None if checkpoint is None else Path(checkpoint)
        self.accelerator = start_accelerator(model, options)
        ones = Expert.identity(model, "in-training")
        self.state = State(
            {key: nn.Parameter(value.to(model.device)) for key, value in ones.z.items()},
            {key: value.to(model.device) for key, value in ones.z.items()},
        )
        self.optimizer = torch.optim.Adam(self.state.z.values(), lr=options.learning_rate)
        max_tokens = options.max_tokens or int(getattr(task, "max_tokens", _MAX_TOKENS))
        expert = Expert(ones.card, self.state.z)
        self.policy = Policy(model, expert, options, max_tokens, self.accelerator)
        self.validation = _distinct(self._draw(options.validation, "val"))
        self.examples = _distinct(self._draw(_CARD_EXAMPLES, "train"))
        self.modality = modality_of(model, self.examples)
        self.rows: list[Metrics] = []
        self.identity = {
            "task": task.name,
            "method": method,
            "seed": seed,
            "base_fingerprint": model.fingerprint,
            "max_tokens": max_tokens,
            **options.to_dict(),
        }

    def train(self, steps: int, show: bool) -> None:
        """Run up to ``steps`` updates in all, those of a resumed run among them."""
        at = self.state.progress
        resumed = self.folder is not None and load_state(
            self.folder, self.identity, self.state, self.optimizer
        )
        if resumed and self.folder is not None:
            at = self.state.progress
            self.rows = read_metrics(self.folder, at.step)
        self.model.decompose(progress=show)
        show = show and self.accelerator.is_main_process
        with progress_bar(f"training {self.task.name}", steps, show) as bar:
            try:
                if not resumed:
                    self._validate()
                    at.base = at.best
                    self._keep({**dict.fromkeys(METRIC_NAMES), "step": 0, "val": at.best})
                bar.advance(min(at.step, steps))
                while at.step < steps and not self._done():
                    row = self._step()
                    shown = {k: f"{row[k]:.2f}" for k in ("reward", "loss") if row[k] is not None}
                    bar.advance(1, **shown, val=f"{at.best:.2f}")
                if at.step % self.policy.options.validate_every and not self._done():
                    # Not kept: a longer run that resumes here must not see this validation.
                    self._validate()
            finally:
                if self.folder is not None and self.rows and self.accelerator.is_main_process:
                    write_curve(self.folder, self.rows, self.task.name)

    def expert(self, name: str, description: str, options: TrainOptions) -> Expert:
        """The best expert so far."""
        at = self.state.progress
        card = ExpertCard(
            name,
            description=description,
            examples=tuple(example.prompt for example in self.examples),
            modality=self.modality,
            base=self.model.name,
            base_fingerprint=self.model.fingerprint,
            training={
                "task": self.task.name,
                "method": self.method,
                "steps": at.step,
                "best_step": at.best_step,
                "seed": self.seed,
                "seconds": round(at.seconds, 1),
                "parameters": sum(len(value) for value in self.state.z.values()),
                "hyper": options.to_dict(),
            },
            scores={"val": at.best, "val_base": at.base},
        )
        return Expert(card, {key: value.cpu() for key, value in self.state.best_z.items()})

    def _step(self) -> dict[str, Any]:
        at, options = self.state.progress, self.policy.options
        begin = time.perf_counter()
        step = at.step + 1
        examples = self._draw(options.prompts, "train", step)
        mine = examples[self.accelerator.process_index :: self.accelerator.num_processes]
        self.optimizer.zero_grad(set_to_none=True)
        if self.method == "sft":
            figures = sft_step(self.policy, mine)
        else:
            seed = _seed(self.seed, "replies", step, self.accelerator.process_index)
            figures = reinforce_step(self.policy, self.task, mine, seed)
        norm = self._update(figures.loss)
        at.step = step
        val = None
        if step % options.validate_every == 0:
            val = self._validate()
        at.seconds += time.perf_counter() - begin
        row = {
            "step": step,
            "loss": _finite(self._mean(figures.loss)),
            "reward": self._mean(figures.reward),
            "kl": _finite(self._mean(figures.kl)),
            "grad_norm": _finite(norm),
            "tokens": figures.tokens,
            "seconds": round(time.perf_counter() - begin, 3),
            "val": val,
        }
        self._keep(row)
        return row

    def _update(self, loss: float) -> float:
        """Average the gradient over the processes, clip it and step; its norm before clipping.

        A gradient that is not finite is dropped, with z and the moments left as they are.
        """
        at = self.state.progress
        for parameter in self.state.z.values():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.accelerator.reduce(gradient, "mean")
        norm = float(nn.utils.clip_grad_norm_(self.state.z.values(), self.policy.options.clip))
        if math.isfinite(norm):
            self.optimizer.step()
            at.updates, at.skipped = at.updates + 1, 0
        else:
            at.skipped += 1
        broken = any(not bool(torch.isfinite(z).all()) for z in self.state.z.values())
        if broken or at.skipped >= _MAX_SKIPPED:
            what = "z is" if broken else f"the gradients of {at.skipped} steps in a row were"
            raise ConfigError(
                f"{what} not finite (loss {loss}); lower learning_rate (now "
                f"{self.policy.options.learning_rate}), raise kl, or load the base model in "
                "float32 or bfloat16"
            )
        return norm

    def _validate(self) -> float:
        """Mean reward of greedy replies to the validation examples; remembers the best z.

        Of two equal results the later counts as the better z, but not as an improvement.
        """
        at = self.state.progress
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = self.validation[rank::world]
        replies = self.policy.replies(mine, samples=1, temperature=0.0, seed=0) if mine else []
        total = sum(
            score(self.task, group[0].text, example)
            for example, group in zip(mine, replies, strict=True)
        )
        sums = torch.tensor([total, len(mine)], dtype=torch.float32, device=self.model.device)
        total, count = self.accelerator.reduce(sums, "sum").tolist()
        value = float(total / count)
        at.stale = 0 if value > at.best else at.stale + 1
        if value >= at.best:
            at.best, at.best_step = value, at.step
            self.state.best_z = {k: v.detach().clone() for k, v in self.state.z.items()}
        return value

    def _done(self) -> bool:
        at, patience = self.state.progress, self.policy.options.patience
        return at.best >= 1.0 or (patience > 0 and at.stale >= patience)

    def _keep(self, row: Metrics) -> None:
        self.rows.append(row)
        if self.folder is not None and self.accelerator.is_main_process:
            write_metrics(self.folder, self.rows)
            save_state(self.folder, self.identity, self.state, self.optimizer)

    def _draw(self, n: int, split: str, step: int = 0) -> list[Example]:
        seed = _seed(self.seed, split, step)
        examples = list(self.task.sample(n, seed=seed, split=split))
        if not examples:
            raise ConfigError(f"task {self.task.name!r} gave no examples of split {split!r}")
        return examples

    def _mean(self, value: float | None) -> float | None:
        if value is None or self.accelerator.num_processes == 1:
            return value
        tensor = torch.tensor(value, device=self.model.device)
        return float(self.accelerator.reduce(tensor, "mean"))


def _distinct(examples: Sequence[Example]) -> list[Example]:
    """Without repeats, which a small split has when more are asked for than there are."""
    found = {(e.prompt, e.answer, id(e.image)): e for e in examples}
    return list(found.values())


def _finite(value: float | None) -> float | None:
    """None for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def _seed(seed: int, *parts: object) -> int:
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
