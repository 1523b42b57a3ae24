"""What the trainer needs to know of the thing it trains: the seam between loop and method.

`SvfAdapter`, the z of an expert, is the product's; `t2agent.train.peft.PeftAdapter` are the
baselines that it is compared with. Samples, seeds, validation, checkpoints, early stop and batches
are the same code for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model
from t2agent.svf.layer import shape
from t2agent.svf.merge import WeightSwitch, merge, merge_gradient
from t2agent.train.memory import free_bytes
from t2agent.train.options import TrainOptions
from t2agent.train.setup import chosen_layers


class Adapter(Protocol):
    """Trained parameters on a frozen base model, and how the model runs with them."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Name -> what is trained, float32. Always the same tensors in the same order."""

    @property
    def free(self) -> int:
        """How many numbers training can change: all of the parameters', or fewer."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells it from others in a checkpoint, beyond the options; plain JSON."""

    def prepare(self, progress: bool) -> None:
        """Do what takes long, once, before the first step."""

    def sampled(self, tokens: int) -> AbstractContextManager[object]:
        """Inside, `model.model.generate` is adapted, for about that many tokens. No gradients are
        needed."""

    def trained(self, tokens: int) -> AbstractContextManager[object]:
        """Inside, `model.model` is adapted, and backward passes, of about that many tokens in all,
        reach the parameters: their ``grad`` is whole when it is left."""

    def step_bytes(self, tokens: int) -> int:
        """What a step of about that many tokens keeps while its passes run, beside their own."""

    def economise(self) -> bool:
        """Train in less memory from now on, if slower; False where there is no such way."""

    def base(self) -> AbstractContextManager[object]:
        """Inside, `model.model` is the base model, bit for bit; also inside `trained`."""

    def mask_gradients(self) -> None:
        """Set the gradients of values that must stay as they are to zero."""

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step of the optimizer, which holds the parameters."""


def snapshot(adapter: Adapter) -> dict[str, Tensor]:
    """A copy of the parameters as they are now."""
    return {name: value.detach().clone() for name, value in adapter.parameters.items()}


def restore(adapter: Adapter, values: Mapping[str, Tensor]) -> None:
    """Give the parameters these values, as of a `snapshot`, in place; others stay as they are."""
    with torch.no_grad():
        for name in adapter.parameters.keys() & values.keys():
            adapter.parameters[name].copy_(values[name])


class SvfAdapter:
    """An expert whose ``z`` holds the parameters.

    directions: of each z only the first that many values are free, those of the largest singular
    values; the others keep what they are. None: all are free.
    evenness: of `stretch`, by which the steps of z are multiplied.

    Adapted weights are formed once for all passes under the same z, sampling, training and
    validation alike; each pass adds to the gradient of W', of which that of z is taken at the end.
    Where z has few free directions, the transform around the layers is cheaper: see `forms`.
    """

    def __init__(
        self,
        model: T2Model,
        expert: Expert,
        directions: int | None = None,
        evenness: float = 0.0,
    ) -> None:
        self.model, self.expert = model, expert
        self.directions, self.evenness = directions, evenness
        self._switch = WeightSwitch(model.targets.layers)
        self._economical = False
        self._formed: dict[str, nn.Parameter] = {}
        self._versions: tuple[int, ...] = ()

    @classmethod
    def start(cls, model: T2Model, options: TrainOptions) -> SvfAdapter:
        """z = 1 for the modules of the options, where training starts.

        Raises:
            ConfigError: the options' modules are none of the model's.
        """
        ones = Expert.identity(model, "in-training")
        z = {
            name: nn.Parameter(ones.z[name].to(model.device))
            for name in chosen_layers(model, options.modules)
        }
        return cls(model, Expert(ones.card, z), options.directions, options.evenness)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Module name -> z."""
        return cast(Mapping[str, nn.Parameter], self.expert.z)

    @property
    def free(self) -> int:
        """How many values of all z are free."""
        return sum(len(z[: self.directions]) for z in self.expert.z.values())

    @property
    def identity(self) -> Mapping[str, Any]:
        """The options say all."""
        return {}

    def prepare(self, progress: bool) -> None:
        """Decompose the base model."""
        self.model.decompose(progress=progress)

    @contextmanager
    def sampled(self, tokens: int) -> Iterator[None]:
        """The expert, written into the weights where that is cheaper."""
        if self.forms(tokens, training=False):
            with self._owned(), self._switch.use(dict(self._weights())):
                yield
        else:
            with self.model.adapted(self.expert, columns=self._columns()):
                yield

    @contextmanager
    def trained(self, tokens: int) -> Iterator[None]:
        """As `Adapter.trained`."""
        if not self.forms(tokens, training=True):
            self._formed.clear()
            with self.model.adapted(self.expert, columns=self._columns()):
                yield
            return
        sums: dict[str, Tensor] = {}
        with self._owned():
            weights = self._weights()
            with ExitStack() as after, self._switch.use(dict(weights)):
                for name, weight in weights.items():
                    after.callback(weight.requires_grad_, False)
                    weight.requires_grad_(True)
                    add = weight.register_post_accumulate_grad_hook(partial(_add, sums, name))
                    after.callback(add.remove)
                yield
            with torch.autocast(self.model.device.type, enabled=False):
                for name in list(sums):
                    layer, basis = self.model.targets.layers[name], self.model.bases[name]
                    z = self.parameters[name]
                    found = merge_gradient(layer, basis, sums.pop(name), self.directions).to(z)
                    z.grad = found if z.grad is None else z.grad + found

    def economise(self) -> bool:
        """By the transform around the layers."""
        before, self._economical = self._economical, True
        self._formed.clear()
        return not before and merges(self.model)

    def step_bytes(self, tokens: int) -> int:
        """The sum of the gradients by formed weights, in float32."""
        if not self.forms(tokens, training=True):
            return 0
        return 4 * sum(weight.numel() for weight in self._weights().values())

    @contextmanager
    def base(self) -> Iterator[None]:
        """No expert."""
        with self.model.adapted(None), self._switch.use({}):
            yield

    def mask_gradients(self) -> None:
        """Adam leaves a value whose gradient has always been zero exactly as it is."""
        if self.directions is None:
            return
        for z in self.expert.z.values():
            if z.grad is not None:
                z.grad[self.directions :] = 0.0

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """As `Adapter.update`. Adam's steps do not depend on the gradient's size, so a longer step
        is what training z / `stretch` would be."""
        before = snapshot(self) if self.evenness else {}
        optimizer.step()
        for name, old in before.items():
            z = self.expert.z[name]
            factor = stretch(self.model.bases[name].s, self.evenness).to(z.device)
            z.copy_(torch.lerp(old, z, factor))

    def forms(self, tokens: int, *, training: bool) -> bool:
        """Whether passes over that many tokens are cheaper with adapted weights, forming them
        included, than with the transform around the layers, by their multiplications.

        For a layer of r and w features, r <= w, and k directions: forming takes about r r (w + r),
        or 2 r k w; a token 2 r k more by the transform. In training, it takes as many again
        backward, while adapted weights need their own gradient: r w for each token, and as much
        as forming once. Weights that are formed already count as if they were not, so that a run
        that was resumed goes the same way.
        """
        if not merges(self.model) or (training and self._economical):
            return False
        formed = transformed = 0.0
        columns = self._columns()
        for name, z in self.expert.z.items():
            r, w = sorted(shape(self.model.targets.layers[name]))
            k = len(z[:columns])
            once = min(r * r * (w + r), 2 * r * k * w)
            formed += once + (once + tokens * r * w if training else 0)
            transformed += tokens * 2 * r * k * (2 if training else 1)
        return formed <= transformed

    def _columns(self) -> int | None:
        """How many directions of a layer are changed, where these are fewer than all."""
        k = self.directions
        if k is None or any(bool((z[k:] != 1).any()) for z in self.expert.z.values()):
            return None
        return k

    def _owned(self) -> AbstractContextManager[T2Model]:
        """The model with nothing merged, so that forward passes of other threads wait."""
        return self.model.merged(None)

    def _current(self) -> bool:
        """Whether the weights of the z that there is now are formed."""
        return bool(self._formed) and self._versions == self._read()

    def _read(self) -> tuple[int, ...]:
        return tuple(z._version for z in self.expert.z.values())

    def _weights(self) -> dict[str, nn.Parameter]:
        """Module name -> W' for the z that there is now."""
        if not self._current():
            self._formed.clear()
            layers, bases = self.model.targets.layers, self.model.bases
            with torch.autocast(self.model.device.type, enabled=False):
                for name, z in self.expert.z.items():
                    self._formed[name] = merge(layers[name], bases[name], z.detach() - 1)
            self._versions = self._read()
        return self._formed


