"""Adapters of PEFT on a base model, as an `Adapter` of the trainer: LoRA, (IA)^3 and others.

PEFT puts its layers into the model for good. Here they lie beside it: they are injected once, the
model's own modules are put back at once, and the layers stand in their places only inside a
context. While sampling, PEFT's merge runs on stand-ins of the parameters instead, and the kept
parameters come back after: nothing is unmerged by arithmetic, and the base is never written.

Sources: LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353; VeRA, arXiv 2310.11454; TinyLoRA, arXiv
2602.04118; MiSS, arXiv 2409.15371; RoAd, arXiv 2409.00119; (IA)^3, arXiv 2205.05638; PEFT
(`peft.tuners`).

Baselines by PEFT, trained by the product's own trainer: what SVF is compared with.

    adapted = train_adapter(model, task, kind="lora", rank=8, method="reinforce")
    with adapted.active():
        accuracy(model, task, examples)

Samples, seeds, validation, checkpoints, early stop and batches are those of `train_expert`.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from t2agent.errors import ConfigError, ExpertFormatError, ExpertMismatchError
from t2agent.files import replace_folder, write_bytes, write_text
from t2agent.models.exchange.peft_export import PREFIX, WEIGHTS_FILE
from t2agent.models.model import T2Model
from t2agent.models.options import Count, check_option
from t2agent.svf.layer import shape
from t2agent.svf.transform import uncompiled
from t2agent.tasks.task import Task
from t2agent.train.adapters import merges, restore
from t2agent.train.choosing import chosen_course
from t2agent.train.course import STEPS, check_course
from t2agent.train.options import Method, TrainOptions
from t2agent.train.run import Run
from t2agent.train.setup import chosen_layers, frozen_base
from t2agent.train.signals import NoSignal

if TYPE_CHECKING:
    from peft import PeftConfig

Kind = Literal["lora", "dora", "vera", "tinylora", "miss", "road", "ia3"]
KINDS: tuple[str, ...] = get_args(Kind)
_WITHOUT_RANK = ("road", "ia3")

_NAME = "default"  # PEFT's own name of an only adapter


class PeftAdapter:
    """A fresh adapter, which changes nothing yet, on the layers that a `T2Model` adapts.

    kind: "lora", W + 2 B A (lora_alpha = 2 * rank, no dropout, A as PEFT draws it, B = 0); "dora",
        the same with a length for each output; "vera", two vectors around random matrices that all
        layers share; "tinylora", rank^2 factors of random matrices between the layer's first
        singular vectors; "miss", one block for all shards of a layer's inputs; "road", rotations
        and lengths of pairs of outputs; or "ia3", a factor, first 1, for each output of a layer,
        and for each input of the layers that lead out of the MLP.
    rank: None for "road" and "ia3".
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
        self.config = _config(model, kind, rank, names)
        self._layers = _injected(model, self.config, names, seed)
        parameters: dict[str, nn.Parameter] = {}
        seen: set[int] = set()  # TinyLoRA's layers share a module that holds the vectors of all
        for name, wrapper in self._layers.items():
            for own, parameter in wrapper.named_parameters():
                if not own.startswith("base_layer.") and id(parameter) not in seen:
                    seen.add(id(parameter))
                    parameter.data = parameter.data.float()
                    parameters[f"{name}.{own}"] = parameter
        # By PEFT's names, such as "model.layers.0.mlp.up_proj.lora_A.default.weight".
        self.parameters: Mapping[str, nn.Parameter] = MappingProxyType(parameters)
        self.free: int = sum(value.numel() for value in parameters.values())
        self.identity = {"adapter": kind, "rank": rank}

    def prepare(self, progress: bool) -> None:
        """Nothing takes long."""

    def sampled(self, tokens: int) -> AbstractContextManager[object]:  # noqa: ARG002
        """Merged where SVF merges: on t2-nano a seventh of the sampling time less for LoRA."""
        return self.merged() if merges(self.model) else self.wrapped()

    def trained(self, tokens: int) -> AbstractContextManager[object]:  # noqa: ARG002
        """PEFT's own forward pass, however many tokens."""
        return self.wrapped()

    def economise(self) -> bool:
        """There is one way."""
        return False

    def step_bytes(self, tokens: int) -> int:  # noqa: ARG002
        """Nothing but the passes' own."""
        return 0

    @contextmanager
    def base(self) -> Iterator[None]:
        """The model's own modules: PEFT's layers are not there."""
        own = {name: wrapper.get_base_layer() for name, wrapper in self._layers.items()}
        with self.model.adapted(None), self._standing(own):
            yield

    def mask_gradients(self) -> None:
        """All values are free."""

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """As `Adapter.update`."""
        optimizer.step()

    @contextmanager
    def wrapped(self) -> Iterator[None]:
        """PEFT's layers stand in the model while inside; other threads' passes wait."""
        with self.model.merged(None), uncompiled(), self._standing(self._layers):
            yield

    @contextmanager
    def _standing(self, layers: Mapping[str, nn.Module]) -> Iterator[None]:
        """These stand in the layers' places while inside."""
        hf = self.model.model
        before = {name: hf.get_submodule(name) for name in layers}
        try:
            for name, layer in layers.items():
                hf.set_submodule(name, layer)
            yield
        finally:
            for name, layer in before.items():
                hf.set_submodule(name, layer)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """The adapter is merged into the model's layers while inside; other passes wait.

        Raises:
            ConfigError: the merged weights are not finite.
        """
        with self.model.merged(None):
            kept = {n: dict(w.get_base_layer()._parameters) for n, w in self._layers.items()}
            try:
                for name, wrapper in self._layers.items():
                    _merge(name, wrapper)
                yield
            finally:
                for name, wrapper in self._layers.items():
                    wrapper.get_base_layer()._parameters.update(kept[name])
                    wrapper.merged_adapters.clear()


