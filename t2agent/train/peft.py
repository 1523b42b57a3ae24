"""Adapters of PEFT on a base model, as an `Adapter` of the trainer: LoRA and (IA)^3.

PEFT puts its layers into the model for good. Here they lie beside it: they are injected once, the
model's own modules are put back at once, and the layers stand in their places only inside a
context. While sampling, PEFT's merge runs on stand-ins of the parameters instead, and the kept
parameters come back after: nothing is unmerged by arithmetic, and the base is never written.

Sources: LoRA, arXiv 2106.09685; (IA)^3, arXiv 2205.05638; PEFT (`peft.tuners`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError
from t2agent.models.likelihood import Batch, completion_logits
from t2agent.models.model import T2Model
from t2agent.svf import layer
from t2agent.svf.eager import uncompiled
from t2agent.train.policy import merges
from t2agent.train.selection import chosen_layers

if TYPE_CHECKING:
    from peft import PeftConfig

Kind = Literal["lora", "ia3"]
KINDS: tuple[str, ...] = ("lora", "ia3")

_NAME = "default"  # PEFT's own name of an only adapter


class PeftAdapter:
    """A fresh adapter, which changes nothing yet, on the layers that a `T2Model` adapts.

    kind: "lora", W + 2 B A (lora_alpha = 2 * rank, no dropout, A as PEFT draws it, B = 0); or
        "ia3", a factor, first 1, for each output of a layer, and for each input of the layers that
        lead out of the MLP.
    rank: of "lora"; None for "ia3".
    modules: which of the layers, as `TrainOptions.modules`.
    seed: of A.

    Raises:
        ConfigError: an unknown kind, a rank that does not fit, or the model cannot take PEFT's
            layers.
    """

    def __init__(
        self,
        model: T2Model,
        kind: Kind,
        rank: int | None = None,
        *,
        modules: str = "all",
        seed: int = 0,
    ) -> None:
        check_kind(kind, rank)
        self.model, self.kind, self.rank, self.modules = model, kind, rank, modules
        names = chosen_layers(model, modules)
        self.config = _config(model, rank, names)
        self._layers = _injected(model, self.config, names, seed)
        parameters = {}
        for name, wrapper in self._layers.items():
            for own, parameter in wrapper.named_parameters():
                if not own.startswith("base_layer."):
                    parameter.data = parameter.data.float()
                    parameters[f"{name}.{own}"] = parameter
        self._parameters = MappingProxyType(parameters)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """PEFT's names, such as "model.layers.0.mlp.up_proj.lora_A.default.weight"."""
        return self._parameters

    @property
    def free(self) -> int:
        """Rank times out + in features of every layer; for (IA)^3, the factors."""
        return sum(value.numel() for value in self._parameters.values())

    @property
    def identity(self) -> Mapping[str, Any]:
        """Kind and rank."""
        return {"adapter": self.kind, "rank": self.rank}

    def prepare(self, progress: bool) -> None:
        """Nothing takes long."""

    def sampled(self) -> AbstractContextManager[object]:
        """Merged where SVF merges: on t2-nano a seventh of the sampling time less for LoRA."""
        return self.merged() if merges(self.model) else self.wrapped()

    def logits(self, batch: Batch) -> Tensor:
        """As `Adapter.logits`, through PEFT's own forward pass."""
        with self.wrapped():
            return completion_logits(self.model, batch)

    def base(self) -> AbstractContextManager[object]:
        """The model's own modules: PEFT's layers are not there."""
        return self.model.adapted(None)

    def mask_gradients(self) -> None:
        """All values are free."""

    @contextmanager
    def wrapped(self) -> Iterator[None]:
        """PEFT's layers stand in the model while inside; other threads' passes wait."""
        with self.model.merged(None), uncompiled():
            hf = self.model.model
            parents = {n: hf.get_submodule(n.rpartition(".")[0]) for n in self._layers}
            before = {n: parents[n]._modules[n.rpartition(".")[2]] for n in self._layers}
            try:
                self._put(parents, self._layers)
                yield
            finally:
                self._put(parents, before)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """The adapter is merged into the model's layers while inside; other passes wait.

        Raises:
            ConfigError: the merged weights are not finite.
        """
        with self.model.merged(None):
            kept = {name: dict(_base(wrapper)._parameters) for name, wrapper in self._each()}
            try:
                for name, wrapper in self._each():
                    _merge(name, wrapper)
                yield
            finally:
                for name, wrapper in self._each():
                    _base(wrapper)._parameters.update(kept[name])
                    wrapper.merged_adapters.clear()

    def _each(self) -> Iterator[tuple[str, Any]]:
        yield from self._layers.items()

    def _put(
        self, parents: Mapping[str, nn.Module], modules: Mapping[str, nn.Module | None]
    ) -> None:
        for name, module in modules.items():
            parents[name]._modules[name.rpartition(".")[2]] = module


