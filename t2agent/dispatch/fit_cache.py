"""Fits of many labels on disk, so that not every process takes the seconds that one takes.

They lie in ``$T2AGENT_HOME/cache/fits``, each under a hash of all that it was fitted to. What
cannot be read is as good as not there; it is never an error.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.classifier import Classifier
from t2agent.files import write_bytes
from t2agent.paths import home

_LOG = logging.getLogger(__name__)
_VERSION = 1  # raise it with whatever changes a fit to the same data
_KEPT = 8  # of 1,000 labels: 1.5 MB each


def key_of(arrays: Sequence[NDArray[Any]], *options: object) -> str:
    """A hash of what is fitted to, and how."""
    key = hashlib.sha256(repr((_VERSION, options)).encode())
    for array in arrays:
        key.update(f"{array.shape} {array.dtype}".encode())
        key.update(np.ascontiguousarray(array).tobytes())
    return key.hexdigest()


def read_fit(key: str, labels: int, dimension: int) -> tuple[Classifier, float] | None:
    """The classifier and the gate's threshold, if they are there and whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = _path(key).read_bytes()
        digest, body = data[:32], data[32:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("it is damaged")
        found = load(body)
        weight, bias = found["weight"], found["bias"]
        temperature, threshold = map(float, found["numbers"])
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        _LOG.info("%s is not used: %s", _path(key), error)
        return None
    right = weight.shape == (labels, dimension) and bias.shape == (labels,) and temperature > 0
    if not right or not math.isfinite(threshold):
        return None
    return Classifier(weight, bias, temperature), threshold


def write_fit(key: str, classifier: Classifier, threshold: float) -> None:
    """Keep a fit, and forget the oldest."""
    from safetensors.numpy import save

    numbers = np.array([classifier.temperature, threshold])
    body = save({"weight": classifier.weight, "bias": classifier.bias, "numbers": numbers})
    path = _path(key)
    try:
        write_bytes(path, hashlib.sha256(body).digest() + body)
        fits = sorted(path.parent.glob("*.fit"), key=lambda one: one.stat().st_mtime)
    except OSError as error:
        _LOG.info("%s is not written: %s", path, error)  # read-only, full, or cleared meanwhile
        return
    for old in fits[:-_KEPT]:
        with suppress(OSError):
            old.unlink()


def _path(key: str) -> Path:
    return home() / "cache" / "fits" / f"{key}.fit"
