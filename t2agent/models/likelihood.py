"""What a model thinks of completions that are already there: their logits, with gradients.

A prompt is run once, however many completions it has: its keys and values are repeated for the
completions, which then run as a second pass. Gradients flow through both. Positions are those of
`generate`: counted from the attention mask by the model's own rule for the prompt, and on from
its last position for the completion. Models whose cache is more than keys and values (recurrent
or compressed states) run prompt and completion in one sequence instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from t2agent.errors import ConfigError
from t2agent.models.decoding import end_token
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode

Forward = Callable[..., Any]

LOGITS_PER_PASS = 2**26
"""Most logits in one pass: 256 MiB in float32, of which a pass holds a few copies."""
_TOKENS_PER_PASS = 2**15


@dataclass(frozen=True, slots=True)
class Batch:
    """n prompts with R completions of at most C tokens, padded on the right.

    ``inputs`` is what `generate.encode` returns for the prompts (P tokens, padded on the left);
    ``positions`` the model's position ids, (..., n, P), or None where it takes none; ``owner``
    (R,) the prompt of each completion; ``tokens`` (R, C) int64; ``mask`` (R, C) bool.
    """

    inputs: dict[str, Any]
    positions: Tensor | None
    owner: Tensor
    tokens: Tensor
    mask: Tensor
    shared: bool

    def targets(self) -> Tensor:
        """The N completion tokens, row after row, without padding; int64."""
        return self.tokens[self.mask]

    def rows(self) -> Tensor:
        """The completion that each of the N tokens belongs to; int64."""
        return self.mask.nonzero()[:, 0]


def make_batch(
    model: T2Model,
    prompts: Sequence[Prompt],
    completions: Sequence[tuple[int, Sequence[int]]],
) -> Batch:
    """Encode prompts with completions: pairs of a prompt's index and the completion's tokens.

    No completion may be empty.
    """
    hf = model.model
    shared = _shareable(hf)
    if not shared:
        prompts = [prompts[index] for index, _ in completions]
        completions = [(row, tokens) for row, (_, tokens) in enumerate(completions)]
    inputs = dict(encode(model, prompts))
    device = inputs["input_ids"].device
    rows = [torch.tensor(tokens) for _, tokens in completions]
    tokens = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
    owner = torch.tensor([index for index, _ in completions])
    return Batch(
        inputs, _positions(hf, inputs), owner.to(device), tokens.to(device), mask.to(device), shared
    )


def completion_logits(model: T2Model, batch: Batch, forward: Forward | None = None) -> Tensor:
    """The logits before each completion token: (N, vocabulary), float32, differentiable.

    ``forward`` runs the Hugging Face model; by default it is called as it is adapted here.
    """
    hf = model.model
    run = _shared if batch.shared else _whole
    return run(hf, forward or hf, batch)[batch.mask].float()


def log_likelihoods(
    model: T2Model, prompts: Sequence[Prompt], completions: Sequence[tuple[int, Sequence[int]]]
) -> Tensor:
    """log p(completion | prompt) of completions as in `make_batch`, in one pass.

    (R,) float32, differentiable. The model is called as it is adapted where this is called; with
    a mixture for each row, each prompt has one completion, in order.
    """
    batch = make_batch(model, prompts, completions)
    logits = completion_logits(model, batch)
    chosen = logits.gather(-1, batch.targets()[:, None])[:, 0] - logits.logsumexp(-1)
    return chosen.new_zeros(len(completions)).index_add(0, batch.rows(), chosen)


def rows_per_pass(model: T2Model, prompt: int, completion: int) -> int:
    """How many completions one pass should hold at most, at least 1.

    prompt, completion: the tokens of the longest ones. Bounds the logits of a pass to 256 MiB in
    float32, and the keys and values to those of some long conversations.
    """
    logits = completion * int(model.model.config.get_text_config().vocab_size)
    return max(1, min(LOGITS_PER_PASS // logits, _TOKENS_PER_PASS // (prompt + completion)))


def answer_tokens(model: T2Model, answer: str) -> tuple[int, ...]:
    """The tokens of an answer with the token that ends a reply.

    A special token's name inside an answer is text, not a control token. Raises ConfigError as
    `end_token`.
    """
    with model.tokenizer_lock:
        ids = model.tokenizer.encode(answer, add_special_tokens=False, split_special_tokens=True)
    return (*ids, end_token(model))


def _shared(hf: PreTrainedModel, forward: Forward, batch: Batch) -> Tensor:
    first = forward(
        **batch.inputs,
        **({} if batch.positions is None else {"position_ids": batch.positions}),
        **_keep(hf, 1),
        past_key_values=DynamicCache(config=hf.config),
        use_cache=True,
    )
    start = first.logits[:, -1:][batch.owner]
    width = batch.tokens.shape[1]
    if width == 1:
        return cast(Tensor, start)
    cache = first.past_key_values
    cache.batch_select_indices(batch.owner)
    attention = batch.inputs["attention_mask"][batch.owner]
    rest = forward(
        input_ids=batch.tokens[:, :-1],
        attention_mask=torch.cat([attention, batch.mask[:, :-1].to(attention.dtype)], dim=1),
        **_later_positions(batch, width - 1),
        past_key_values=cache,
        use_cache=True,
    )
    return torch.cat([start, rest.logits], dim=1)


def _whole(hf: PreTrainedModel, forward: Forward, batch: Batch) -> Tensor:
    inputs = dict(batch.inputs)
    prompt = inputs["input_ids"]
    width = batch.tokens.shape[1]
    extra = batch.tokens[:, :-1]
    for name, value in batch.inputs.items():
        # Marks of each token's kind: the completion's are those of plain text, 0.
        if isinstance(value, Tensor) and value.shape == prompt.shape:
            inputs[name] = torch.cat([value, torch.zeros_like(extra, dtype=value.dtype)], dim=1)
    inputs["input_ids"] = torch.cat([prompt, extra], dim=1)
    attention = batch.inputs["attention_mask"]
    inputs["attention_mask"] = torch.cat([attention, batch.mask[:, :-1].to(attention.dtype)], dim=1)
    if batch.positions is not None:
        later = _later_positions(batch, width - 1)["position_ids"]
        inputs["position_ids"] = torch.cat([batch.positions, later], dim=-1)
    logits: Tensor = forward(**inputs, **_keep(hf, width), use_cache=False).logits
    return logits[:, -width:]


def _keep(hf: PreTrainedModel, count: int) -> dict[str, int]:
    """Ask for the last ``count`` logits only, where the model can be asked."""
    return {"logits_to_keep": count} if "logits_to_keep" in _parameters(hf) else {}


def _later_positions(batch: Batch, count: int) -> dict[str, Tensor]:
    if batch.positions is None:
        return {}
    last = batch.positions[..., -1:].index_select(-2, batch.owner)
    return {"position_ids": last + torch.arange(1, count + 1, device=last.device)}


def _positions(hf: PreTrainedModel, inputs: dict[str, Any]) -> Tensor | None:
    if "position_ids" not in _parameters(hf):
        return None
    # The rule by which `generate` numbers a padded prompt; models with other rules override it.
    number: Callable[..., Tensor] = getattr(hf, "_prepare_position_ids_for_generation")  # noqa: B009
    return number(inputs["input_ids"], inputs)


def _parameters(hf: PreTrainedModel) -> frozenset[str]:
    return frozenset(inspect.signature(hf.forward).parameters)


def _shareable(hf: PreTrainedModel) -> bool:
    """Whether the model's cache is nothing but keys and values."""
    if hf.config.is_encoder_decoder:
        raise ConfigError(
            f"{type(hf).__name__} is an encoder-decoder model; training, and asking the model for "
            "a request's category, need a decoder-only one"
        )
    ordinary: Callable[[], bool] = getattr(hf, "_supports_default_dynamic_cache")  # noqa: B009
    if hf._is_stateful or not ordinary():
        return False
    kinds = {type(layer) for layer in DynamicCache(config=hf.config).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