def check_kind(kind: str, rank: int | None) -> None:
    """Raise ConfigError for an unknown kind, or a rank that does not fit it."""
    if kind not in KINDS:
        raise ConfigError(f"got the kind {kind!r}; needed one of {', '.join(KINDS)}")
    if kind == "ia3":
        if rank is not None:
            raise ConfigError(f"rank is {rank!r}, but 'ia3' has none; leave it out")
    elif not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ConfigError(f"rank is {rank!r}; it must be a whole number >= 1")


def _config(model: T2Model, rank: int | None, names: tuple[str, ...]) -> PeftConfig:
    from peft import IA3Config, LoraConfig

    transposed = isinstance(model.targets.layers[names[0]], Conv1D)
    if rank is None:  # "ia3", by `check_kind`
        return IA3Config(
            target_modules=list(names),
            feedforward_modules=_feedforward(model, names),
            fan_in_fan_out=transposed,
        )
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=list(names),
        fan_in_fan_out=transposed,
    )


def _feedforward(model: T2Model, names: tuple[str, ...]) -> list[str]:
    """The layers that lead out of an MLP: (IA)^3 scales the activations that go in there.

    They have more inputs than outputs. A layer is told from attention's as `TrainOptions.modules`
    tells them; a model that has no MLP of its own name has no such layer.
    """
    try:
        mlp = chosen_layers(model, "mlp")
    except ConfigError:
        return []
    shapes = {n: layer.shape(model.targets.layers[n]) for n in names if n in mlp}
    return [name for name, shape in shapes.items() if shape.m < shape.n]


def _injected(
    model: T2Model, config: PeftConfig, names: tuple[str, ...], seed: int
) -> dict[str, nn.Module]:
    """PEFT's layers by name; the model has its own modules again."""
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    hf: Any = model.model
    if hasattr(hf, "peft_config"):
        raise ConfigError(
            f"{model.name} holds PEFT adapters already; merge_and_unload() them before it becomes "
            "a T2Model"
        )
    with model.merged(None), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = [(module, dict(module._modules)) for module in hf.modules()]
        trained = [(parameter, parameter.requires_grad) for parameter in hf.parameters()]
        try:
            inject_adapter_in_model(config, hf, _NAME)
            found = {
                name: module
                for name, module in hf.named_modules()
                if isinstance(module, nn.Module) and isinstance(module, BaseTunerLayer)
            }
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"PEFT cannot adapt {model.name}: {error}; restrict `modules` to other layers"
            ) from error
        finally:
            for module, children in modules:
                module._modules.clear()
                module._modules.update(children)
            for parameter, needed in trained:
                parameter.requires_grad_(needed)
            vars(hf).pop("peft_config", None)
    if set(found) != set(names):
        raise ConfigError(
            f"PEFT adapts other layers than T2Model: {sorted(set(found) ^ set(names))[:4]}; "
            "restrict `modules` to layers that both know"
        )
    return {name: found[name].eval() for name in names}


def _base(wrapper: Any) -> nn.Module:
    base: nn.Module = wrapper.get_base_layer()
    return base


def _merge(name: str, wrapper: Any) -> None:
    """PEFT's merge of one layer, into parameters that stand in for the layer's own."""
    parameters = _base(wrapper)._parameters
    with torch.inference_mode(False), torch.no_grad():
        for own, value in parameters.items():
            if value is not None:
                parameters[own] = nn.Parameter(value.detach(), requires_grad=False)
        try:
            wrapper.merge(safe_merge=True)  # into a copy, which becomes the stand-in's data
        except ValueError as error:
            raise ConfigError(
                f"the adapted weight of {name} is not finite; lower learning_rate"
            ) from error
