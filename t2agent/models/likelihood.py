"""What a model thinks of completions that are already there: their logits, with gradients.

A prompt with several completions is run once: its keys and values are repeated for the
completions, which then run as a second pass. Gradients flow through both. Positions are those of
`generate`: counted from the attention mask by the model's own rule for the prompt, and on from
its last position for the completion. Where each prompt has one completion, where a pass is to be
checkpointed (layers that run again must not write to a cache), and in models whose cache is more
than keys and values (recurrent or compressed states), prompt and completion run as one sequence,
padded on the right, which a causal model need not be told: attention then needs no mask.

The output head is run for the completions' states alone (`completion_states`), and by who wants
the logits (`logits_of`), so that those of a large vocabulary need never exist all at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from t2agent.errors import ConfigError
from t2agent.models.decoding import end_token
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from t2agent.svf.transform import uncompiled

Completion = tuple[int, ...]
"""The tokens of a completion."""

_LOGITS_PER_PASS = 2**26  # 256 MiB in float32, of which a pass holds a few copies
_TOKENS_PER_PASS = 2**15


@dataclass(frozen=True, slots=True)
class Batch:
    """n prompts with R completions of at most C tokens, padded on the right.

    ``inputs`` goes into the model, with ``positions``, its position ids, or None where it takes
    none. Where ``shared``, these are the n prompts as `encode` gives them, padded on the left; else
    R sequences of prompt and completion, padded on the right.
    ``owner`` (R,): the prompt of each completion; ``starts`` (R,): where in its sequence the last
    token of the prompt is; ``tokens`` (R, C) int64; ``mask`` (R, C) bool.
    """

    inputs: dict[str, Any]
    positions: Tensor | None
    owner: Tensor
    starts: Tensor
    tokens: Tensor
    mask: Tensor
    shared: bool

    @classmethod
    def made_up(cls, model: T2Model, prompt: int, completions: int, width: int) -> Batch:
        """Equal tokens, to see what such a batch takes: a prompt with that many completions."""
        hf, device = model.model, model.device
        shared = completions > 1
        length = prompt if shared else prompt + width - 1
        ids = torch.ones(1, length, dtype=torch.int64, device=device)
        inputs = {"input_ids": ids, "attention_mask": ids}
        owner = torch.zeros(completions, dtype=torch.int64, device=device)
        tokens = torch.ones(completions, width, dtype=torch.int64, device=device)
        positions = position_ids(hf, inputs)
        return cls(inputs, positions, owner, owner + prompt - 1, tokens, tokens.bool(), shared)

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
    *,
    cached: bool = True,
) -> Batch:
    """Encode prompts with completions: pairs of a prompt's index and the completion's tokens.

    No completion may be empty. cached: prompts of several completions may be run once.
    """
    hf = model.model
    rows = [torch.tensor(tokens) for _, tokens in completions]
    tokens = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
    owner = torch.tensor([index for index, _ in completions])
    if shareable(hf) and cached and len(completions) > len(owner.unique()):
        inputs = dict(encode(model, prompts))
        starts = torch.full_like(owner, inputs["input_ids"].shape[1] - 1)
        shared = True
    else:
        inputs, starts = _joined(dict(encode(model, [prompts[i] for i in owner.tolist()])), rows)
        shared = False
    device = inputs["input_ids"].device
    owner, starts, tokens, mask = (each.to(device) for each in (owner, starts, tokens, mask))
    return Batch(inputs, position_ids(hf, inputs), owner, starts, tokens, mask, shared)


def completion_states(model: T2Model, batch: Batch) -> Tensor:
    """What the output head makes the logits before each completion token of: (N, d), in the order
    of `Batch.targets`, differentiable. The model is called as it is adapted where this is called.
    """
    hf = model.model
    if not batch.shared:
        states = _states(model, **batch.inputs, **_numbered(batch.positions), use_cache=False)
        row, column = batch.mask.nonzero(as_tuple=True)
        return states[row, batch.starts[row] + column]
    cache = DynamicCache(config=hf.config)
    prompt = _states(
        model,
        **batch.inputs,
        **_numbered(batch.positions),
        **_keep(hf, 1),
        past_key_values=cache,
        use_cache=True,
    )
    states = prompt[:, -1:][batch.owner]
    width = batch.tokens.shape[1]
    if width > 1:
        cache.batch_select_indices(batch.owner)
        attention = batch.inputs["attention_mask"][batch.owner]
        rest = _states(
            model,
            input_ids=batch.tokens[:, :-1],
            attention_mask=torch.cat([attention, batch.mask[:, :-1].to(attention.dtype)], dim=1),
            **_later_positions(batch, width - 1),
            past_key_values=cache,
            use_cache=True,
        )
        states = torch.cat([states, rest], dim=1)
    return states[batch.mask]


def logits_of(model: T2Model, states: Tensor) -> Tensor:
    """The logits of `completion_states`: (N, d) -> (N, vocabulary), float32, differentiable."""
    if not _head_is_all(model):
        return states.float()
    head: nn.Module = model.model.get_output_embeddings()
    logits: Tensor = head(states)
    return logits.float()


def completion_logits(model: T2Model, batch: Batch) -> Tensor:
    """The logits before each completion token: (N, vocabulary), float32, differentiable."""
    return logits_of(model, completion_states(model, batch))


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
    return max(1, min(_LOGITS_PER_PASS // logits, _TOKENS_PER_PASS // (prompt + completion)))


def passes(
    prompts: Sequence[Prompt], completions: Sequence[tuple[int, Completion]], rows: int
) -> Iterator[tuple[list[Prompt], list[tuple[int, Completion]]]]:
    """Completions of `make_batch`, in the order of their prompts, in passes of so many at most."""
    for start in range(0, len(completions), rows):
        part = completions[start : start + rows]
        first, last = part[0][0], part[-1][0]
        numbered = [(prompt - first, tokens) for prompt, tokens in part]
        yield list(prompts[first : last + 1]), numbered


def reply_starts(model: T2Model) -> tuple[str, ...]:
    """What a reply may start with, after the header that the chat template gives it: where this
    leaves it to the reply to start with a space, a text counts with and without one."""
    return model.attached(_reply_starts)


def _reply_starts(model: T2Model) -> tuple[str, ...]:
    last = int(encode(model, [Prompt.user("")])["input_ids"][0, -1])
    tokenizer = model.tokenizer
    closed = last in tokenizer.all_special_ids or tokenizer.decode([last])[-1:].isspace()
    return ("",) if closed else ("", " ")


def answer_tokens(model: T2Model, answer: str) -> Completion:
    """The tokens of an answer with the token that ends a reply.

    A special token's name inside an answer is text, not a control token. Raises ConfigError as
    `end_token`.
    """
    with model.tokenizer_lock:
        ids = model.tokenizer.encode(answer, add_special_tokens=False, split_special_tokens=True)
    return (*ids, end_token(model))


def _joined(inputs: dict[str, Any], completions: Sequence[Tensor]) -> tuple[dict[str, Any], Tensor]:
    """Encoded prompts with a completion each, padded on the right; the last place of each prompt.

    The last token of a completion predicts nothing that is asked for.
    """
    prompt, attention = inputs["input_ids"], inputs["attention_mask"].bool()
    extra = [tokens[:-1].to(prompt.device) for tokens in completions]
    joined = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape[:2] == prompt.shape:
            rows = [row[real] for row, real in zip(value, attention, strict=True)]
            if name == "input_ids":
                tails = extra
            elif value.dim() == 2:  # marks of each token's kind: those of plain text are 0
                tails = [row.new_zeros(len(tail)) for row, tail in zip(rows, extra, strict=True)]
            else:  # what each token sees of the images: what the prompt's last one sees
                tails = [
                    row[-1:].expand(len(tail), *row.shape[1:])
                    for row, tail in zip(rows, extra, strict=True)
                ]
            joined[name] = pad_sequence(
                list(map(torch.cat, zip(rows, tails, strict=True))), batch_first=True
            )
    # Nothing that is asked for comes after the padding: a mask of it would only cost time.
    joined["attention_mask"] = torch.ones_like(joined["input_ids"])
    return joined, attention.sum(1).cpu() - 1


_SEEN: ContextVar[list[Tensor] | None] = ContextVar("t2agent_states", default=None)


@contextmanager
def _head_input(head: nn.Module, scale: float = 1.0) -> Iterator[list[Tensor]]:
    """Inside, what goes into the head here is kept, and the head runs for the last places only.

    scale: multiplies what the head gets of it.
    """

    def keep(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        seen = _SEEN.get()
        if seen is None:  # another thread's pass
            return None
        seen.append(args[0])
        return (args[0][:, -1:].detach() * scale, *args[1:])

    seen: list[Tensor] = []
    token = _SEEN.set(seen)
    handle = head.register_forward_pre_hook(keep)
    try:
        with uncompiled():
            yield seen
    finally:
        handle.remove()
        _SEEN.reset(token)


def _states(model: T2Model, **inputs: Any) -> Tensor:
    """What goes into the model's head, or its logits where these are more than the head's."""
    hf = model.model
    if not _head_is_all(model):
        logits: Tensor = hf(**inputs).logits
        return logits
    with _head_input(hf.get_output_embeddings()) as seen:
        hf(**inputs)
    # Taken out: layers that are to run again hold this context, and so would never be let go of.
    return seen.pop(0)


_HEAD_IS_ALL: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def _head_is_all(model: T2Model) -> bool:
    """Whether the logits are what the head makes of states: some models scale or bound them after.

    Tried with states large enough to reach any bound.
    """
    hf = model.model
    if (known := _HEAD_IS_ALL.get(hf)) is None:
        head: Any = hf.get_output_embeddings()
        known = False
        if head is not None:
            device: Any = hf.get_input_embeddings().weight.device
            one = torch.ones(1, 1, dtype=torch.int64, device=device)
            with model.adapted(None), torch.no_grad(), _head_input(head, 100.0) as seen:
                logits = hf(input_ids=one, attention_mask=one, use_cache=False).logits
            known = len(seen) == 1 and seen[0].shape[:2] == one.shape
            known = known and torch.equal(head(seen[0] * 100.0).float(), logits.float())
        _HEAD_IS_ALL[hf] = known
    return known


def _numbered(positions: Tensor | None) -> dict[str, Tensor]:
    return {} if positions is None else {"position_ids": positions}


def _keep(hf: PreTrainedModel, count: int) -> dict[str, int]:
    """Ask for the last ``count`` logits only, where the model can be asked."""
    return {"logits_to_keep": count} if "logits_to_keep" in _parameters(hf) else {}


def _later_positions(batch: Batch, count: int) -> dict[str, Tensor]:
    if batch.positions is None:
        return {}
    last = batch.positions[..., -1:].index_select(-2, batch.owner)
    return {"position_ids": last + torch.arange(1, count + 1, device=last.device)}


def position_ids(hf: PreTrainedModel, inputs: dict[str, Any]) -> Tensor | None:
    """The positions (..., n, P) of encoded prompts as `generate` numbers them; None for no such."""
    if "position_ids" not in _parameters(hf):
        return None
    # The rule by which `generate` numbers a padded prompt; models with other rules override it.
    number: Callable[..., Tensor] = getattr(hf, "_prepare_position_ids_for_generation")  # noqa: B009
    return number(inputs["input_ids"], inputs)


def _parameters(hf: PreTrainedModel) -> frozenset[str]:
    return frozenset(inspect.signature(hf.forward).parameters)


def shareable(hf: PreTrainedModel) -> bool:
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
