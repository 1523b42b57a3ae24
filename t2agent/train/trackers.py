"""Where the figures of a training are followed: TensorBoard, Weights & Biases, Trackio, or any
other tracker of accelerate's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from t2agent.errors import ConfigError
from t2agent.paths import base_slug, home

TRACKERS = ("tensorboard", "wandb", "trackio")
"""Those that are asked for by name; each is the package to install, too."""

Trackers = Sequence[str | GeneralTracker]

_PROJECT = "t2agent"


def check_trackers(given: str | GeneralTracker | Trackers | None) -> Trackers:
    """The trackers that ``report_to`` asks for, each once.

    Raises:
        ConfigError: one is not known, or its package is not installed.
    """
    several = () if given is None else given
    several = (several,) if isinstance(several, str | GeneralTracker) else tuple(several)
    for one in several:
        if isinstance(one, GeneralTracker):
            continue
        if one not in TRACKERS:
            raise ConfigError(
                f"report_to is {one!r}; needed one of {', '.join(TRACKERS)}, or a tracker of "
                "accelerate (accelerate.tracking.GeneralTracker)"
            )
        if find_spec(one) is None:
            raise ConfigError(f"report_to={one!r} needs the package {one}: pip install {one}")
    return tuple(dict.fromkeys(several))


def logs_folder(base: str, name: str) -> Path:
    """``$T2AGENT_HOME/logs/<base>/<name>-<time>``: where a training that begins now has the files
    of its trackers."""
    return home() / "logs" / base_slug(base) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


@contextmanager
def reports(accelerator: Accelerator, config: Mapping[str, Any]) -> Iterator[None]:
    """Inside, ``accelerator.log`` reaches the trackers it was made with; after, they are closed.

    config: what the training is; trackers are told its texts and numbers.
    """
    if not accelerator.log_with:
        yield
        return
    run = Path(accelerator.project_dir).name
    accelerator.init_trackers(
        _PROJECT,
        {key: value for key, value in config.items() if isinstance(value, str | int | float)},
        {one: {"name": run} for one in ("wandb", "trackio")},
    )
    try:
        yield
    finally:
        # `Accelerator.end_training` would take the processes of a caller's other work along.
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []
