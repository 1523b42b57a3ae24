"""Baselines by PEFT, trained by the product's own trainer: what SVF is compared with.

    adapted = train_adapter(model, task, kind="lora", rank=8, method="reinforce")
    with adapted.active():
        accuracy(model, task, examples)

Samples, seeds, validation, checkpoints, early stop and batches are those of `train_expert`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from t2agent.errors import ConfigError, ExpertFormatError, ExpertMismatchError
from t2agent.files import replace_folder, write_bytes, write_text
from t2agent.models.model import T2Model
from t2agent.tasks.task import Task
from t2agent.train.adapters import restore
from t2agent.train.options import Method, TrainOptions
from t2agent.train.peft import Kind, PeftAdapter, check_kind
from t2agent.train.policy import merges
from t2agent.train.run import Run, checked
from t2agent.train.setup import frozen_base

RECORD = "training.json"
TENSORS = "adapter_model.safetensors"  # PEFT's name
_PREFIX = "base_model.model."  # PEFT's, before every name in its file

_HYPER: dict[str, dict[str, Any]] = {
    "lora": {"learning_rate": 0.002},
    "ia3": {"learning_rate": 0.02},
}


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A trained PEFT adapter on its base model.

    ``training`` is how it was trained, as on an expert's card, with ``adapter`` ("lora" or "ia3")
    and ``rank``; ``scores`` are the mean rewards ``val`` and, of the base model, ``val_base``.
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
            write_bytes(new / TENSORS, save(tensors, metadata={"format": "pt"}))
            write_text(new / RECORD, json.dumps(record, indent=2) + "\n")


def train_adapter(
    model: T2Model,
    task: Task,
    *,
    kind: Kind = "lora",
    rank: int | None = None,
    method: Method = "reinforce",
    steps: int = 40,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    progress: bool = True,
    **hyper: Any,
) -> Adapted:
    """Train a PEFT adapter for a task; the base model stays as it is, bit for bit.

    The arguments are those of `train_expert`, and with the same seed so are the examples of every
    step and of validation.

    Args:
        model: any base model whose weights can be read by PEFT.
        task: where examples come from and how replies are judged.
        kind: "lora" or "ia3", as `PeftAdapter` describes them.
        rank: of "lora", 8 if not given.
        method: "reinforce" or "sft".
        steps: most updates.
        seed: of all draws, LoRA's first A among them.
        checkpoint: a folder for state, metrics.jsonl and curve.png; a run there is resumed.
        progress: show a bar on stderr.
        hyper: fields of `TrainOptions`. Adam's rate is by default 0.002 for "lora", 0.02 for "ia3".

    Raises:
        ConfigError: as `train_expert`; or PEFT is not installed or cannot adapt the model.
        ModalityError: the task has images and the model reads text only.
    """
    options = checked(task, method, steps, {**_HYPER.get(kind, {}), **hyper})
    if options.directions is not None:
        raise ConfigError(
            f"directions is {options.directions}, but {kind!r} has no singular directions; "
            "leave it out"
        )
    if kind == "lora" and rank is None:
        rank = 8
    with frozen_base(model.model):
        adapter = PeftAdapter(model, kind, rank, modules=options.modules, seed=seed)
        run = Run(model, task, method, seed, options, checkpoint, adapter)
        run.train(steps, progress)
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
        stored = load_file(path / TENSORS)
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
    head, _, tail = name.rpartition(".default")
    return f"{_PREFIX}{head}{tail}"
