"""The base model: a Hugging Face model with the bases of its weights, and ways to adapt it."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from t2agent.errors import ConfigError
from t2agent.experts.cache import ExpertCache
from t2agent.experts.expert import MixtureLike
from t2agent.experts.registry import Registry
from t2agent.models.installed import AUTO, named
from t2agent.models.loading import dequantised_file, load
from t2agent.models.plans import Planner, Resolved
from t2agent.models.prefixes import PrefixCache
from t2agent.svf import fingerprint as content
from t2agent.svf import layer
from t2agent.svf.basis import Basis
from t2agent.svf.decomposition import decompose_layers
from t2agent.svf.locking import WeightLock, guard
from t2agent.svf.merge import Merged, MergedCache, WeightSwitch, check_writable, merge
from t2agent.svf.rows import TOKENS_FIRST
from t2agent.svf.targets import choose
from t2agent.svf.transform import Plan, Transforms

if TYPE_CHECKING:
    from t2agent.models.exchange import LoraExport

_LONG = 10**10  # sum of r^3 from which decomposing takes seconds
_MERGED_BYTES = 2 << 30  # of merged weights kept, unless `merged_cache.budget` is set
_TOKENIZER_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()

A = TypeVar("A")


class T2Model:
    """A frozen base model that experts adapt without its weights being opened.

    hf_model: any PreTrainedModel; it is put in evaluation mode and its weights are frozen.
    processor: its processor, or its tokenizer.
    targets: "all" (every linear layer of the language part, output head excluded), "attention",
        "mlp", "all+vision", or a regular expression on module names.
    name: what experts' cards and folders call it; by default where it was loaded from.

    ``prefix_cache``: what was read of the latest prompts, in memory; ``prefix_cache.budget`` bytes
    at most. ``gguf``: the GGUF file that the weights were dequantised from, where they were.

    Raises ConfigError for what is no such model, and where `targets` leaves nothing to adapt.
    """

    def __init__(
        self,
        hf_model: PreTrainedModel,
        processor: Any,
        *,
        targets: str = "all",
        name: str | None = None,
    ) -> None:
        if not isinstance(hf_model, PreTrainedModel):
            raise ConfigError(
                f"hf_model is a {type(hf_model).__name__}; give a transformers PreTrainedModel, or "
                "load one by name with T2Model.from_pretrained"
            )
        if processor is None:
            raise ConfigError("processor is None; give the model's processor or tokenizer")
        self.model = hf_model.eval().requires_grad_(False)
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.name = name or hf_model.config.name_or_path or type(hf_model).__name__
        self.targets = choose(hf_model, targets)
        self.shapes: Mapping[str, int] = MappingProxyType(
            {n: min(layer.shape(module)) for n, module in self.targets.layers.items()}
        )
        self._lock = threading.RLock()
        self._fingerprint: str | None = None
        self._registry: Registry | None = None
        self._bases: Mapping[str, Basis] | None = None
        self._transforms: Transforms | None = None
        self.expert_cache: ExpertCache[Plan] = ExpertCache()
        self._planner = Planner(
            shapes=self.shapes,
            routed=self.targets.routed,
            name=self.name,
            find=lambda name: self.registry.get(name),
            fingerprint=lambda: self.fingerprint,
            cache=self.expert_cache,
        )
        self._weights = WeightLock()
        self._switch = WeightSwitch(self.targets.layers)
        self.merged_cache = MergedCache(_MERGED_BYTES)
        self.prefix_cache = PrefixCache()
        self.gguf: Path | None = None
        self._attached: dict[Callable[[T2Model], Any], Any] = {}
        self._attaching = threading.RLock()
        guard(hf_model, self._weights.read, self._seeing)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = AUTO,
        *,
        revision: str | None = None,
        device_map: Any = None,
        dtype: Any = "auto",
        targets: str = "all",
        quantization_config: Any = None,
        cache_dir: Path | str | None = None,
        gguf_file: str | None = None,
        trust_remote_code: bool = False,
    ) -> T2Model:
        """Load a base model by name or path, with its processor. Options as in transformers, but
        that a ``dtype`` of "auto" is float32 where bfloat16 is emulated (`precision.widen`).

        "auto" is the base model that ``$T2AGENT_MODEL`` names, else smollm2 where it is installed,
        else t2-nano (`t2agent.models.installed.default`).

        A GGUF file (its path, or a folder or repository with ``gguf_file``) is dequantised, unless
        ``quantization_config`` says otherwise.

        Raises ConfigError where it cannot be loaded or has nothing to adapt.
        """
        if not isinstance(model, (str, Path)):
            raise ConfigError(
                f"model is {model!r}; give a name, a folder or a file. T2Model(model, processor) "
                "takes a model that is loaded already"
            )
        name = named(str(model))
        place: dict[str, Any] = {"revision": revision or "main", "cache_dir": cache_dir}
        hf_model, processor = load(
            name,
            device_map=device_map,
            dtype=dtype,
            quantization_config=quantization_config,
            gguf_file=gguf_file,
            trust_remote_code=trust_remote_code,
            **place,
        )
        made = cls(hf_model, processor, targets=targets, name=name)
        made.gguf = dequantised_file(name, gguf_file, place)
        return made

    def attached(
        self, make: Callable[[T2Model], A], current: Callable[[A], bool] = lambda _: True
    ) -> A:
        """What `make` makes of this model: made when first asked for, and gone with the model.

        For what other modules know of one model, such as its chat template.

        make: a class, or a function of a module; one thread at a time makes something for a model.
            Where it takes a lock (such as `tokenizer_lock`), nobody may call this holding that.
        current: whether what was made still fits the model; where not, it is made again.
        """
        with self._attaching:
            known: A | None = self._attached.get(make)
            if known is None or not current(known):
                known = self._attached[make] = make(self)
            return known

    @property
    def tokenizer_lock(self) -> threading.Lock:
        """To hold while the tokenizer is called, and no longer: padding, truncation and the like
        are settings of the tokenizer, so that of two calls at once one may be padded wrongly.

        It belongs to the tokenizer, which two base models may share.
        """
        return _TOKENIZER_LOCKS.setdefault(self.tokenizer, threading.Lock())

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""
        return layer.execution_device(self.model) or self.model.device

    @functools.cached_property
    def modalities(self) -> frozenset[str]:
        """ "text", and "image" where the model and its processor take pictures."""
        encoder = self.model.get_encoder(modality="image")
        sees = encoder is not self.model and hasattr(self.processor, "image_processor")
        return frozenset({"text", "image"} if sees else {"text"})

    @property
    def asks(self) -> Mapping[str, Any]:
        """What the checkpoint asks of this package: "t2agent" in its config.json."""
        asked = getattr(self.model.config, "t2agent", None)
        return asked if isinstance(asked, Mapping) else {}

    @functools.cached_property
    def context_length(self) -> int:
        """Tokens that the model has positions for, prompt and answer together."""
        config = self.model.config.get_text_config()
        for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            if isinstance(length := getattr(config, key, None), int):
                return length
        return int(self.tokenizer.model_max_length)

    @property
    def fingerprint(self) -> str:
        """Content hash of the base weights; see `t2agent.svf.fingerprint.fingerprint`."""
        if self._fingerprint is None:
            # The weights before the lock, here and below: a thread inside `merged` owns them.
            with self._weights.own(), self._lock, self._switch.use({}):
                self._fingerprint = self._fingerprint or content.fingerprint(self.model)
        return self._fingerprint

    @property
    def answering(self) -> str:
        """A hash of what answers depend on besides weights and experts: the chat template, the
        generation config, tokens, image settings, the dtype and the device. For caches.
        """
        images = getattr(self.processor, "image_processor", None)
        told = {
            "template": getattr(self.processor, "chat_template", None),
            "tokenizer_template": self.tokenizer.chat_template,
            "asks": dict(self.asks),
            "tokens": [len(self.tokenizer), self.tokenizer.special_tokens_map],
            "generation": self.model.generation_config.to_dict(),
            "images": None if images is None else images.to_dict(),
            "arithmetic": [self.model.dtype, self.device, self.model.config._attn_implementation],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def registry(self) -> Registry:
        """The experts of this base model."""
        if self._registry is None:
            found = Registry(
                self.name,
                fingerprint=self.fingerprint,
                shapes=self.shapes,
                cache=self.expert_cache,
            )
            with self._lock:
                self._registry = self._registry or found
        return self._registry

    @property
    def per_row(self) -> bool:
        """Whether the rows of one batch can have different mixtures.

        Not behind a router, and not where tokens come before rows.
        """
        return not self.targets.routed and self.model.config.model_type not in TOKENS_FIRST

    @property
    def writable(self) -> bool:
        """Whether `merged` can write the weights: none quantised or offloaded."""
        try:
            check_writable(self.targets.layers)
        except ConfigError:
            return False
        return True

    def decompose(self, progress: bool = True) -> None:
        """Compute the bases, or load them from the cache. Later calls do nothing."""
        if self._bases is not None:
            return
        with self._weights.own(), self._lock, self._switch.use({}):
            if self._bases is None:
                bases = decompose_layers(self.targets.layers, progress=progress)
                self._transforms = Transforms(self.targets.layers, bases, self.targets.vision)
                self._bases = MappingProxyType(bases)

    @property
    def bases(self) -> Mapping[str, Basis]:
        """Module name -> its basis."""
        self.decompose()
        assert self._bases is not None
        return self._bases

    def resolve(self, what: MixtureLike | Resolved) -> Resolved:
        """A mixture and its experts, checked against this base model.

        Raises ExpertNotFoundError for an unknown name, ExpertMismatchError for a foreign expert.
        """
        return self._planner.resolve(what)

    def deltas(self, what: MixtureLike) -> dict[str, torch.Tensor]:
        """Module name -> sum_k a_k (z_k - 1), (r,) float32, where a mixture changes something."""
        plan = self._planner.one(what)[1]
        return {name: delta.single() for name, delta in plan.deltas.items()}

    @contextmanager
    def adapted(
        self,
        what: MixtureLike | Resolved | Sequence[MixtureLike | Resolved],
        *,
        columns: int | None = None,
    ) -> Iterator[T2Model]:
        """Adapt the model while inside: `model.model(...)` and `model.model.generate(...)`.

        what: one mixture, or a list with one for each row of the batch; what `resolve` returned
        keeps its experts, though others were registered under their names since. generate() may
        repeat rows for beams or return sequences. Contexts belong to a thread (or asyncio task)
        and nest; the inner one wins, and None inside is the base model. What torch.compile made of
        the model is not used meanwhile. Gradients reach the z vectors of an Expert that is given
        itself; run the backward pass inside as well where gradient checkpointing is used.
        columns: all z are 1 beyond their first that many values, for who knows so: only these
        directions are computed.

        Raises ConfigError for a list that the batch does not fit, or where rows cannot be told
        apart (layers behind a router; see `per_row`).
        """
        if isinstance(what, Sequence) and not isinstance(what, (str, Resolved)):
            plan = self._planner.rows(what)
            if plan.rows is not None and self.model.config.model_type in TOKENS_FIRST:
                raise ConfigError(
                    f"{type(self.model).__name__} lays tokens before rows, so that the rows of a "
                    "batch cannot be told apart: run them one at a time, or with one mixture"
                )
        else:
            plan = self._planner.one(what)[1]
        used = plan if columns is None else replace(plan, columns=columns)
        with self.expert_cache.pinned(plan), self._base_weights(), self._transformed(used):
            yield self

    @contextmanager
    def merged(self, what: MixtureLike | Resolved, *, keep: bool = True) -> Iterator[T2Model]:
        """One mixture, written into the weights while inside; the kept weights come back after.

        The context owns the model: forward passes of other threads wait until it ends, so do not
        wait inside for a thread that runs the model (one started with a copied context, as by
        asyncio.to_thread, shares the ownership). Inside, `adapted` and `merged` start from the
        base model again. Merged weights are kept, within `merged_cache.budget` bytes, so that
        entering again swaps pointers; with `keep` False they are not, as an expert in training
        changes at every step.

        Raises ConfigError for a list of mixtures, or for weights that cannot be written.
        """
        if isinstance(what, Sequence) and not isinstance(what, (str, Resolved)):
            raise ConfigError("merged() takes one mixture: use adapted() for one per row")
        resolved, plan = self._planner.one(what)
        with self.expert_cache.pinned(plan), self._weights.own(), self._transformed(None):
            with self._switch.use({}):
                weights = self._merge(resolved, plan, keep)
            with self._switch.use(weights):
                yield self

    @property
    def plan(self) -> Plan | None:
        """What the current context does to the layers; None for nothing."""
        return None if self._transforms is None else self._transforms.plan

    @property
    def rewritten(self) -> bool:
        """Whether the current context is inside `merged`: the weights are not the base model's."""
        return self._weights.owned and not self._switch.is_base

    @property
    def mixed(self) -> bool:
        """Whether the current context has a mixture for each row of the batch."""
        return self._transforms is not None and self._transforms.by_row

    @property
    def entered(self) -> bool:
        """Whether the current context is inside `adapted` or `merged`."""
        adapted = self._transforms is not None and self._transforms.in_use
        return adapted or self._weights.owned

    def export_lora(self, what: MixtureLike, folder: Path | str, **options: Any) -> LoraExport:
        """Write a PEFT LoRA adapter; options as of `t2agent.models.exchange.export_lora`."""
        from t2agent.models.exchange import export_lora

        return export_lora(self, what, folder, **options)

    def _merge(self, resolved: Resolved, plan: Plan, keep: bool) -> Merged:
        key = resolved.key
        found = self.merged_cache.get(key)
        if found is None:
            check_writable({name: self.targets.layers[name] for name in plan.deltas})
            found = {
                name: merge(self.targets.layers[name], self.bases[name], delta.single())
                for name, delta in plan.deltas.items()
            }
            if keep:
                self.merged_cache.put(key, found)
        return found

    def _base_weights(self) -> AbstractContextManager[None]:
        """Inside `merged`, the base weights come back for an inner `adapted`."""
        merged = self._weights.owned and not self._switch.is_base
        return self._switch.use({}) if merged else nullcontext()

    def _transformed(self, plan: Plan | None) -> AbstractContextManager[None]:
        """The hooks' context; a plan that changes nothing needs no bases."""
        if plan is not None and plan.deltas:
            self.decompose(progress=sum(r**3 for r in self.shapes.values()) > _LONG)
        return nullcontext() if self._transforms is None else self._transforms.use(plan)

    def _seeing(
        self, config: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """Around a call with tokens: it tells the hooks where its rows are."""
        if self._transforms is None:
            return nullcontext()
        return self._transforms.seeing(config, args, kwargs)
