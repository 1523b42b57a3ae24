"""The experts of a server: what there are, and registering others while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2agent.experts.compare import compare
from t2agent.experts.expert import Expert
from t2agent.server.failures import RefusedError
from t2agent.server.requests import ExpertRequest
from t2agent.server.served import Base, Served

_CURVE = "curve.png"


def listed(served: Served) -> list[dict[str, Any]]:
    """All experts with their cards; of the requests on a card the first few."""
    found = []
    for base in served.bases.values():
        registry = base.engine.registry or base.model.registry
        for name, card in registry.cards().items():
            found.append(
                {
                    "id": f"{base.name}:{name}",
                    "object": "expert",
                    "model": base.name,
                    "name": name,
                    "description": card.description,
                    "modality": card.modality,
                    "step": card.step,
                    "license": card.license,
                    "examples": list(card.examples[:8]),
                    "scores": dict(card.scores),
                    "parameters": base.model.registry.parameters(name),
                    "curve": curve(base, name) is not None,
                }
            )
    return found


def curve(base: Base, name: str) -> Path | None:
    """The picture of an expert's training, where there is one. Raises ExpertNotFoundError."""
    place = Path(base.model.registry.source(name)) / _CURVE
    return place if place.is_file() else None


def difference(base: Base, name: str, other: str | None) -> dict[str, Any]:
    """How an expert differs from another, or from the base model: as of `compare`.

    Raises ExpertNotFoundError, ExpertMismatchError.
    """
    registry = base.model.registry
    with_other = None if other is None else registry.get(other)
    return compare(registry.get(name), with_other).to_dict()


def register(served: Served, body: ExpertRequest) -> dict[str, Any]:
    """Make an expert known: from a folder on the server, or from the Hub (``OWNER/REPOSITORY``).

    Replies that run keep the expert that they began with. Raises ExpertError, ConfigError.
    """
    base, _ = served.find(body.model)
    registry = base.model.registry
    folder = Path(body.source)
    if folder.is_dir():
        expert = Expert.load(folder)
        if body.name:
            expert = expert.renamed(body.name)
        registry.register(expert, replace=body.replace)
        name = expert.name
    elif "/" in body.source and not folder.is_absolute():
        name = registry.pull(body.source, replace=body.replace).name
    else:
        raise RefusedError(
            400,
            f"{body.source!r:.200} is no folder on the server, and no OWNER/REPOSITORY on the Hub",
            "invalid_value",
            "source",
        )
    if base.engine.registry is not None:
        base.engine.registry.add(name)
    return {"id": f"{base.name}:{name}", "object": "expert", "model": base.name, "name": name}


def remove(served: Served, name: str) -> dict[str, Any]:
    """Forget an expert, ``NAME`` of the first model or ``MODEL:NAME``. Replies that run keep it.

    Raises ExpertError where it is not known, or came with the package.
    """
    head, colon, rest = name.rpartition(":")
    base, _ = served.find(head if colon else None)
    base.model.registry.unregister(rest)
    return {"id": f"{base.name}:{rest}", "object": "expert.deleted", "deleted": True}