def _add(sums: dict[str, Tensor], name: str, weight: Tensor) -> None:
    """Take a pass's gradient of a weight: several are summed in float32 at least."""
    gradient, weight.grad = weight.grad, None
    if gradient is None:
        return
    if (total := sums.get(name)) is None:
        sums[name] = gradient
    else:
        sums[name] = total.to(torch.promote_types(total.dtype, torch.float32)).add_(gradient)


_MOST_STRETCH = 10.0


def stretch(s: Tensor, evenness: float) -> Tensor:
    """By how much more the z of each direction moves, (r,) float32: (mean s / s)^evenness.

    A step of z_i moves the weight by s_i u_i v_i^T: most along its largest directions, which carry
    what the base model knows best. Reinforcement learning moves weights off these (arXiv
    2511.08567). No factor is above 10, since the smallest singular values are rounding.

    s: (r,) singular values.
    """
    least = torch.finfo(torch.float32).tiny
    values = s.float().clamp_min(least)
    return (values.mean() / values).pow(evenness).clamp_max(_MOST_STRETCH)


def merges(model: T2Model) -> bool:
    """Whether adapted weights may be formed: they can be written, and fit beside the model."""
    layers: Any = model.targets.layers.values()
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    return model.writable and size <= free_bytes(model.device) / 2
