"""An expert in training as a Hugging Face model, for other trainers such as TRL's.

    module = AdaptedModule.of(T2Model.from_pretrained("t2-nano"), "sums")
    SFTTrainer(module, args=..., train_dataset=..., processing_class=...).train()
    expert = module.to_expert(examples=["What is 2 + 3?"])

The module is a copy of the base model's structure around the very same weights, of a class made of
the base model's own and `AdaptedModule`, as FSDP makes its classes. Its layers add the transform of
`t2agent.svf.transform` to their outputs or inputs, by hooks that stay. So whatever calls a part of
it (TRL calls the backbone without the head) calls the adapted model, in the backward pass of
gradient checkpointing too, and the `T2Model` beside it stays the base model.

The trained parameters are z - 1 of each layer, which begin at 0: weight decay pulls them to the
base model, as it should.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from t2agent.errors import ConfigError
from t2agent.experts.card import check_name
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import contents
from t2agent.files import write_bytes
from t2agent.models.model import T2Model
from t2agent.models.options import Count, check_option
from t2agent.svf.basis import Basis
from t2agent.train.setup import chosen_layers

WEIGHTS_FILE = "model.safetensors"
"""Where trainers look for the parameters when they resume; a registry passes it over."""

_PARAMETER = "t2agent_delta"  # of each adapted layer: z - 1, (k,) float32


class AdaptedModule(PreTrainedModel):
    """A base model whose only parameters with gradients are those of an expert; made by `of`."""

    t2model: T2Model
    card: ExpertCard
    lengths: dict[str, int]

    @classmethod
    def of(
        cls,
        model: T2Model,
        name: str,
        *,
        modules: str = "all",
        directions: int | None = None,
        start: Expert | None = None,
        **card: Any,
    ) -> AdaptedModule:
        """The base model with an expert that can be trained, z = 1 where nothing else is said.

        It can be trained on the device that the base model is on, or is moved with it by `to`. Its
        weights are the base model's own, so `T2Model.merged` must not be inside meanwhile;
        `T2Model.adapted` may.

        Args:
            model: the base model; it stays as it is, bit for bit.
            name: the expert's.
            modules, directions: which layers and how many values of each z are trained, as in
                `TrainOptions`.
            start: an expert of this base model to go on from; its z beyond ``modules`` and
                ``directions`` are not taken over.
            card: fields of the expert's `ExpertCard`, such as ``examples``.

        Raises:
            ConfigError: ``modules`` names no layer, or a value cannot be used.
            ExpertMismatchError: ``start`` is for another base model.
        """
        if directions is not None:
            check_option("directions", directions, Count)
        if start is not None:
            model.registry.check(start)
        names = chosen_layers(model, modules)
        base = {"base": model.name, "base_fingerprint": model.fingerprint}
        told = ExpertCard(check_name(name), **{**base, **card})
        weights = (*model.model.parameters(), *model.model.buffers())
        twin = copy.deepcopy(model.model, {id(weight): weight for weight in weights})
        own = type(twin)
        # The name stays: transformers goes by the names of classes.
        twin.__class__ = type(own.__name__, (cls, own), {"config_class": own.config_class})
        module = cast(AdaptedModule, twin)
        module.t2model, module.card = model, told
        module.lengths = {layer: model.shapes[layer] for layer in names}
        for layer in names:
            basis = model.bases[layer]
            begin = None if start is None else start.z.get(layer)
            delta = torch.zeros(basis.size) if begin is None else begin.detach().cpu() - 1
            device = basis.q.device
            adapt(module.get_submodule(layer), basis, delta[:directions].to(device, torch.float32))
        return module

    def z(self) -> dict[str, Tensor]:
        """A copy of the z vectors as they are now: module name -> (r,) float32, on the CPU."""
        found = {}
        for name, length in self.lengths.items():
            delta = getattr(self.get_submodule(name), _PARAMETER).detach().float().cpu()
            found[name] = torch.cat([1 + delta, torch.ones(length - len(delta))])
        return found

    def to_expert(self, **card: Any) -> Expert:
        """The expert as it is now. ``card``: fields of its card that are others than given to `of`,
        such as ``scores``.

        Raises ConfigError for what cannot be on a card.
        """
        free = sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
        training = {"method": "module", "parameters": free, **self.card.training}
        changes = {"training": training, **card}
        return Expert(dataclasses.replace(self.card, **changes), self.z())

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        **_options: Any,
    ) -> None:
        """Write the expert into a folder, whatever else is there: `T2Model.registry` loads it, and
        trainers resume from it. ``state_dict``: as trainers gather it; else the module's own.

        Raises ExpertFormatError where a vector holds NaN or infinity.
        """
        if not is_main_process:
            return
        expert = self.to_expert()
        expert.check_finite()
        folder = Path(save_directory)
        values = self.state_dict() if state_dict is None else state_dict
        plain = {name: value.detach().cpu().contiguous() for name, value in values.items()}
        files = {WEIGHTS_FILE: save(plain, metadata={"format": "pt"})}
        for name, content in (files | contents(expert.card, expert.z)).items():
            write_bytes(folder / name, content)

    def state_dict(  # type: ignore[override]
        self, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """The trained parameters alone."""
        found: dict[str, Any] = super().state_dict(*args, **options)
        for name in [name for name in found if not name.endswith(_PARAMETER)]:
            del found[name]
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take over the parameters of `state_dict`; the base model's are not among them."""
        found = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [name for name in found.missing_keys if name.endswith(_PARAMETER)]
        if strict and (missing or found.unexpected_keys):
            raise ConfigError(
                f"these are not the parameters of this module: {len(missing)} are missing "
                f"{missing[:2]}, {len(found.unexpected_keys)} are not its own "
                f"{found.unexpected_keys[:2]}; give modules and directions as they were then"
            )
        return type(found)(missing, found.unexpected_keys)

    def to(  # type: ignore[override]
        self, *args: Any, **options: Any
    ) -> AdaptedModule:
        """Move the module, and the base model with it, to a device.

        Raises ConfigError for another dtype: the weights are the base model's.
        """
        if any(isinstance(value, torch.dtype) for value in (*args, *options.values())):
            raise ConfigError(
                "an AdaptedModule has its base model's dtype; load that with another, or train in "
                "mixed precision (bf16=True)"
            )
        super().to(*args, **options)
        self.t2model.model.to(*args, **options)
        return self


