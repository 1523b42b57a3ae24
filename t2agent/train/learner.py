"""What all training methods share: the replies of the model in training, and its gradient."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from t2agent.errors import TrainingError
from t2agent.models.calls import judged_marks
from t2agent.models.generate import Generation, Prompt, encode, generate, prompt_key, row_seeds
from t2agent.models.likelihood import Batch, completion_states, logits_of, make_batch
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions, bytes_of
from t2agent.tasks.task import Example
from t2agent.train.adapters import Adapter
from t2agent.train.memory import free_bytes, held_bytes
from t2agent.train.options import TrainOptions
from t2agent.train.passes import Costs, Pass, Size, recomputed
from t2agent.train.setup import autocast, plain_sampling

_LOGITS = 2**22  # made at once on the CPU: 16 MiB in float32, and more are not faster
_LOGITS_ELSEWHERE = 2**26
_BOUND = 0.93  # of memory: estimates are no better
_SHARE = 0.5  # of what is free, where memory is not bounded


@dataclass(frozen=True, slots=True)
class Row:
    """A completion to learn from: ``weight`` multiplies its log-probability in the objective.

    ``count`` is how many equal replies the row stands for, ``prompt`` an index.
    """

    prompt: int
    tokens: tuple[int, ...]
    weight: float
    count: int


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What a step reports.

    ``loss`` is None where the step had nothing to learn from and no gradient was computed,
    ``reward`` where nothing was sampled. ``entropy`` is the policy's at the rows' tokens, their
    mean in nats.
    """

    loss: float | None
    reward: float | None
    kl: float | None
    tokens: int
    entropy: float | None = None


def reply_seeds(examples: Sequence[Example], samples: int, seed: int) -> list[list[int]]:
    """Seeds of each example's sampled replies.

    They depend on the prompts of the whole step, so that its examples are answered alike in
    whatever passes and processes.
    """
    flat = row_seeds(seed, [prompt_key(Prompt.of(example)) for example in examples], samples)
    return [flat[start : start + samples] for start in range(0, len(flat), samples)]


