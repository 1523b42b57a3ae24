"""The weights of a GGUF file as they lie there, in 4 or 8 bits: matrix products without unpacking.

A block of 32 weights has a scale d, and codes q of 4 bits (Q4_1: w = d q + m; Q4_0: w = d (q - 8))
or of 8 (Q8_0: w = d q). torch's kernel for 4-bit weights in groups of 32 computes (q - 8) scale +
zero in float32, with scale and zero in bfloat16: d is rounded as bfloat16 weights are, once a block
instead of once a weight. A code of 8 bits is two of 4: q = 16 high + low.

The packed form is the kernel's own, which differs between processors, and is kept in
``$T2AGENT_HOME/cache/packed``: reading a GGUF file takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from t2agent.files import write_bytes
from t2agent.paths import home

GROUP = 32
"""Weights of a block."""
_ROWS = 16  # the kernel computes so many outputs at a time
_VERSION = "1"
_KINDS = frozenset({"Q4_0", "Q4_1", "Q8_0"})
_FAST = frozenset({"AVX2", "AVX512"})  # elsewhere torch's kernel is fifty times as slow


def available() -> bool:
    """Whether this processor and this torch have a fast kernel."""
    found = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
    return found and torch.backends.cpu.get_cpu_capability() in _FAST


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised weight W (out, in), w = (code - 8) * scale + zero.

    codes: (out, parts * in) uint8 from 0 to 15; scale, zero: (out, parts * in / 32) float32. Of two
    parts, which lie side by side, W is the sum.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    parts: int = 1

    def packed(self) -> PackedWeight:
        """For this processor's kernel."""
        scales = torch.stack([self.scale, self.zero], -1).transpose(0, 1).bfloat16()
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(self.codes.int(), 1)
        return PackedWeight(packed, scales.contiguous(), self.parts)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """W (out, in) in the form of torch's kernel for 4-bit weights.

    packed: uint8, half a byte a code. scales: (parts * in / 32, out, 2) bfloat16.
    """

    packed: Tensor
    scales: Tensor
    parts: int

    def __call__(self, x: Tensor) -> Tensor:
        """W x: (rows, in) bfloat16 -> (rows, out) bfloat16; sums are formed in float32."""
        if self.parts > 1:
            x = torch.cat([x] * self.parts, -1)
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x, self.packed, GROUP, self.scales
        )
        return product

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return self.packed.numel() + 2 * self.scales.numel()


def read(file: Path, wanted: Mapping[str, Iterable[str]]) -> dict[str, PackedWeight]:
    """Name -> the packed weight of the tensors of a GGUF file, one below the other.

    wanted: name -> the tensors' names. What has another shape or quantisation than the kernel
    takes is left out, and so is all of it where the file cannot be read.
    """
    kept = _path(file)
    found = _load(kept)
    if found is None:
        found = _pack(file, wanted)
        try:
            _store(kept, found)
        except OSError:
            return found  # no place to keep them: packed anew next time
    return found


def codes(data: Tensor, kind: str) -> Codes | None:
    """The codes of a tensor's bytes (out, bytes of a row) uint8; None for a quantisation, or a
    shape, that the kernel does not take."""
    if kind not in _KINDS or len(data) % _ROWS:
        return None
    rows = len(data)
    if kind == "Q8_0":
        blocks = data.view(rows, -1, 2 + GROUP)
        d = _floats(blocks[..., :2])[..., 0]
        q = blocks[..., 2:] ^ 128  # the code + 128, without a sign
        both = torch.cat([(q >> 4).view(rows, -1), (q & 15).view(rows, -1)], -1)
        return Codes(both, torch.cat([16 * d, d], -1), torch.cat([0 * d, 8 * d], -1), 2)
    head = 4 if kind == "Q4_1" else 2
    blocks = data.view(rows, -1, head + GROUP // 2)
    told, q = _floats(blocks[..., :head]), blocks[..., head:]
    d = told[..., 0]
    zero = told[..., 1] + 8 * d if kind == "Q4_1" else 0 * d
    return Codes(torch.cat([q & 15, q >> 4], -1).view(rows, -1), d, zero)


def _floats(data: Tensor) -> Tensor:
    return data.contiguous().view(torch.float16).float()


def _pack(file: Path, wanted: Mapping[str, Iterable[str]]) -> dict[str, PackedWeight]:
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    packed = {}
    for name, parts in wanted.items():
        found = []
        for part in parts:
            tensor = tensors.get(part)
            if tensor is not None and tensor.data.dtype == "uint8":
                data = torch.from_numpy(tensor.data.copy())  # the file is mapped, read-only
                found.append(codes(data, tensor.tensor_type.name))
        if len(found) == len(tuple(parts)) and (whole := _below(found)) is not None:
            packed[name] = whole.packed()
    return packed


def _below(parts: list[Codes | None]) -> Codes | None:
    """Weights of one kind and width, one below the other."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({(one.parts, one.codes.shape[1]) for one in known}) != 1:
        return None
    return Codes(
        torch.cat([one.codes for one in known]),
        torch.cat([one.scale for one in known]),
        torch.cat([one.zero for one in known]),
        known[0].parts,
    )


def _path(file: Path) -> Path:
    """Where the packed form of this file is kept, for this processor and torch."""
    state = file.stat()
    told: Any = (file.resolve(), state.st_size, state.st_mtime_ns, _VERSION)
    told += (torch.__version__, torch.backends.cpu.get_cpu_capability())
    name = hashlib.sha256(repr(told).encode()).hexdigest()
    return home() / "cache" / "packed" / f"{name}.safetensors"


def _load(path: Path) -> dict[str, PackedWeight] | None:
    """What is kept there; None where it is not, or damaged.

    Copied out of the mapped file: there tensors begin anywhere, and the kernel takes a fifth longer
    where they do not begin at a cache line.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            parts = stored.metadata() or {}
            return {
                name: PackedWeight(
                    stored.get_tensor(f"{name}.packed").clone(),
                    stored.get_tensor(f"{name}.scales").clone(),
                    int(count),
                )
                for name, count in parts.items()
            }
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError):
        return None


def _store(path: Path, weights: Mapping[str, PackedWeight]) -> None:
    tensors = {f"{name}.packed": weight.packed for name, weight in weights.items()}
    tensors |= {f"{name}.scales": weight.scales for name, weight in weights.items()}
    parts = {name: str(weight.parts) for name, weight in weights.items()}
    write_bytes(path, save(tensors, metadata=parts))
