"""What all training methods share: the replies of the model in training, and its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from t2agent.errors import TrainingError
from t2agent.models.calls import judged_marks
from t2agent.models.generate import Generation, Prompt, encode, generate, prompt_key, row_seeds
from t2agent.models.likelihood import LOGITS_PER_PASS, Batch, completion_logits, make_batch
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from t2agent.tasks.task import Example
from t2agent.train.adapters import Adapter
from t2agent.train.options import TrainOptions
from t2agent.train.setup import autocast, plain_sampling


@dataclass(frozen=True, slots=True)
class Row:
    """A completion to learn from: ``weight`` multiplies its log-probability in the objective.

    ``count`` is how many equal replies the row stands for, ``prompt`` an index, ``length`` the
    tokens of prompt and completion.
    """

    prompt: int
    tokens: tuple[int, ...]
    weight: float
    count: int
    length: int


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


@dataclass(frozen=True, slots=True)
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
        at_once = max(1, self.options.rows // samples)
        replies: list[list[Generation]] = []
        with (
            self.adapter.sampled(),
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
        sums = torch.zeros(3, dtype=torch.float64)
        for part in self._passes(rows):
            used = sorted({row.prompt for row in part})
            prompts = [Prompt.of(examples[index]) for index in used]
            place = {index: position for position, index in enumerate(used)}
            batch = make_batch(
                self.model, prompts, [(place[row.prompt], row.tokens) for row in part]
            )
            loss, figures = self._loss(batch, part)
            self.accelerator.backward(loss / tokens)
            sums += figures
        objective, divergence, entropy = sums.tolist()
        kl = self.options.kl
        return StepFigures(
            (kl * divergence - objective) / tokens,
            reward,
            divergence / tokens if kl > 0 else None,
            tokens,
            entropy / seen if (seen := sum(row.count * len(row.tokens) for row in rows)) else None,
        )

    def _loss(self, batch: Batch, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        device = batch.tokens.device
        owner = batch.rows()
        weight = torch.tensor([row.weight for row in rows], device=device)[owner]
        count = torch.tensor([float(row.count) for row in rows], device=device)[owner]
        with autocast(self.accelerator, self.options):
            base = None
            if self.options.kl > 0:
                with torch.no_grad(), self.adapter.base():
                    logits = completion_logits(self.model, batch)
                    base = torch.log_softmax(logits / self.options.temperature, dim=-1)
            logits = self.adapter.logits(batch)
        log_probs = torch.log_softmax(logits / self.options.temperature, dim=-1)
        chosen = log_probs.gather(-1, batch.targets()[:, None])[:, 0]
        objective = (weight * chosen).sum()
        divergence = torch.zeros((), device=device)
        if base is not None:
            divergence = (count * (log_probs.exp() * (log_probs - base)).sum(-1)).sum()
        entropy = (count * torch.special.entr(log_probs.detach().exp()).sum(-1)).sum()
        figures = torch.stack([objective, divergence, entropy]).detach().double().cpu()
        return self.options.kl * divergence - objective, figures

    def _passes(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Cut rows into passes: rows of like length together, those of one prompt in one pass."""
        vocabulary = self.model.model.config.get_text_config().vocab_size
        groups: dict[int, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.prompt, []).append(row)
        part: list[Row] = []
        for group in sorted(groups.values(), key=lambda g: max(row.length for row in g)):
            both = part + group
            logits = sum(len(row.tokens) for row in both) * vocabulary
            if part and (len(both) > self.options.rows or logits > LOGITS_PER_PASS):
                yield part
                both = group
            part = both
        if part:
            yield part