def check_kind(kind: str, rank: int | None) -> None:
    """Raise ConfigError for an unknown kind, or a rank that does not fit it."""
    if kind not in KINDS:
        raise ConfigError(f"got the kind {kind!r}; needed one of {', '.join(KINDS)}")
    if kind in _WITHOUT_RANK:
        if rank is not None:
            raise ConfigError(f"rank is {rank!r}, but {kind!r} has none; leave it out")
    else:
        check_option("rank", rank, Count)


def _config(model: T2Model, kind: Kind, rank: int | None, names: tuple[str, ...]) -> PeftConfig:
    import peft

    layers = [model.targets.layers[name] for name in names]
    usual: dict[str, Any] = {"target_modules": list(names)}
    ranked: dict[str, Any] = {"r": rank, **usual}
    turned: dict[str, Any] = {"fan_in_fan_out": isinstance(layers[0], Conv1D)}
    with warnings.catch_warnings():
        # What PEFT says of matrices that are drawn anew, from the same seed, where they are loaded.
        warnings.simplefilter("ignore")
        match kind:
            case "lora" | "dora":
                scaled: dict[str, Any] = {"lora_alpha": 2 * (rank or 0), "lora_dropout": 0.0}
                return peft.LoraConfig(**ranked, **turned, **scaled, use_dora=kind == "dora")
            case "vera":
                return peft.VeraConfig(**ranked, **turned, save_projection=False)
            case "tinylora":
                count = (rank or 0) ** 2
                return peft.TinyLoraConfig(**ranked, **turned, u=count, save_projection=False)
            case "miss":
                return peft.MissConfig(**ranked)
            case "road":
                group = math.gcd(64, *(shape(layer).m for layer in layers))
                return peft.RoadConfig(**usual, group_size=group)
            case "ia3":
                return peft.IA3Config(
                    **usual, **turned, feedforward_modules=_feedforward(model, names)
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
    shapes = {n: shape(model.targets.layers[n]) for n in names if n in mlp}
    return [name for name, (m, n) in shapes.items() if m < n]


def _injected(
    model: T2Model, config: PeftConfig, names: tuple[str, ...], seed: int
) -> dict[str, Any]:
    """PEFT's layers by name; the model has its own modules again."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
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
            # `inject_adapter_in_model` refuses kinds that keep something beside the layers.
            PEFT_TYPE_TO_TUNER_MAPPING[PeftType(config.peft_type)](hf, config, _NAME)
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


def _merge(name: str, wrapper: Any) -> None:
    """PEFT's merge of one layer, into parameters that stand in for the layer's own."""
    parameters = wrapper.get_base_layer()._parameters
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


RECORD = "training.json"

_RATES: Mapping[str, float] = {"lora": 0.002, "dora": 0.002, "miss": 0.002}
_RATE = 0.02  # of the other kinds, which have no matrices to learn


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A trained PEFT adapter on its base model.

    ``training`` is how it was trained, as on an expert's card, with ``adapter`` (its kind) and
    ``rank``; ``scores`` are the mean rewards ``val`` and, of the base model, ``val_base``.
    """

    model: T2Model
    adapter: PeftAdapter
    training: Mapping[str, Any]
    scores: Mapping[str, float]

    def __repr__(self) -> str:
        rank = "" if self.adapter.rank is None else f" r{self.adapter.rank}"
        return f"Adapted({self.adapter.kind}{rank}, {self.parameters:,} parameters)"

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return self.adapter.free

    @contextmanager
    def active(self, *, merged: bool | None = None) -> Iterator[T2Model]:
        """`model.model` runs with the adapter while inside, and `generate` with it.

        The context owns the model, as `T2Model.merged` does. Inside, `model.adapted(None)` changes
        nothing: what measures the base model measures the adapter.

        merged: the adapter is merged into the weights while inside (faster), or runs beside them;
            None merges where the trainer does.
        """
        model = self.model
        if merged is None:
            merged = merges(model)
        if merged:
            model.decompose(progress=False)  # never from the merged weights
        with self.adapter.merged() if merged else self.adapter.wrapped():
            yield model

    def save(self, folder: Path | str) -> None:
        """Write a folder that `load_adapter` and `peft.PeftModel.from_pretrained` read.

        It holds PEFT's adapter_config.json and adapter_model.safetensors, and training.json.
        """
        tensors = {
            _stored_name(name): value.detach().cpu().contiguous()
            for name, value in self.adapter.parameters.items()
        }
        record = {
            "base": self.model.name,
            "base_fingerprint": self.model.fingerprint,
            "modules": self.adapter.modules,
            "training": dict(self.training),
            "scores": dict(self.scores),
        }
        with replace_folder(folder) as new:
            self.adapter.config.save_pretrained(str(new))
            write_bytes(new / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
            write_text(new / RECORD, json.dumps(record, indent=2) + "\n")


def train_adapter(
    model: T2Model,
    task: Task,
    *,
    kind: Kind = "lora",
    rank: int | None = None,
    method: Method = "reinforce",
    steps: int = STEPS,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    progress: bool = True,
    no_signal: NoSignal = "error",
    **hyper: Any,
) -> Adapted:
    """Train a PEFT adapter for a task; the base model stays as it is, bit for bit.

    The other arguments are those of `train_expert`, and with the same seed so are the examples of
    every step and of validation.

    Args:
        model: any base model whose weights can be read by PEFT.
        kind: one of `KINDS`, as `PeftAdapter` describes them.
        rank: of "lora", 8 if not given; other kinds than "road" and "ia3" need one.
        seed: of all draws, LoRA's first A among them.
        hyper: fields of `TrainOptions`. Adam's rate is by default 0.002 for "lora", "dora" and
            "miss", 0.02 for the others.

    Raises:
        ConfigError: as `train_expert`; or PEFT is not installed or cannot adapt the model.
        ModalityError: the task has images and the model reads text only.
    """
    hyper = {"learning_rate": _RATES.get(kind, _RATE), **hyper}
    check_course(task, method, steps, None, hyper)
    for name in ("directions", "evenness"):
        if given := hyper.get(name):
            raise ConfigError(
                f"{name} is {given}, but {kind!r} has no singular directions; leave it out"
            )
    if kind == "lora" and rank is None:
        rank = 8
    with frozen_base(model.model):
        course = chosen_course(
            model,
            task,
            method,
            steps=steps,
            epochs=None,
            seed=seed,
            hyper=hyper,
            folder=checkpoint,
        )
        modules = course.phases[-1].options.modules
        adapter = PeftAdapter(model, kind, rank, modules=modules, seed=seed)
        run = Run(model, task, course, seed, checkpoint, adapter, no_signal=no_signal)
        run.train(progress)
    restore(adapter, run.best)
    return Adapted(model, adapter, {**run.record(), **adapter.identity}, run.scores)


def load_adapter(model: T2Model, folder: Path | str) -> Adapted:
    """Read an adapter that `Adapted.save` wrote.

    Raises:
        ExpertFormatError: a file is missing or damaged.
        ExpertMismatchError: it was trained on another base model, or its tensors do not fit.
    """
    path = Path(folder)
    try:
        record = json.loads((path / RECORD).read_text("utf-8"))
        training, scores = dict(record["training"]), dict(record["scores"])
        kind, rank = training["adapter"], training["rank"]
        check_kind(kind, rank)
        modules = TrainOptions(modules=record["modules"]).modules
        fingerprint = str(record["base_fingerprint"])
        stored = load_file(path / WEIGHTS_FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ExpertFormatError(
            f"{path} holds no whole adapter ({error}); train it again with train_adapter"
        ) from error
    if fingerprint != model.fingerprint:
        raise ExpertMismatchError(
            f"the adapter in {path} was trained on {record.get('base')} ({fingerprint[:12]}), but "
            f"this is {model.name} ({model.fingerprint[:12]}); load that model, or train it again"
        )
    adapter = PeftAdapter(model, kind, rank, modules=modules)
    restore(adapter, _fitting(path, stored, adapter.parameters))
    return Adapted(model, adapter, training, scores)


def _fitting(
    path: Path, stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The stored tensors under the adapter's names.

    Raises:
        ExpertMismatchError: one is missing, of another shape, or not the adapter's.
    """
    found = {name: tuple(value.shape) for name, value in stored.items()}
    needed = {_stored_name(name): tuple(value.shape) for name, value in wanted.items()}
    for name in sorted({*found, *needed}):
        if found.get(name) != needed.get(name):
            raise ExpertMismatchError(
                f"the adapter in {path} has {name!r} of shape {found.get(name)}, needed "
                f"{needed.get(name)}; train it again"
            )
    return {name: stored[_stored_name(name)] for name in wanted}


def _stored_name(name: str) -> str:
    """The name of a parameter in PEFT's file: without that of the adapter."""
    head, _, tail = name.rpartition(f".{_NAME}")
    if head.endswith(".tinylora_v"):
        head = "base_model.tinylora_v"  # what is beside the layers
        return f"{head}{tail}"
    # DoRA's vector is a module that the file does not tell.
    return f"{PREFIX}{head}{tail if not head.endswith('_magnitude_vector') else ''}"
