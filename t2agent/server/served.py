"""What a server serves: base models, and the names by which requests ask for them.

`smollm2` lets the dispatcher decide; `smollm2:base` is the base model, `smollm2:tools` an expert,
`smollm2:tools=0.7+extract=0.3` a mixture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from t2agent.engine.scheduler import ROWS, WAITING, Scheduler
from t2agent.engine.two_passes import Choice, Engine, Given
from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture
from t2agent.models.model import T2Model
from t2agent.server.failures import RefusedError

BASE = "base"
"""What stands for the base model after a model's name."""


@dataclass(frozen=True)
class Base:
    """A base model that is served."""

    engine: Engine
    scheduler: Scheduler

    @property
    def model(self) -> T2Model:
        """The model."""
        return self.engine.model

    @property
    def name(self) -> str:
        """Its name, by which requests ask for it."""
        return self.model.name


class Served:
    """The base models of a server.

    models: loaded ones, or names. The first answers requests that name none.
    dispatch, experts, quantized: as of `Engine`. rows, waiting: as of `Scheduler`.
    scheduler: what has a model's requests answered, where it is not the model in this process.

    Raises ConfigError for a model that cannot be loaded, or one that is named twice.
    """

    def __init__(
        self,
        models: Sequence[T2Model | str],
        *,
        dispatch: Any = "embedding",
        experts: Sequence[Path | str] | None = None,
        rows: int = ROWS,
        waiting: int = WAITING,
        quantized: bool = True,
        scheduler: Callable[[T2Model], Scheduler] | None = None,
    ) -> None:
        own = partial(Scheduler, rows=rows, waiting=waiting, quantized=quantized)
        self.began = int(time.time())
        self.bases: dict[str, Base] = {}
        for given in models:
            model = given if isinstance(given, T2Model) else T2Model.from_pretrained(given)
            if model.name in self.bases:
                raise ConfigError(f"the model {model.name!r} is given twice; give it once")
            engine = Engine(model, dispatch, experts=experts, merging=False, quantized=quantized)
            self.bases[model.name] = Base(engine, (scheduler or own)(model))
        if not self.bases:
            raise ConfigError("no model is given; give at least one")

    @property
    def first(self) -> Base:
        """The model that answers requests which name none."""
        return next(iter(self.bases.values()))

    def find(self, name: str | None) -> tuple[Base, Choice]:
        """The base model of a name, and who answers: None where the dispatcher decides.

        Raises RefusedError for a name that is not served.
        """
        if not name:
            return self.first, None
        if base := self.bases.get(name):
            return base, None
        head, colon, rest = name.rpartition(":")
        base = self.bases.get(head)
        if base is None or not colon:
            known = ", ".join(self.bases)
            raise RefusedError(
                404,
                f"the model {name!r:.100} is not served here; served are {known}, each also as "
                f"NAME:{BASE}, NAME:EXPERT and NAME:EXPERT=0.7+EXPERT=0.3 (GET /v1/models)",
                "model_not_found",
                "model",
            )
        if rest == BASE:
            return base, "off"
        mixture = Mixture.from_text(rest)
        base.model.resolve(mixture)  # an unknown expert is told at once
        return base, Given(mixture)

    def listed(self) -> list[dict[str, Any]]:
        """The names in the form of OpenAI's /v1/models, with the base model of each."""
        found: list[dict[str, Any]] = []
        for base in self.bases.values():
            names = [base.name, f"{base.name}:{BASE}"]
            registry = base.engine.registry or base.model.registry
            names += [f"{base.name}:{expert}" for expert in registry]
            found += [
                {
                    "id": name,
                    "object": "model",
                    "created": self.began,
                    "owned_by": "t2agent",
                    "root": base.name,
                    "parent": None if name == base.name else base.name,
                    "max_model_len": base.model.context_length,
                    "modalities": sorted(base.model.modalities),
                }
                for name in names
            ]
        return found

    def close(self, seconds: float | None = None) -> None:
        """Finish what runs and take no more; as of `Scheduler.close`."""
        for base in self.bases.values():
            base.scheduler.close(seconds)