@dataclass(frozen=True)
class Learner:
    """The base model with the adapter in training."""

    model: T2Model
    adapter: Adapter
    options: TrainOptions
    max_tokens: int
    accelerator: Accelerator

    def replies(
        self,
        examples: Sequence[Example],
        *,
        samples: int,
        temperature: float,
        seeds: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Generation]]:
        """``samples`` replies to each example by the model as it is adapted now.

        seeds: of each example's replies, as `reply_seeds` has them; none are needed where
            ``temperature`` is 0.
        """
        prompts = [Prompt.of(example) for example in examples]
        lengths = self._lengths(prompts)
        costs, room = self._planned
        longest = Size(max(lengths), self.max_tokens)
        at_once = costs.replies(longest, samples, room, self.options.rows)
        replies: list[list[Generation]] = []
        with (
            self.adapter.sampled(sum(lengths) + samples * len(prompts) * self.max_tokens),
            plain_sampling(self.model.model),
            autocast(self.accelerator, self.options),
        ):
            options = GenerationOptions(max_tokens=self.max_tokens, temperature=temperature)
            keep = judged_marks(self.model, examples)
            for start in range(0, len(prompts), at_once):
                part = prompts[start : start + at_once]
                own = [one for of in (seeds or ())[start : start + at_once] for one in of]
                flat = self._generate(part, options, samples, keep, own)
                replies += [flat[i * samples : (i + 1) * samples] for i in range(len(part))]
        return replies

    def _generate(
        self,
        prompts: list[Prompt],
        options: GenerationOptions,
        samples: int,
        keep: frozenset[int],
        seeds: Sequence[int],
    ) -> list[Generation]:
        try:
            return generate(self.model, prompts, options, samples=samples, keep=keep, seeds=seeds)
        except RuntimeError as error:
            with torch.no_grad():
                logits = self.model.model(**encode(self.model, prompts[:1])).logits
            if bool(torch.isfinite(logits).all()):
                raise
            raise TrainingError(
                "the adapted model's logits are not finite any more; lower learning_rate (now "
                f"{self.options.learning_rate}), raise kl, or load the base model in float32"
            ) from error

    def backward(
        self,
        examples: Sequence[Example],
        rows: Sequence[Row],
        tokens: int,
        reward: float | None = None,
    ) -> StepFigures:
        """Add the gradient of the loss to the parameters' ``grad``, pass by pass.

        loss = sum over rows of (-weight * log pi(row) + count * kl * KL(row)) / ``tokens``,
        where log pi and KL are sums over the row's tokens. KL is exact over the vocabulary, at the
        states that the row visits; its gradient does not run through the choice of states.
        """
        wanted = sorted({row.prompt for row in rows})
        prompts = {index: Prompt.of(examples[index]) for index in wanted}
        sums = torch.zeros(3, dtype=torch.float64)
        if rows:
            passes = self._passes(prompts, rows)
            with self.adapter.trained(sum(one.tokens for one in passes)):
                for one in passes:
                    part = [rows[number] for number in one.rows]
                    sums += self._run(prompts, part, tokens, again=one.recomputed)
        objective, divergence, entropy = sums.tolist()
        kl = self.options.kl
        return StepFigures(
            (kl * divergence - objective) / tokens,
            reward,
            divergence / tokens if kl > 0 else None,
            tokens,
            entropy / seen if (seen := sum(row.count * len(row.tokens) for row in rows)) else None,
        )

    def _run(
        self, prompts: Mapping[int, Prompt], rows: Sequence[Row], tokens: int, *, again: bool
    ) -> Tensor:
        """One pass; its sums of objective, divergence and entropy."""
        used = sorted({row.prompt for row in rows})
        batch = make_batch(
            self.model,
            [prompts[index] for index in used],
            [(used.index(row.prompt), row.tokens) for row in rows],
            cached=not again,
        )
        base = None
        with autocast(self.accelerator, self.options):
            if self.options.kl > 0:
                with torch.no_grad(), self.adapter.base():
                    base = completion_states(self.model, batch)
            with recomputed(self.model.model) if again else nullcontext():
                states = completion_states(self.model, batch)
                sums, gradient = self._loss(batch, rows, states, base)
                states.backward(gradient / tokens)
        return sums

    def _loss(
        self, batch: Batch, rows: Sequence[Row], states: Tensor, base: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The sums of a pass, and the gradient of kl * divergence - objective by its states.

        The logits are made and left again some tokens at a time: a vocabulary is large.
        """
        device, owner, targets = states.device, batch.rows(), batch.targets()
        weight = torch.tensor([row.weight for row in rows], device=device)[owner]
        count = torch.tensor([float(row.count) for row in rows], device=device)[owner]
        kl, temperature = self.options.kl, self.options.temperature
        sums = torch.zeros(3, dtype=torch.float64)
        gradients: list[Tensor] = []
        for at in torch.arange(len(states), device=device).split(self._chunk):
            some = states[at].detach().requires_grad_()
            with torch.enable_grad():
                logits = logits_of(self.model, some)
            with torch.no_grad():
                logs = torch.log_softmax(logits / temperature, dim=-1)
                probabilities = logs.exp()
                chosen = logs.gather(-1, targets[at, None])[:, 0]
                spread = -(probabilities * logs).sum(-1)
                factor: Tensor = weight[at, None]
                divergence = torch.zeros_like(chosen)
                if base is not None:
                    logs -= torch.log_softmax(logits_of(self.model, base[at]) / temperature, dim=-1)
                    divergence = (probabilities * logs).sum(-1)
                    factor = logs.sub_(divergence[:, None]).mul_(kl * count[at, None]).add_(factor)
                found = probabilities.mul_(factor)
                found.scatter_add_(-1, targets[at, None], -weight[at, None])
                each = (weight[at] * chosen, count[at] * divergence, count[at] * spread)
                sums += torch.stack(each).double().sum(1).cpu()
            gradients += torch.autograd.grad(logits, some, found / temperature)
        return sums, torch.cat(gradients)

    @property
    def _chunk(self) -> int:
        """Tokens whose logits are made at once."""
        most = _LOGITS if self.model.device.type == "cpu" else _LOGITS_ELSEWHERE
        return max(1, most // int(self.model.model.config.get_text_config().vocab_size))

    @functools.cached_property
    def _planned(self) -> tuple[Costs, int]:
        """What passes take, and the bytes that they may; measured before the first.

        Later, what the process has let go of may still be counted as held.
        """
        logits = self._chunk * int(self.model.model.config.get_text_config().vocab_size)
        many = 2**20  # tokens: the way of a large step
        while True:
            with self.adapter.trained(many), autocast(self.accelerator, self.options):
                costs = Costs.measured(self.model, logits)
            room = self._room() - self.adapter.step_bytes(many)
            if costs.roomy(room) or not self.adapter.economise():
                return costs, room

    def _room(self) -> int:
        """Bytes that there are for a step, beside what is held now."""
        device = self.model.device
        if self.options.memory is not None:
            return int(_BOUND * bytes_of(self.options.memory)) - held_bytes(device)
        each = self.accelerator.num_processes if device.type == "cpu" else 1
        return int(free_bytes(device) * _SHARE / each)

    def check(self, examples: Sequence[Example]) -> None:
        """Raise ConfigError where `memory` is too little for the longest of these with a reply."""
        costs, room = self._planned
        lengths = self._lengths([Prompt.of(example) for example in examples])
        costs.cut([[(0, Size(max(lengths), self.max_tokens))]], room, 1)

    def estimate(self, examples: Sequence[Example], reply: int) -> int:
        """Bytes that the process is taken to hold while it learns a reply of that many tokens to
        each example; before anything is learnt."""
        costs, room = self._planned
        held = held_bytes(self.model.device) + self.adapter.step_bytes(2**20)
        lengths = self._lengths([Prompt.of(example) for example in examples])
        groups = [[(number, Size(length, reply))] for number, length in enumerate(lengths)]
        passes = costs.cut(groups, room, self.options.rows)
        return held + max(
            costs.bytes([[groups[row][0][1]] for row in one.rows], again=one.recomputed)
            for one in passes
        )

    def _lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        found: list[int] = encode(self.model, prompts)["attention_mask"].sum(1).tolist()
        return found

    def _passes(self, prompts: Mapping[int, Prompt], rows: Sequence[Row]) -> list[Pass]:
        """The rows, cut into passes."""
        costs, room = self._planned
        lengths = dict(zip(prompts, self._lengths(list(prompts.values())), strict=True))
        groups: dict[int, list[tuple[int, Size]]] = {}
        for number, row in enumerate(rows):
            size = Size(lengths[row.prompt], len(row.tokens))
            groups.setdefault(row.prompt, []).append((number, size))
        return costs.cut(list(groups.values()), room, self.options.rows)
