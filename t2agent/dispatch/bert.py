"""A sentence encoder of BERT's architecture, computed by NumPy from its safetensors.

For encoders as sentence-transformers writes them with a BERT, the mean of its tokens' vectors and
unit length, such as all-MiniLM-L6-v2. The vectors are those of sentence-transformers but for the
order of sums (1e-6), and neither it nor PyTorch is imported for them: that takes seconds, a
request milliseconds.

Source of the architecture: Devlin et al. 2018 (arXiv 1810.04805), after transformers' BertModel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = NDArray[np.float32]

_MODULES = ["Transformer", "Pooling", "Normalize"]
_POOLING = "pooling_mode_"
_READ = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
}
"""What of a config.json is computed here; a key that it lacks is so by default."""
_SAMPLE = 4_099
_ERF = np.array([1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592], np.float32)


class BertEncoder:
    """Text -> unit vector, each text by itself.

    weights: by their names in the checkpoint, float32. config: of transformers.
    tokenizer: it cuts off what is longer than the model reads.
    """

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Vectors], tokenizer: Tokenizer
    ) -> None:
        self._tokenizer = tokenizer
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._weights = weights
        self._layers = [
            _Layer(weights, f"encoder.layer.{n}.") for n in range(config["num_hidden_layers"])
        ]
        self.dimension = int(config["hidden_size"])
        state = hashlib.sha256(f"{sorted(config.items())} {tokenizer.to_str()}".encode())
        for key in sorted(weights):
            state.update(f"{key} {weights[key].shape}".encode())
            state.update(weights[key].ravel()[::_SAMPLE].tobytes())
        self.identity = state.hexdigest()[:32]

    @classmethod
    def read(cls, folder: Path) -> BertEncoder | None:
        """The encoder in a folder of sentence-transformers; None for one of another form.

        Raises OSError and ValueError for files that cannot be read.
        """
        if not _is_plain(folder):
            return None
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        config = _json(folder / "config.json")
        weights = load_file(folder / "model.safetensors")
        if "embeddings.word_embeddings.weight" not in weights or any(
            one.dtype != np.float32 for key, one in weights.items() if key.endswith("weight")
        ):
            return None
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        longest = _json(folder / "sentence_bert_config.json")["max_seq_length"]
        tokenizer.enable_truncation(longest or config["max_position_embeddings"])
        return cls(config, weights, tokenizer)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, (texts, dimension)."""
        return np.stack([self._vector(self._tokenizer.encode(text).ids) for text in texts])

    def _vector(self, ids: Sequence[int]) -> Vectors:
        weights = self._weights
        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + weights["embeddings.token_type_embeddings.weight"][0]
        x = self._normed(x, *_pair(weights, "embeddings.LayerNorm"))
        for layer in self._layers:
            x = self._normed(x + self._attended(x, layer), *layer.attention_norm)
            inner = _gelu(_linear(x, *layer.inner))
            x = self._normed(x + _linear(inner, *layer.outer), *layer.norm)
        mean = x.mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)

    def _attended(self, x: Vectors, layer: _Layer) -> Vectors:
        """Self-attention of one text, (tokens, dimension)."""
        tokens, width = x.shape
        parts = _linear(x, *layer.projections).reshape(tokens, 3, self._heads, -1)
        query, key, value = parts.transpose(1, 2, 0, 3)  # each (heads, tokens, width / heads)
        query = query * np.float32((width // self._heads) ** -0.5)
        scores: Vectors = query @ key.transpose(0, 2, 1)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Vectors = (scores @ value).transpose(1, 0, 2).reshape(tokens, width)
        return _linear(mixed, *layer.out)

    def _normed(self, x: Vectors, weight: Vectors, bias: Vectors) -> Vectors:
        centred: Vectors = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        centred /= np.sqrt(variance + np.float32(self._epsilon))
        centred *= weight
        centred += bias
        return centred


class _Layer:
    """The weights of one layer, each with its bias."""

    def __init__(self, weights: Mapping[str, Vectors], prefix: str) -> None:
        names = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
        parts = [_pair(weights, name) for name in names]
        # One product instead of three.
        self.projections = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        self.out = _pair(weights, f"{prefix}attention.output.dense")
        self.attention_norm = _pair(weights, f"{prefix}attention.output.LayerNorm")
        self.inner = _pair(weights, f"{prefix}intermediate.dense")
        self.outer = _pair(weights, f"{prefix}output.dense")
        self.norm = _pair(weights, f"{prefix}output.LayerNorm")


def _pair(weights: Mapping[str, Vectors], name: str) -> tuple[Vectors, Vectors]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _linear(x: Vectors, weight: Vectors, bias: Vectors) -> Vectors:
    found: Vectors = x @ weight.T
    found += bias
    return found


def _gelu(x: Vectors) -> Vectors:
    """x Phi(x) with erf as of Abramowitz and Stegun, 7.1.26, which is off by at most 1.5e-7:
    SciPy's would take a third of a long text's time, and a tenth of a second to import."""
    z = np.abs(x)
    z *= np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.full_like(t, _ERF[0])
    for coefficient in _ERF[1:]:
        series *= t
        series += coefficient
    series *= t
    z *= -z
    series *= np.exp(z, out=z)
    found: Vectors = np.copysign(1 - series, x)
    found += 1
    found *= x
    found *= np.float32(0.5)
    return found


def _is_plain(folder: Path) -> bool:
    """Whether a folder holds what is computed here, and nothing more."""
    needed = ("modules.json", "config.json", "tokenizer.json", "model.safetensors")
    if not all((folder / name).is_file() for name in (*needed, "sentence_bert_config.json")):
        return False
    modules = _json(folder / "modules.json")
    if [one["type"].rpartition(".")[2] for one in modules] != _MODULES or modules[0]["path"]:
        return False
    pooling = _json(folder / modules[1]["path"] / "config.json")
    ways = {key for key, on in pooling.items() if key.startswith(_POOLING) and on is True}
    settings = folder / "config_sentence_transformers.json"
    told = _json(settings) if settings.is_file() else {}
    config = _json(folder / "config.json")
    return (
        ways == {f"{_POOLING}mean_tokens"}
        and not told.get("default_prompt_name")
        and not _json(folder / "sentence_bert_config.json").get("do_lower_case")
        and all(config.get(key, value) == value for key, value in _READ.items())
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
