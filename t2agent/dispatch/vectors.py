"""Vectors of example requests, kept so that they are computed once.

Looked up in this order: shipped with t2agent (``experts/examples/vectors.safetensors``), the
user's cache (``$T2AGENT_HOME/cache/embeddings.sqlite``), else encoded and put into the cache. A
vector is known by the hashes of its text and of its encoder. Vectors of examples are rounded to
float16 wherever they come from, so that all sources give the same.

``python -m t2agent.dispatch.vectors`` writes the shipped file anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2agent.dispatch.encoder import Encoder, Vectors
from t2agent.dispatch.labels import in_words
from t2agent.dispatch.shipped_requests import DOMAINS, GENERAL, examples_folder, shipped_requests
from t2agent.dispatch.tool_offers import without_offer
from t2agent.files import write_bytes
from t2agent.paths import bundled, home
from t2agent.progress import progress_bar

_LOG = logging.getLogger(__name__)
_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB, check_sum INT)"
_MOST = 100_000  # vectors kept on disk: some 80 MB
_TIMEOUT = 5.0
_MANY = 500  # texts that take seconds to encode
_PART = 250

Half = NDArray[np.float16]


class ExampleVectors:
    """The vectors of example requests, for one encoder. All methods may be called from threads."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self._memory: dict[str, Half] = {}
        self._shipped: Mapping[bytes, Half] | None = None

    @property
    def identity(self) -> str:
        """That of the encoder."""
        return self._encoder.identity

    def of(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, float32 (rounded to float16), (texts, dimension)."""
        with self._lock:
            missing = sorted({text for text in texts if text not in self._memory})
            if missing:
                self._memory.update(self._find(missing))
            rows = [self._memory[text] for text in texts]
        return np.array(rows, np.float32).reshape(len(rows), self._encoder.dimension)

    def forget_all_but(self, texts: Iterable[str]) -> None:
        """Free the memory of the texts that are not needed any more."""
        with self._lock:
            self._memory = {t: self._memory[t] for t in set(texts) if t in self._memory}

    def _find(self, texts: Sequence[str]) -> dict[str, Half]:
        keys = {text: _key(self._encoder.identity, text) for text in texts}
        if self._shipped is None:
            self._shipped = _read_shipped(self._encoder.identity)
        found = {text: self._shipped[key] for text, key in keys.items() if key in self._shipped}
        left = [text for text in texts if text not in found]
        if left:
            cached = _Cache(home() / "cache" / "embeddings.sqlite", self._encoder.dimension)
            known = cached.read([keys[text] for text in left])
            found |= {text: known[keys[text]] for text in left if keys[text] in known}
            new = [text for text in left if text not in found]
            if new:
                with progress_bar("Reading examples", len(new), len(new) > _MANY) as bar:
                    for start in range(0, len(new), _PART):
                        part = new[start : start + _PART]
                        vectors = self._encoder.encode(part).astype(np.float16)
                        found |= dict(zip(part, vectors, strict=True))
                        # Part by part: what was encoded is kept when the rest is interrupted.
                        cached.write({keys[text]: found[text] for text in part})
                        bar.advance(len(part))
        return found


class _Cache:
    """Vectors on disk. What cannot be read is as good as not there; it is never an error."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self._bytes = dimension * np.dtype(np.float16).itemsize

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Half]:
        if not self._path.exists():
            return {}
        found = {}
        try:
            with closing(sqlite3.connect(self._path, timeout=_TIMEOUT)) as data:
                for key in keys:
                    row = data.execute(
                        "SELECT vector, check_sum FROM vectors WHERE key = ?", (key,)
                    ).fetchone()
                    if row and self._intact(*row):
                        found[key] = np.frombuffer(row[0], np.float16)
        except sqlite3.OperationalError as error:
            _LOG.info("%s is not used: %s", self._path, error)  # locked, or not readable
        except sqlite3.DatabaseError as error:
            self._discard(error)
        return found

    def write(self, vectors: Mapping[bytes, Half]) -> None:
        rows = [(key, v.tobytes(), zlib.crc32(v.tobytes())) for key, v in vectors.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One transaction: a process killed here leaves the old vectors or the new.
            with closing(sqlite3.connect(self._path, timeout=_TIMEOUT)) as data, data:
                data.execute(_SCHEMA)
                data.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
                data.execute(
                    "DELETE FROM vectors WHERE rowid <= (SELECT max(rowid) FROM vectors) - ?",
                    (_MOST,),
                )
        except (OSError, sqlite3.OperationalError) as error:
            _LOG.info("%s is not written: %s", self._path, error)  # read-only, full, locked
        except sqlite3.DatabaseError as error:
            self._discard(error)

    def _intact(self, vector: object, check_sum: object) -> bool:
        if not isinstance(vector, bytes):
            return False
        return len(vector) == self._bytes and zlib.crc32(vector) == check_sum

    def _discard(self, error: Exception) -> None:
        _LOG.warning("%s is damaged (%s); it is built anew", self._path, error)
        with suppress(OSError):
            self._path.unlink()


def _key(identity: str, text: str) -> bytes:
    return hashlib.sha256(f"{identity}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _read_shipped(identity: str) -> Mapping[bytes, Half]:
    from safetensors import SafetensorError, safe_open

    path = examples_folder() / "vectors.safetensors"
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("encoder") != identity:
                return {}
            keys, vectors = file.get_tensor("keys"), file.get_tensor("vectors")
    except (OSError, SafetensorError) as error:
        _LOG.warning("%s is not used: %s", path, error)
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _shipped_texts() -> list[str]:
    texts = {request.prompt for d in (*DOMAINS, GENERAL) for request in shipped_requests(d)}
    for path in bundled("experts").glob("*/*/expert_config.json"):
        card = json.loads(path.read_text(encoding="utf-8"))["card"]
        texts |= set(card.get("negatives", ()))
        learnt = (*card.get("examples", ()), card.get("description"), in_words(path.parent.name))
        texts |= {form for text in learnt if text for form in (text, without_offer(text))}
    return sorted(texts)


def write_shipped() -> Path:
    """Write the shipped vectors of the default encoder; returns the file's path."""
    from safetensors.numpy import save

    encoder = Encoder()
    texts = _shipped_texts()
    keys = np.array([list(_key(encoder.identity, text)) for text in texts], np.uint8)
    tensors: dict[str, np.ndarray] = {
        "keys": keys,
        "vectors": encoder.encode(texts).astype(np.float16),
    }
    path = examples_folder() / "vectors.safetensors"
    write_bytes(path, save(tensors, metadata={"encoder": encoder.identity}))
    return path


if __name__ == "__main__":
    print(write_shipped())