def adapt(layer: nn.Module, basis: Basis, delta: Tensor) -> None:
    """Give a layer the parameter z - 1 of its first directions, which it is adapted by from now on.

    delta: (k,) float32, k up to the basis's size.
    """
    layer.register_parameter(_PARAMETER, nn.Parameter(delta))
    placed: dict[Any, tuple[Tensor, Tensor | None]] = {}
    if basis.side == "in":
        layer.register_forward_pre_hook(partial(_before, basis, placed))
    else:
        layer.register_forward_hook(partial(_after, basis, placed))


def _before(basis: Basis, placed: Any, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_transformed(basis, placed, layer, args[0]), *args[1:])


def _after(basis: Basis, placed: Any, layer: nn.Module, _args: object, output: Tensor) -> Tensor:
    return _transformed(basis, placed, layer, output)


def _transformed(basis: Basis, placed: Any, layer: nn.Module, x: Tensor) -> Tensor:
    """x + Q(delta * (Q^T x - offset)), x of (..., r), with the columns of Q that delta is for."""
    delta: Tensor = getattr(layer, _PARAMETER)
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    if (x.device, dtype) not in placed:
        with torch.inference_mode(False):  # it is kept, and may meet gradients later
            q = basis.q[:, : len(delta)].to(x.device, dtype)
            offset = basis.offset
            if offset is not None:
                offset = -offset[: len(delta)].to(x.device, dtype)
        placed[x.device, dtype] = q, offset
    q, offset = placed[x.device, dtype]
    flat = x.to(dtype).reshape(-1, q.shape[0])
    inner = flat @ q if offset is None else torch.addmm(offset, flat, q)
    changed = torch.addmm(flat, inner * delta.to(dtype), q.mT)
    return changed.view(x.shape).to(x.dtype)
