"""A plugin by which vLLM serves mixtures: ``"model": "smollm2:tools=0.7+extract=0.3"``.

vLLM asks its resolvers for a LoRA of a name that it does not know. Ours exports the mixture when
it is first asked for, into ``$T2AGENT_HOME/cache/vllm``, in a folder whose name is a hash of all
that the adapter is made of: base weights, experts' vectors, weights, rank, dtype. The adapter's
name at vLLM ends in that hash, so that nothing vLLM keeps by name (blocks of its prefix cache) is
taken for another expert's.

It is found by its entry point (group ``vllm.general_plugins``) where t2agent is installed beside
vLLM, and needs ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``. vLLM is imported
only here, when it calls `register`.

Source: `vllm/lora/resolver.py` and `vllm/entrypoints/openai/models/serving.py` of vLLM 0.32.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from t2agent.errors import ConfigError, T2Error
from t2agent.experts.mixture import Mixture
from t2agent.paths import base_slug, home

if TYPE_CHECKING:
    from t2agent.models.model import T2Model

RANK_VARIABLE = "T2AGENT_VLLM_RANK"
"""Of the adapters, at most vLLM's ``--max-lora-rank``; `factors.DEFAULT_RANK` unless said."""
KEPT = 64
"""Mixtures that are exported. vLLM reads an adapter again after it has dropped it from memory, so
none is removed; who asks for more gets no answer, or anybody could fill the disk."""
_VERSION = "1"
_HASH = 16  # characters
_log = logging.getLogger("t2agent")


def register() -> None:
    """Make the resolver known to vLLM, which calls this in each of its processes."""
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    LoRAResolver.register(MixtureResolver)
    LoRAResolverRegistry.register_resolver("t2agent", MixtureResolver())


class MixtureResolver:
    """Exports the mixtures that vLLM is asked for; a `LoRAResolver` of vLLM's."""

    def __init__(self) -> None:
        self._models: dict[str, _Mixtures] = {}

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
        """The LoRARequest of a mixture, or None for a name that means none, which vLLM answers with
        a 404; why is logged.

        base_model_name: what vLLM was started with: a name on the Hub, or a checkpoint's folder.
        lora_name: ``BASE:MIXTURE``, the mixture as `Mixture.from_text` reads it.
        """
        base, colon, text = lora_name.rpartition(":")
        try:
            if not colon or base_slug(base) != base_slug(base_model_name):
                return None
            mixture = Mixture.from_text(text)
            known = self._models.setdefault(base_model_name, _Mixtures(base_model_name))
            folder = await asyncio.to_thread(known.folder, mixture)
        except T2Error as error:
            _log.warning("t2agent cannot serve %r: %s", lora_name, error)
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(
            lora_name=f"{lora_name}@{folder.name}",
            lora_int_id=1,  # vLLM gives it a number of its own
            lora_path=str(folder),
        )


class _Mixtures:
    """The exported mixtures of one base model, which is loaded when the first one is asked for."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._lock = Lock()

    @cached_property
    def _model(self) -> T2Model:
        from t2agent.models.model import T2Model

        return T2Model.from_pretrained(self._base)

    def folder(self, mixture: Mixture) -> Path:
        """Where the PEFT adapter of a mixture lies, written where it is not there yet.

        Raises ConfigError where too many are, or as `export_lora`; ExpertError for an unknown one.
        """
        from t2agent.models.exchange.factors import DEFAULT_RANK
        from t2agent.models.exchange.peft_export import export_lora

        given = os.environ.get(RANK_VARIABLE, "").strip() or str(DEFAULT_RANK)
        if not given.isdecimal() or int(given) < 1:
            raise ConfigError(f"{RANK_VARIABLE} is {given!r}; give a whole number from 1")
        with self._lock:
            model = self._model
            rank, dtype = min(int(given), max(model.shapes.values())), model.model.dtype
            told = {
                "version": _VERSION,
                "base": model.fingerprint,
                "experts": {n: model.registry.get(n).digest() for n in sorted(mixture.experts())},
                "weights": dict(sorted(mixture.weights.items())),
                "rank": rank,
                "dtype": str(dtype),
            }
            digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:_HASH]
            folder = home() / "cache" / "vllm" / digest
            if not folder.is_dir():
                _check_room(folder.parent)
                export_lora(model, mixture, folder, rank=rank, dtype=dtype, progress=False)
            return folder


def _check_room(parent: Path) -> None:
    there = sum(1 for one in parent.iterdir() if one.is_dir()) if parent.is_dir() else 0
    if there >= KEPT:
        raise ConfigError(
            f"{parent} holds {there} mixtures, and no more than {KEPT} are kept; stop vLLM, and "
            "remove those that nobody asks for"
        )
