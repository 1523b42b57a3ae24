"""A checkpoint of the paper's authors as an expert.

Source: github.com/SakanaAI/self-adaptive-llms, `policy/base.py`, `policy/weighted_combination.py`
and `utils.py`. They learn p for the MLP's weights only, and with z = sigmoid(p) they compose

    W' = U diag(s z) V^T * sum(s) / sum(s z),

so that their whole effect is our z' = z * sum(s) / sum(s z). It does not depend on the scale of z:
their `max_mult` and `norm_coeffs`, which no file holds, make no difference. Three kinds of file are
written by `torch.save`:

    learnable_params*.pt   {name of the weight: p}
    policy_params*.pt      {"learnable_params_module_list.<i>": p}, in the order in which the base
                           model's state dict names the weights with "mlp" in their names
    policy_params*.pt      of a few-shot mixture: "adaptive_weights" (experts, 1 or layers), and
                           "weights_<k>_k_<name with _ for .>", each expert's z

Deviation: they round z, U, s and V to bfloat16; here all is float64 until the end.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from t2agent.errors import ExpertFormatError, ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.experts.expert import Expert
from t2agent.svf import layer
from t2agent.svf.low_rank import sharpened

if TYPE_CHECKING:
    from t2agent.models.exchange.adaptable import Adaptable

_MAX_BYTES = 128 * 2**20  # Llama-3-70B has 4 MB a policy
_MAX_PICKLE_BYTES = 8 * 2**20
_LISTED = re.compile(r"learnable_params_module_list\.(\d{1,9})")
_MIXED = re.compile(r"weights_(\d{1,3})_k_(.+)")
_WEIGHTS = "adaptive_weights"


def singular_value_scales(z: Tensor, s: Tensor) -> Tensor:
    """z' with W' = U diag(s z') V^T what the authors compose of z = sigmoid(p).

    Args:
        z: (r,), in (0, 1).
        s: (r,), the singular values.

    Raises:
        ExpertFormatError: sum(s z) is zero, or a value is not finite.
    """
    z, s = z.double(), s.double()
    scaled = z * (s.sum() / (s * z).sum())
    if not bool(torch.isfinite(scaled).all()):
        raise ExpertFormatError("its values are not finite, or cancel out: sum(s z) is zero")
    return scaled


def import_sakana(
    file: Path | str, model: Adaptable, name: str, *, description: str = ""
) -> Expert:
    """The expert that a checkpoint of the authors' repository is for its base model.

    The file need not be trusted: nothing in it is run, and its size is bounded.

    Args:
        file: `learnable_params*.pt` or `policy_params*.pt`.
        model: the base model that it was trained for, with the MLP among its targets.
        name: of the expert.
        description: on its card.

    Raises:
        ExpertFormatError: the file is damaged, too large, holds code, or is another kind of file.
        ExpertMismatchError: it is for another base model.
    """
    path = Path(file)
    data = _read(path)
    state = _load(path, data)
    scales = _by_layer(path, state, model)
    z = {}
    with model.merged(None):  # the base weights, and nobody else's hands on them
        for each, value in scales.items():
            with layer.read(model.targets.layers[each], each) as (weight, _):
                s = sharpened(weight, model.bases[each]).s.cpu()
            try:
                z[each] = singular_value_scales(value, s).float()
            except ExpertFormatError as error:
                raise _bad(path, f"{each}: {error}") from error
    origin = {
        "format": "sakana",
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "layers": len(z),
        "formula": "z = sigmoid(p) * sum(s) / sum(s sigmoid(p))",
    }
    card = ExpertCard(
        name,
        description=description,
        base=model.name,
        base_fingerprint=model.fingerprint,
        training={"imported": origin},
    )
    return Expert(card, z)


def _read(path: Path) -> bytes:
    """The bytes of the file, if it has a sane size."""
    try:
        if not path.is_file():  # a pipe would block
            raise _bad(path, "there is no such file")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise _bad(path, f"it has {size:,} bytes, at most {_MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise _bad(path, f"it cannot be read ({error.strerror})") from error


def _load(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors by name."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            # A compressed part could be as large as it likes once it is unpacked.
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise _bad(path, "it is compressed, which torch.save never does")
            pickles = [part.file_size for part in parts if part.filename.endswith(".pkl")]
            if max(pickles, default=0) > _MAX_PICKLE_BYTES:
                raise _bad(path, "its description of the tensors is too large")
            sizes = {part.file_size for part in parts}
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except ExpertFormatError:
        raise
    except Exception as error:  # whatever it is that damage makes of reading it
        raise _bad(
            path, f"torch.load(weights_only=True) refuses it ({type(error).__name__})"
        ) from error
    if not isinstance(state, Mapping) or not state:
        raise _bad(path, "it holds no named tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not _is_numbers(value):
            raise _bad(path, f"{key!r:.80} is no tensor of floating numbers")
        # torch believes the size that the description gives, and would read past the data's end.
        if value.untyped_storage().nbytes() not in sizes:
            raise _bad(path, f"the data of {key!r:.80} is not as long as is said")
    return {key: value.detach() for key, value in state.items()}


def _is_numbers(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.is_floating_point()
        and not value.is_meta
        and 1 <= value.dim() <= 2
        and value.numel() <= value.untyped_storage().nbytes() // value.element_size()
    )


def _by_layer(path: Path, state: Mapping[str, Tensor], model: Adaptable) -> dict[str, Tensor]:
    """Module name -> z, before the renormalisation: sigmoid(p), or a mixture of such."""
    if _WEIGHTS in state:
        found = _mixed(path, state, model)
    elif all(map(_LISTED.fullmatch, state)):
        found = {name: torch.sigmoid(p.double()) for name, p in _listed(path, state, model).items()}
    else:
        found = {key.removesuffix(".weight"): torch.sigmoid(p.double()) for key, p in state.items()}
    _check(path, found, model)
    return {name: found[name] for name in model.shapes if name in found}


def _listed(path: Path, state: Mapping[str, Tensor], model: Adaptable) -> dict[str, Tensor]:
    """The entries of a list by the name of the weight that each belongs to."""
    numbered = {int(key.rpartition(".")[2]): p for key, p in state.items()}
    names = [k.removesuffix(".weight") for k in model.model.state_dict() if "mlp" in k]
    if sorted(numbered) != list(range(len(names))):
        raise ExpertMismatchError(
            f"{path} has {len(numbered)} vectors, but {model.name} has {len(names)} MLP weights: "
            "give the base model that it was trained for"
        )
    return {name: numbered[place] for place, name in enumerate(names)}


def _mixed(path: Path, state: Mapping[str, Tensor], model: Adaptable) -> dict[str, Tensor]:
    """sum_k c_k z_k for each weight, c by layer where it was learnt so."""
    names = {f"{name}.weight".replace(".", "_"): name for name in model.shapes}
    experts: dict[str, dict[int, Tensor]] = {}  # in the file's order, which is that of c's columns
    for key, value in state.items():
        if parts := _MIXED.fullmatch(key):
            experts.setdefault(parts[2], {})[int(parts[1])] = value
        elif key != _WEIGHTS:
            raise _bad(path, f"{key!r:.80} does not belong to a few-shot mixture")
    c = state[_WEIGHTS].double()
    count = len(next(iter(experts.values()), {}))
    if c.dim() != 2 or c.shape[0] != count or c.shape[1] not in (1, len(experts)):
        raise _bad(
            path,
            f"{_WEIGHTS} is {tuple(c.shape)}, but there are {count} experts of {len(experts)} "
            "weights",
        )
    c = c.expand(count, len(experts))
    found = {}
    for column, (key, vectors) in enumerate(experts.items()):
        shapes = {vector.shape for vector in vectors.values()}
        if sorted(vectors) != list(range(count)) or [len(shape) for shape in shapes] != [1]:
            raise _bad(path, f"the experts have different vectors for {key!r:.80}")
        stacked = torch.stack([vectors[k].double() for k in range(count)])
        found[names.get(key, key)] = c[:, column] @ stacked
    return found


def _check(path: Path, found: Mapping[str, Tensor], model: Adaptable) -> None:
    """Raise unless there is one finite vector of the right length for each MLP weight."""
    hint = "give the base model that it was trained for, with targets 'all' or 'mlp'"
    for name, value in found.items():
        length = model.shapes.get(name)
        if length is None:
            raise ExpertMismatchError(
                f"{path} has a vector for {name!r:.120}, which is no adapted layer of "
                f"{model.name}: {hint}"
            )
        if tuple(value.shape) != (length,):
            raise ExpertMismatchError(
                f"{path} has {tuple(value.shape)} numbers for {name}, but {model.name} needs "
                f"{length} there: {hint}"
            )
        if not bool(torch.isfinite(value).all()):
            raise _bad(path, f"the vector of {name} holds NaN")
    missing = [name for name in model.shapes if "mlp" in name and name not in found]
    if missing:
        raise ExpertMismatchError(
            f"{path} lacks {len(missing)} MLP weights of {model.name} ({missing[0]}, ...), and "
            f"the authors' programs always write all: {hint}"
        )


def _bad(path: Path, problem: str) -> ExpertFormatError:
    return ExpertFormatError(
        f"{path} is not a usable checkpoint of self-adaptive-llms: {problem}. Give a "
        "learnable_params*.pt or policy_params*.pt as it was written."
    )
