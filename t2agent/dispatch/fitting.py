"""Fitting the classifier and the gate to example requests.

Fits are kept on disk, so that not every process waits for one, nor for scikit-learn's import.
They lie in ``$T2AGENT_HOME/cache/fits``, each under a hash of all that it was fitted to. What
cannot be read is as good as not there; it is never an error.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.classifier import Classifier, HeldOut, Labels, fit_classifier
from t2agent.dispatch.encoder import Vectors
from t2agent.dispatch.labels import in_words
from t2agent.dispatch.near import Near, fit_near
from t2agent.dispatch.scope import UNKNOWN, Gate, General, fit_gate
from t2agent.dispatch.shipped_requests import DOMAINS, GENERAL, shipped_requests, written_requests
from t2agent.dispatch.tool_offers import calls_tools
from t2agent.dispatch.vectors import ExampleVectors
from t2agent.files import write_bytes
from t2agent.paths import home

_NAMES = {
    "code": "code",
    "coding": "code",
    "programming": "code",
    "math": "math",
    "maths": "math",
    "mathematics": "math",
    "reasoning": "reasoning",
}
_AGREE = 0.5
_MOST_NEGATIVES = 8_192
"""Of all labels together: encoding them takes the most of the first request's time."""
_KEPT_BYTES = 160 << 20
_KNOWN: OrderedDict[bytes, Fitted] = OrderedDict()
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was learnt for one modality: sorted labels, and which and whether.

    ``near``: what each label is not for; ``calling``: the labels whose examples offer tools.
    """

    labels: tuple[str, ...]
    classifier: Classifier
    gate: Gate
    near: Near
    calling: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        """Bytes of its numbers."""
        examples = sum(one.nbytes for one in self.gate.examples)
        weights = 2 * self.classifier.weight.nbytes + self.near.weight.nbytes
        return weights + examples + self.gate.general.nbytes


def forget() -> None:
    """Forget the fits that are kept in memory."""
    with _LOCK:
        _KNOWN.clear()


def fit(
    examples: Mapping[str, Sequence[str]],
    vectors: ExampleVectors,
    temperature: float | None,
    threshold: float | None,
    negatives: Mapping[str, Sequence[str]] | None = None,
    elsewhere: Sequence[str] = (),
) -> Fitted | None:
    """Fit to the examples of each label, in canonical order; None where there are no labels.

    negatives: what some labels are not for, in canonical order; those of other labels are passed
    over, and of very many an equal number of each label counts. elsewhere: requests that are for
    none of the labels, unless they are like a label's examples. The latest fits are kept for the
    process: chat models of the same experts share them.
    """
    if not examples:
        return None
    key = hashlib.sha256(repr((vectors.identity, temperature, threshold)).encode())
    apart = {k: negatives[k] for k in examples if k in negatives} if negatives else {}
    share = _MOST_NEGATIVES // max(1, len(apart))  # drawn, since the order is
    negatives = {k: texts[: max(1, share)] for k, texts in apart.items()}
    for given in (examples, negatives):
        for label, texts in given.items():
            key.update(repr((label, tuple(texts))).encode("utf-8", "surrogatepass"))
    key.update(repr(tuple(elsewhere)).encode("utf-8", "surrogatepass"))
    with _LOCK:
        if key.digest() in _KNOWN:
            _KNOWN.move_to_end(key.digest())
            return _KNOWN[key.digest()]
    found = _fit(examples, vectors, temperature, threshold, negatives, elsewhere)
    with _LOCK:
        _KNOWN[key.digest()] = found
        while len(_KNOWN) > 1 and sum(one.bytes for one in _KNOWN.values()) > _KEPT_BYTES:
            _KNOWN.popitem(last=False)
    return found


def _fit(
    examples: Mapping[str, Sequence[str]],
    vectors: ExampleVectors,
    temperature: float | None,
    threshold: float | None,
    negatives: Mapping[str, Sequence[str]],
    elsewhere: Sequence[str],
) -> Fitted:
    labels = tuple(examples)
    texts = [[*examples[label], *extra] for label, extra in widened(examples, vectors).items()]
    every = [text for own in texts for text in own]
    features = vectors.of(every)
    numbers = np.repeat(np.arange(len(labels)), [len(own) for own in texts])
    names = vectors.of([in_words(label) for label in labels])
    general, sources = _general(vectors), _sources(every)
    told = labels if elsewhere else tuple(negatives)
    apart = {labels.index(label): vectors.of(negatives.get(label, ())) for label in told}
    others: Vectors = np.concatenate([general.vectors, vectors.of(elsewhere)])
    arrays: tuple[NDArray[Any], ...] = (
        features, numbers, names, sources, others, general.kinds
    )  # fmt: skip
    arrays += tuple(part for k, own in apart.items() for part in (np.array(k), own))
    key = key_of(arrays, temperature, threshold)
    known = read_fit(key, *names.shape)
    if known is not None:
        classifier, threshold, near = known
        held_out = HeldOut.none(len(labels))
    else:
        classifier, held_out = fit_classifier(features, numbers, names, temperature)
        own = {k: features[numbers == k] for k in apart}
        near = fit_near(own, apart, others, len(labels))
    logits = classifier.logits(general.vectors)
    gate = fit_gate(features, numbers, sources, len(labels), held_out, general, logits, threshold)
    if known is None:
        write_fit(key, classifier, gate.threshold, near)
    calling = frozenset(label for label in labels if calls_tools(examples[label]))
    return Fitted(labels, classifier, gate, near, calling)


def widened(examples: Mapping[str, Sequence[str]], vectors: ExampleVectors) -> dict[str, list[str]]:
    """The shipped requests that each label learns from besides its own examples.

    Those of a domain (only the ones written for this project) go to the one label that is named
    after it, where at least half of the label's examples have their nearest shipped request in
    that domain. Other labels get none.
    """
    named: dict[str, list[str]] = {}
    for label in examples:
        if label.strip().lower() in _NAMES:
            named.setdefault(_NAMES[label.strip().lower()], []).append(label)
    extra: dict[str, list[str]] = {label: [] for label in examples}
    for domain, (label, *others) in named.items():
        if not others and _share_in(domain, examples[label], vectors) >= _AGREE:
            own = set(examples[label])
            extra[label] = [text for text in written_requests(domain) if text not in own]
    return extra


def _share_in(domain: str, texts: Sequence[str], vectors: ExampleVectors) -> float:
    written = {d: written_requests(d) for d in (*DOMAINS, GENERAL)}
    shipped = vectors.of([text for own in written.values() for text in own])
    of = np.repeat(list(written), [len(own) for own in written.values()])
    nearest = (vectors.of(texts) @ shipped.T).argmax(axis=1)
    return float((of[nearest] == domain).mean())


def _sources(texts: Sequence[str]) -> Labels:
    """The number of the kind of each shipped request, UNKNOWN for other texts: (texts,)."""
    kinds = {r.prompt: (domain, r.kind) for domain in DOMAINS for r in shipped_requests(domain)}
    numbers = {kind: number for number, kind in enumerate(sorted(set(kinds.values())))}
    return np.array([numbers[kinds[t]] if t in kinds else UNKNOWN for t in texts], np.int64)


def _general(vectors: ExampleVectors) -> General:
    requests = shipped_requests(GENERAL)
    kinds = sorted({request.kind for request in requests})
    numbers = np.array([kinds.index(request.kind) for request in requests])
    return General(vectors.of([request.prompt for request in requests]), numbers)


_LOG = logging.getLogger(__name__)
_VERSION = 2  # raise it with whatever changes a fit to the same data
_KEPT = 32  # of ten labels 30 KB each, of 1,000 labels 3 MB


def key_of(arrays: Sequence[NDArray[Any]], *options: object) -> str:
    """A hash of what is fitted to, and how."""
    key = hashlib.sha256(repr((_VERSION, options)).encode())
    for array in arrays:
        key.update(f"{array.shape} {array.dtype}".encode())
        key.update(np.ascontiguousarray(array).tobytes())
    return key.hexdigest()


def read_fit(key: str, labels: int, dimension: int) -> tuple[Classifier, float, Near] | None:
    """The classifier, the gate's threshold, and what is near, if they are there and whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = _path(key).read_bytes()
        digest, body = data[:32], data[32:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("it is damaged")
        found = load(body)
        weight, bias = found["weight"], found["bias"]
        near = Near(found["near_weight"], found["near_bias"])
        temperature, threshold = map(float, found["numbers"])
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        _LOG.info("%s is not used: %s", _path(key), error)
        return None
    right = all(one.shape == (labels, dimension) for one in (weight, near.weight))
    right = right and bias.shape == near.bias.shape == (labels,) and temperature > 0
    if not right or not math.isfinite(threshold):
        return None
    return Classifier(weight, bias, temperature), threshold, near


def write_fit(key: str, classifier: Classifier, threshold: float, near: Near) -> None:
    """Keep a fit, and forget the oldest."""
    from safetensors.numpy import save

    numbers = np.array([classifier.temperature, threshold])
    body = save(
        {
            "weight": classifier.weight,
            "bias": classifier.bias,
            "numbers": numbers,
            "near_weight": near.weight,
            "near_bias": near.bias,
        }
    )
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
