"""The state of a training run on disk: safetensors for tensors, JSON for the rest, no pickle.

A folder holds ``state.json`` and the tensors of the step that it names. The tensors are written
first, ``state.json`` is replaced last: a process killed at any point leaves a whole step.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from t2agent.errors import ConfigError
from t2agent.files import write_bytes, write_text

FORMAT = 1
STATE = "state.json"
FINISHED = "expert"
"""The folder in a run's own that its expert is saved in once it is trained."""


@dataclass(slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: steps done.
        phase: which of the course's phases is on.
        begin: the step that this phase began after.
        updates: Adam's steps in this phase.
        signals: steps of this phase that had something to learn from.
        lowest, highest: mean rewards of a phase's first steps, as long as none had a signal.
        skipped: steps in a row whose gradient was not finite.
        stale: validations since the last better one.
        best_step: of the best validation.
        best, base, first: mean rewards on validation: the best, the base model's, and the best
            before the first step.
        best_right, base_right: shares of right replies, of the best and of the base model.
        told: the warnings so far.
    """

    step: int = 0
    phase: int = 0
    begin: int = 0
    updates: int = 0
    signals: int = 0
    lowest: float = 1.0
    highest: float = -1.0
    skipped: int = 0
    stale: int = 0
    best_step: int = 0
    best: float = -2.0
    base: float = -2.0
    first: float = -2.0
    seconds: float = 0.0
    best_right: float = 0.0
    base_right: float = 0.0
    told: list[str] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """The parameters in training (z, or a baseline's own), the best of them so far, the progress.

    ``z`` holds the parameters themselves. Adam keeps the running means of the gradient and of its
    square, ``first`` and ``second`` on disk; they are empty before the first update.
    """

    z: dict[str, nn.Parameter]
    best_z: dict[str, Tensor]
    progress: Progress = field(default_factory=Progress)


def save_state(
    folder: Path, run: Mapping[str, Any], state: State, optimizer: torch.optim.Adam
) -> None:
    """Write the state of a step; the step before is removed once the new one is whole."""
    groups: dict[str, dict[str, Tensor]] = {"z": {}, "best": {}, "first": {}, "second": {}}
    for name, parameter in state.z.items():
        groups["z"][name] = parameter.detach()
        groups["best"][name] = state.best_z[name]
        moments = optimizer.state.get(parameter)
        if moments:
            groups["first"][name] = moments["exp_avg"]
            groups["second"][name] = moments["exp_avg_sq"]
    tensors = {
        f"{group}:{name}": value.cpu().contiguous()
        for group, members in groups.items()
        for name, value in members.items()
    }
    file = _tensors(folder, state.progress.step)
    write_bytes(file, save(tensors))
    plain = {"format": FORMAT, "run": dict(run), "progress": asdict(state.progress)}
    write_text(folder / STATE, json.dumps(plain, indent=2) + "\n")
    for old in folder.glob("step-*.safetensors"):
        if old != file:
            old.unlink(missing_ok=True)


def load_state(
    folder: Path, run: Mapping[str, Any], state: State, optimizer: torch.optim.Adam
) -> bool:
    """Fill state and optimiser from a folder; False where no run has been saved there.

    Raises:
        ConfigError: another run is saved there (the differences are named), or it is damaged.
    """
    if not (folder / STATE).is_file():
        return False
    try:
        plain = json.loads((folder / STATE).read_text("utf-8"))
        progress = Progress(**plain["progress"])
        saved_run = dict(plain["run"])
        known = plain["format"] == FORMAT
        tensors = load_file(_tensors(folder, int(progress.step))) if known else {}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(
            f"the checkpoint in {folder} is damaged ({error}); delete the folder to train anew"
        ) from error
    wanted = json.loads(json.dumps(dict(run)))
    if not known or saved_run != wanted:
        raise ConfigError(
            f"{folder} holds the checkpoint of another run: {_differences(saved_run, wanted)}; "
            "give another folder, delete this one, or train with the same settings"
        )
    _fill(folder, state, optimizer, tensors, progress)
    return True


def saved_run(folder: Path) -> dict[str, Any]:
    """What tells the run that was stopped in a folder from others; empty where there is none."""
    if (folder / FINISHED).is_dir():
        return {}
    try:
        return dict(json.loads((folder / STATE).read_text("utf-8"))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def make_way(folder: Path, run: Mapping[str, Any]) -> None:
    """Empty a folder that runs are kept in by their expert's name, unless this run can go on there.

    A run that was finished is deleted. One that was stopped and had other settings, or cannot be
    read, is set aside with a warning.
    """
    if not (folder / STATE).is_file() or (folder / FINISHED).is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        return
    saved, wanted = saved_run(folder), json.loads(json.dumps(dict(run)))
    if saved == wanted:
        return
    different = f"had other settings ({_differences(saved, wanted)})" if saved else "is damaged"
    aside = folder.with_name(f"{folder.name}.stopped")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    warnings.warn(
        f"the run that was stopped in {folder} {different}: it is now in {aside}, and training "
        "starts anew",
        stacklevel=5,
    )


def _fill(
    folder: Path,
    state: State,
    optimizer: torch.optim.Adam,
    tensors: Mapping[str, Tensor],
    progress: Progress,
) -> None:
    for name, parameter in state.z.items():
        groups = ("z", "best", "first", "second") if progress.updates else ("z", "best")
        values = {group: tensors.get(f"{group}:{name}") for group in groups}
        if any(v is None or v.shape != parameter.shape for v in values.values()):
            raise ConfigError(
                f"the checkpoint in {folder} lacks {name!r} or has it in another shape; "
                "delete the folder to train anew"
            )
        placed = {group: v.to(parameter) for group, v in values.items() if v is not None}
        with torch.no_grad():
            parameter.copy_(placed["z"])
        state.best_z[name] = placed["best"]
        if progress.updates:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(progress.updates)),
                "exp_avg": placed["first"],
                "exp_avg_sq": placed["second"],
            }
    state.progress = progress


def _tensors(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.safetensors"


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    keys = sorted(key for key in {*saved, *wanted} if saved.get(key) != wanted.get(key))
    return ", ".join(f"{key} {saved.get(key)!r} there, {wanted.get(key)!r} here" for key in keys)
