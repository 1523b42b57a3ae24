"""The training loop: steps, validation, checkpoints and early stop, whatever is trained."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from t2agent.errors import ConfigError
from t2agent.models.model import T2Model
from t2agent.models.options import Count, check_option
from t2agent.progress import progress_bar
from t2agent.tasks.reward import scores
from t2agent.tasks.task import Example, Task, distinct, longest_reply
from t2agent.train.adapters import Adapter, restore, snapshot
from t2agent.train.checkpoint import State, load_state, save_state
from t2agent.train.learner import Learner
from t2agent.train.metrics import METRIC_NAMES, Metrics, read_metrics, write_curve, write_metrics
from t2agent.train.options import Method, TrainOptions, options_for
from t2agent.train.reinforce import reinforce_step
from t2agent.train.setup import modality_of, start_accelerator
from t2agent.train.sft import sft_step

_MAX_SKIPPED = 5  # steps in a row without a finite gradient
_CARD_EXAMPLES = 64


def checked(task: Task, method: Method, steps: int, hyper: Mapping[str, Any]) -> TrainOptions:
    """The options of a run, before any work is done.

    Raises:
        ConfigError: an option, the steps or the task are unusable.
    """
    options = options_for(method, hyper)
    if not isinstance(task, Task):
        raise ConfigError(
            f"task is a {type(task).__name__}; needed a Task, with name, sample and reward: "
            "ExampleTask makes one of examples"
        )
    check_option("steps", steps, Count)
    return options


class Run:
    """One training run of an adapter, from its first draw to its best values.

    start: values of the adapter's parameters from which training goes on; those that it lacks, and
        without it all, are those of the base model.
    """

    def __init__(
        self,
        model: T2Model,
        task: Task,
        method: Method,
        seed: int,
        options: TrainOptions,
        checkpoint: Path | str | None,
        adapter: Adapter,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.start = {} if start is None else start
        self.model, self.task, self.method, self.seed = model, task, method, seed
        self.adapter = adapter
        self.folder = None if checkpoint is None else Path(checkpoint)
        self.accelerator = start_accelerator(model, options)
        self.state = State(dict(adapter.parameters), snapshot(adapter))
        self.optimizer = torch.optim.Adam(self.state.z.values(), lr=options.learning_rate)
        max_tokens = options.max_tokens or longest_reply(task)
        self.learner = Learner(model, adapter, options, max_tokens, self.accelerator)
        self.validation = distinct(self._draw(options.validation, "val"))
        self.examples = distinct(self._draw(_CARD_EXAMPLES, "train"))
        self.modality = modality_of(model, self.examples)
        self.rows: list[Metrics] = []
        self.identity = {
            "task": task.name,
            "method": method,
            "seed": seed,
            "base_fingerprint": model.fingerprint,
            "max_tokens": max_tokens,
            **options.identity(),
            **adapter.identity,
            **({"start": _fingerprint(self.start)} if self.start else {}),
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
        self.adapter.prepare(show)
        show = show and self.accelerator.is_main_process
        with progress_bar(f"training {self.task.name}", steps, show) as bar:
            try:
                if not resumed:
                    self._validate()
                    at.base = at.best
                    if self.start:
                        restore(self.adapter, self.start)
                        self._validate()
                    self._keep({**dict.fromkeys(METRIC_NAMES), "step": 0, "val": at.best})
                bar.advance(min(at.step, steps))
                while at.step < steps and not self._done():
                    row = self._step()
                    shown = {k: f"{row[k]:.2f}" for k in ("reward", "loss") if row[k] is not None}
                    bar.advance(1, **shown, val=f"{at.best:.2f}")
                if at.step % self.learner.options.validate_every and not self._done():
                    # Not kept: a longer run that resumes here must not see this validation.
                    self._validate()
            finally:
                if self.folder is not None and self.rows and self.accelerator.is_main_process:
                    write_curve(self.folder, self.rows, self.task.name)

    def record(self) -> dict[str, Any]:
        """How it was trained, for a card; plain JSON."""
        at = self.state.progress
        return {
            "task": self.task.name,
            "method": self.method,
            "steps": at.step,
            "best_step": at.best_step,
            "validation": len(self.validation),
            "seed": self.seed,
            "seconds": round(at.seconds, 1),
            "parameters": self.adapter.free,
            "hyper": self.learner.options.to_dict(),
            **({"start": self.identity["start"]} if self.start else {}),
        }

    @property
    def scores(self) -> dict[str, float]:
        """Mean rewards on validation: of the best values and of the base model."""
        return {"val": self.state.progress.best, "val_base": self.state.progress.base}

    @property
    def best(self) -> dict[str, Tensor]:
        """The parameters with the best reward on validation so far."""
        return self.state.best_z

    def _step(self) -> dict[str, Any]:
        at, options = self.state.progress, self.learner.options
        begin = time.perf_counter()
        step = at.step + 1
        examples = self._draw(options.prompts, "train", step)
        mine = examples[self.accelerator.process_index :: self.accelerator.num_processes]
        self.optimizer.zero_grad(set_to_none=True)
        if self.method == "sft":
            figures = sft_step(self.learner, self.task, mine)
        else:
            seed = _seed(self.seed, "replies", step, self.accelerator.process_index)
            figures = reinforce_step(self.learner, self.task, mine, seed)
        # Nothing is learnt where no process has a loss.
        norm = self._update(figures.loss) if any(self._sum(figures.loss is not None)) else 0.0
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

    def _sum(self, *values: float) -> list[float]:
        """Each, summed over the processes."""
        own = torch.tensor(values, dtype=torch.float32, device=self.model.device)
        found: list[float] = self.accelerator.reduce(own, "sum").tolist()
        return found

    def _update(self, loss: float | None) -> float:
        """Average the gradient over the processes, clip it and step; its norm before clipping.

        A gradient that is not finite is dropped, with parameters and moments left as they are.
        """
        at = self.state.progress
        for parameter in self.state.z.values():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.accelerator.reduce(gradient, "mean")
        self.adapter.mask_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.state.z.values(), self.learner.options.clip))
        if math.isfinite(norm):
            self.adapter.update(self.optimizer)
            at.updates, at.skipped = at.updates + 1, 0
        else:
            at.skipped += 1
        broken = any(not bool(torch.isfinite(z).all()) for z in self.state.z.values())
        if broken or at.skipped >= _MAX_SKIPPED:
            what = (
                "a parameter is" if broken else f"the gradients of {at.skipped} steps in a row were"
            )
            raise ConfigError(
                f"{what} not finite (loss {loss}); lower learning_rate (now "
                f"{self.learner.options.learning_rate}), raise kl, or load the base model in "
                "float32 or bfloat16"
            )
        return norm

    def _validate(self) -> float:
        """Mean reward of greedy replies to the validation examples; remembers the best values.

        Of two equal results the later counts as better, but not as an improvement.
        """
        at = self.state.progress
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = self.validation[rank::world]
        replies = self.learner.replies(mine, samples=1, temperature=0.0, seed=0) if mine else []
        total = sum(scores(self.task, [group[0].text for group in replies], mine))
        total, count = self._sum(total, len(mine))
        value = total / count
        at.stale = 0 if value > at.best else at.stale + 1
        if value >= at.best:
            at.best, at.best_step = value, at.step
            self.state.best_z = snapshot(self.adapter)
        return value

    def _done(self) -> bool:
        at, patience = self.state.progress, self.learner.options.patience
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
        """Of the processes that have one."""
        if self.accelerator.num_processes == 1:
            return value
        total, count = self._sum(*((0.0, 0.0) if value is None else (value, 1.0)))
        return total / count if count else None


def _finite(value: float | None) -> float | None:
    """None for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def _seed(seed: int, *parts: object) -> int:
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _fingerprint(values: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(name.encode() + values[name].detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
