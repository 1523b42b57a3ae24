"""A thousand experts: opening the registry, dispatching a request, memory.

Figures wanted: the registry opens in under 1 s when it was opened before; dispatching one request
takes under 1.5 times as long as with ten experts; the vectors in memory stay within the budget.

The experts are t2-nano's, their vectors random, each for one errand (a verb and an object) with a
few example requests, and 128 of what it is not for. They are written once, into a user folder of
the run's own.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

import psutil
import torch

from t2agent.bench.shapes import clock, expert, private_cache
from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.dispatch.fitting import forget
from t2agent.errors import ConfigError
from t2agent.experts.card import ExpertCard
from t2agent.experts.folder import CONFIG_FILE, VECTORS_FILE
from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model
from t2agent.train.near_misses import near_misses

_VERBS = (
    "book cancel repair compare describe schedule translate review measure design clean replace "
    "install inspect price sell borrow paint insure photograph"
)
_OBJECTS = (
    "flight hotel bicycle piano garden kettle mortgage passport violin telescope aquarium printer "
    "sofa tractor camera helmet vaccine tennis chess sushi bakery marathon glacier orchid beehive "
    "submarine castle tapestry quilt volcano accordion canoe drone turbine lock poem puppet "
    "satellite tornado umbrella vineyard walrus yoga zipper anchor balloon candle dolphin lantern "
    "mosque"
)
_EXAMPLES = (
    "{verb} my {thing} please",
    "how do I {verb} a {thing}",
    "I need to {verb} the {thing} today",
    "what does it cost to {verb} a {thing}",
    "when could you {verb} our {thing}",
)
_NEGATIVES = 128  # a card, as many as training collects
_UNSEEN = "could somebody {verb} this old {thing} for me"
_FEW = "few"
_OPENINGS = 5


def run(
    experts: int = 1_000, few: int = 10, requests: int = 200, budget: int = 4 << 20
) -> dict[str, float]:
    """Seconds, ratios and bytes.

    ``first_dispatch_s`` reads all examples and fits, ``dispatch_again_s`` finds both on disk.
    ``right``: share of requests, worded like no example, for which the expert of the verb and the
    object is chosen. ``held``: most bytes that the cache of experts held at any time, as a share
    of its budget, while each expert was used once. ``grown_mb``: what the process's memory grew
    meanwhile, after the first tenth of the experts; the vectors of all and what is formed of them
    take ``all_mb``.

    Args:
        experts: how many there are; at most as many as there are errands, 1,000.
        few: how many they are compared with.
        requests: how many are dispatched among both, in turn.
        budget: bytes of the cache of experts.

    Raises:
        ConfigError: there are too few or too many of something.
    """
    every = _spread()
    if not 2 <= few <= experts <= len(every) or requests < 1:
        raise ConfigError(
            f"experts is {experts}, few is {few}, requests is {requests}; needed are at most "
            f"{len(every)} experts, of these at least 2 as the few, and at least 1 request"
        )
    model = T2Model.from_pretrained("t2-nano")
    errands = every[:experts]
    with private_cache():
        home = Path(os.environ["T2AGENT_HOME"])
        _write(home / "experts" / model.name, model, errands)
        _write(home / "experts" / _FEW, model, errands[:few])

        def opened(base: str = model.name) -> Registry:
            registry = Registry(base, fingerprint=model.fingerprint, shapes=model.shapes)
            _ = registry.names(), registry.fingerprint
            return registry

        cold = clock(opened)
        warm = median([clock(opened) for _ in range(_OPENINGS)])
        return {
            "experts": experts,
            "open_cold_s": cold,
            "open_warm_s": warm,
            **_dispatch(opened(), opened(_FEW), errands, requests),
            **_memory(model, errands, budget),
        }


def _spread() -> list[tuple[str, str]]:
    """All errands; the first ten have different verbs and objects."""
    verbs, objects = _VERBS.split(), _OBJECTS.split()
    pairs = list(product(range(len(verbs)), range(len(objects))))
    pairs.sort(key=lambda pair: (pair[1] - pair[0]) % len(objects))
    return [(verbs[verb], objects[thing]) for verb, thing in pairs]


def _write(parent: Path, model: T2Model, errands: Sequence[tuple[str, str]]) -> None:
    """Write the experts' folders, without waiting for the disk after each."""
    pattern = parent / ".pattern"
    expert(model, 0).save(pattern)
    config = json.loads((pattern / CONFIG_FILE).read_text(encoding="utf-8"))
    for verb, thing in errands:
        own = tuple(text.format(verb=verb, thing=thing) for text in _EXAMPLES)
        card = ExpertCard(
            _name(verb, thing),
            description=f"Helps to {verb} a {thing}.",
            examples=own,
            negatives=tuple(near_misses(own, _NEGATIVES)),
            base=model.name,
            base_fingerprint=model.fingerprint,
            scores={"val": 1.0, "val_base": -1.0},  # else dispatch would not choose it
        )
        folder = parent / card.name
        folder.mkdir()
        shutil.copyfile(pattern / VECTORS_FILE, folder / VECTORS_FILE)
        text = json.dumps({**config, "card": card.to_dict()})
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def _dispatch(
    many: Registry, few: Registry, errands: Sequence[tuple[str, str]], requests: int
) -> dict[str, float]:
    dispatchers = EmbeddingDispatcher(many), EmbeddingDispatcher(few)
    dispatchers[1].dispatch([Request("hello")])  # the encoder is loaded
    first = clock(lambda: dispatchers[0].dispatch([Request("hello")]))
    another = EmbeddingDispatcher(many)  # as a later process has it, but for the encoder
    forget()
    again = clock(lambda: another.dispatch([Request("hello")]))
    times: tuple[list[float], list[float]] = [], []
    right = 0
    for n in range(requests):
        verb, thing = errands[n * len(errands) // requests % len(errands)]
        request = Request(_UNSEEN.format(verb=verb, thing=thing))

        def decide(which: int, request: Request = request) -> None:
            dispatchers[which].dispatch([request])

        for which in (0, 1) if n % 2 else (1, 0):  # who is second finds the caches warm
            times[which].append(clock(lambda which=which: decide(which)))  # type: ignore[misc]
        [label] = dispatchers[0].predict([request.text])
        right += label == _name(verb, thing)
    return {
        "first_dispatch_s": first,
        "dispatch_again_s": again,
        "dispatch_ms": 1e3 * median(times[0]),
        "dispatch_few_ms": 1e3 * median(times[1]),
        "dispatch_ratio": median(times[0]) / median(times[1]),
        "right": right / requests,
    }


def _memory(model: T2Model, errands: Sequence[tuple[str, str]], budget: int) -> dict[str, float]:
    model.expert_cache.budget = budget
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    memory = psutil.Process().memory_info
    before, held = 0, 0
    for n, (verb, thing) in enumerate(errands):
        if n == len(errands) // 10:
            gc.collect()
            before = memory().rss
        with model.adapted(_name(verb, thing)), torch.no_grad():
            model.model(input_ids=token)
        held = max(held, model.expert_cache.bytes)
    gc.collect()
    all_bytes = len(errands) * 2 * 4 * sum(model.shapes.values())
    return {
        "held": held / budget,
        "grown_mb": (memory().rss - before) / 2**20,
        "all_mb": all_bytes / 2**20,
    }


def _name(verb: str, thing: str) -> str:
    return f"{verb}_{thing}"
