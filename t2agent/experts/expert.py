"""Experts: named vectors z for the singular values of a base model's weights.

Source: Transformer-Squared (arXiv 2501.06252), eq. 1: W' = U diag(s * z) V^T, and only z is
learnt. The folder format is in `t2agent.experts.folder`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from t2agent.errors import ConfigError, ExpertFormatError
from t2agent.experts import algebra, hub
from t2agent.experts import folder as expert_folder
from t2agent.experts.card import ExpertCard, Modality
from t2agent.experts.compatibility import common_base
from t2agent.experts.hub import HubOptions, Pushed
from t2agent.experts.mixture import Mixture
from t2agent.experts.pins import Address
from t2agent.paths import public_name

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["Expert", "ExpertCard", "Mixture", "MixtureLike", "Modality", "as_mixture"]


R_co = TypeVar("R_co", covariant=True)


class LoraExporter(Protocol[R_co]):
    """What writes an expert as a LoRA adapter; `t2agent.T2Model` is one."""

    def export_lora(self, what: Expert, folder: Path | str, /, **options: Any) -> R_co: ...


class Adaptable(Protocol):
    """What an expert has to know of a base model; `t2agent.T2Model` is one."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def shapes(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Expert:
    """Named z vectors for a base model.

    ``z`` maps the name of each adapted module to a float32 vector of length r = min(m, n), where
    the module's weight is m x n. The very tensors given are kept, so that a trainer can pass
    parameters and take gradients through `T2Model.adapted`. Modules that are not named are not
    changed. Two experts are equal only if they are the same object.

    Experts can be added and multiplied by numbers: ``a + b``, ``a - b``, ``-a``, ``2 * a``,
    ``a / 2``, ``sum``. A module that one side does not name counts as z = 1 there. The result lies
    on the CPU, without gradients; its vectors are summed in float64 and kept in float32. Its card
    says which experts it is made of, in ``training["terms"]``; it has the example requests of those
    that are added, and no scores. Its name is made from theirs, such as "0.7-math-plus-0.3-json";
    `renamed` gives it one of its own. Experts of different base models raise ExpertMismatchError,
    a factor that is not finite ConfigError.

    Raises:
        ConfigError: there is no vector, or one is not a float32 tensor of one dimension.
    """

    card: ExpertCard
    z: Mapping[str, Tensor]

    __array_ufunc__ = None  # NumPy's numbers leave `number * expert` to the expert

    def __post_init__(self) -> None:
        import torch

        if not isinstance(self.card, ExpertCard):
            raise ConfigError(f"card is a {type(self.card).__name__}; give an ExpertCard")
        if not isinstance(self.z, Mapping) or not self.z:
            raise ConfigError(f"expert {self.card.name!r} has no vectors; give {{module: vector}}")
        for name, vector in self.z.items():
            if not isinstance(name, str) or not name or name == "__metadata__":
                raise ConfigError(f"z of expert {self.card.name!r} has the key {name!r}")
            if not isinstance(vector, torch.Tensor):
                raise ConfigError(f"z of {name!r} is a {type(vector).__name__}; give a tensor")
            dense = vector.layout == torch.strided and not vector.is_meta
            if vector.dtype != torch.float32 or vector.ndim != 1 or not len(vector) or not dense:
                raise ConfigError(
                    f"z of {name!r} is {vector.dtype} {tuple(vector.shape)} on {vector.device}, "
                    f"{vector.layout}; give a dense float32 vector of length min(out, in)"
                )
        object.__setattr__(self, "z", MappingProxyType(dict(self.z)))

    def __repr__(self) -> str:
        return f"Expert({self.card.name!r}, {self.parameters:,} parameters)"

    def __reduce__(self) -> tuple[type[Expert], tuple[ExpertCard, dict[str, Tensor]]]:
        return Expert, (self.card, dict(self.z))

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def parameters(self) -> int:
        """How many numbers the expert has."""
        return sum(len(vector) for vector in self.z.values())

    @property
    def lengths(self) -> dict[str, int]:
        """Module name -> length of its vector."""
        return {name: len(vector) for name, vector in self.z.items()}

    def digest(self) -> str:
        """SHA-256 of the vectors as they are now: that of the file that `save` would write."""
        return hashlib.sha256(expert_folder.pack(self.z)).hexdigest()

    def answering(self) -> str:
        """A hash of what answers depend on: the vectors, and of the card what generation reads. For
        caches."""
        card = self.card
        told = [self.digest(), card.step, card.caution, card.beams, card.grounding]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @classmethod
    def identity(cls, model: Adaptable, name: str) -> Expert:
        """The expert that changes nothing, z = 1 everywhere: where training starts."""
        import torch

        card = ExpertCard(name, base=model.name, base_fingerprint=model.fingerprint)
        return cls(card, {module: torch.ones(n) for module, n in model.shapes.items()})

    @classmethod
    def load(cls, folder: Path | str) -> Expert:
        """Read an expert from its folder. The folder need not be trusted.

        Raises:
            ExpertFormatError: a file is missing, damaged, too large or not in this format.
        """
        return load_with_digest(folder)[0]

    def save(self, folder: Path | str) -> None:
        """Write the expert as ``folder``, replacing the expert that may be there.

        Nothing of the replaced folder is kept. A process killed meanwhile leaves the old expert
        or the new one.

        Raises:
            ExpertFormatError: a vector holds NaN or infinity.
            ConfigError: ``folder`` holds something that is not an expert.
        """
        self.check_finite()
        expert_folder.write(folder, expert_folder.contents(self.card, self.z))

    @classmethod
    def from_pretrained(
        cls,
        repo: Path | str,
        *,
        revision: str | None = None,
        subfolder: str = "",
        token: str | bool | None = None,
        endpoint: str | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
    ) -> Expert:
        """Load an expert from the Hub, or from the cache of downloads, or from a folder.

        Args:
            repo: "user/name" or "user/name@revision"; or a folder, as for `load`.
            revision: a branch, a tag or a commit; the main branch if not given.
            subfolder: the folder in the repository, where it holds several experts.
            token, endpoint, cache_dir, local_files_only: as `t2agent.experts.hub.HubOptions`.

        Raises:
            ExpertNotFoundError: there is no such repository (for this token), revision or folder.
            ExpertFormatError: what is there is no expert, damaged, or too large.
            HubError: the Hub cannot be reached or refuses, and the cache does not have it.
            ConfigError: ``repo``, ``revision`` or ``subfolder`` cannot be such.
        """
        if not isinstance(repo, str | os.PathLike):
            return cls.load(repo)  # says what is wrong with it
        if not isinstance(repo, str) or Address.is_folder(repo):
            if revision is not None:
                raise ConfigError(
                    f"{repo!r:.120} is a folder, which has no revision {revision!r:.80}; leave "
                    "revision out, or give a repository of the Hub ('user/name')"
                )
            return cls.load(os.path.join(os.path.expanduser(repo), subfolder))
        address = Address.parse(repo, revision, subfolder)
        options = HubOptions(
            token=token, endpoint=endpoint, cache_dir=cache_dir, local_files_only=local_files_only
        )
        return from_files(hub.fetch(address, options)[0], str(address))

    def push_to_hub(
        self,
        repo: str,
        *,
        revision: str | None = None,
        subfolder: str = "",
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        endpoint: str | None = None,
    ) -> Pushed:
        """Put the expert on the Hub, in one commit: vectors, card, and README made of the card.

        The repository and the branch are made where there are none. Files of the same names are
        replaced, others stay. Of a base model's path only the last part is told.

        Args:
            repo: "user/name" or "user/name@branch".
            revision: the branch; the main one if not given.
            subfolder: the folder in the repository, where it holds several experts.
            private: whether a new repository is; None leaves it to your settings on the Hub.
            token, endpoint: as `t2agent.experts.hub.HubOptions`.
            commit_message: "Upload expert NAME" if not given.

        Raises:
            HubError: the Hub cannot be reached or refuses; nothing was committed.
            ExpertFormatError: a vector holds NaN or infinity.
            ConfigError: ``repo`` cannot be such, or ``private`` and it is public already.
        """
        self.check_finite()
        card = dataclasses.replace(self.card, base=public_name(self.card.base))
        return hub.push(
            Address.parse(repo, revision, subfolder),
            expert_folder.contents(card, self.z),
            commit_message or f"Upload expert {self.name}",
            private,
            HubOptions(token=token, endpoint=endpoint),
        )

    def to_lora(self, model: LoraExporter[R_co], folder: Path | str, **options: Any) -> R_co:
        """Write the expert as a PEFT LoRA adapter: `T2Model.export_lora`, whose options it takes.

        Raises as that.
        """
        return model.export_lora(self, folder, **options)

    def __add__(self, other: object) -> Expert:
        return self._sum(1.0, other) if isinstance(other, Expert) else NotImplemented

    def __radd__(self, other: object) -> Expert:
        # sum() starts from 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: object) -> Expert:
        return self._sum(-1.0, other) if isinstance(other, Expert) else NotImplemented

    def __neg__(self) -> Expert:
        return self._times(-1.0)

    def __mul__(self, factor: object) -> Expert:
        return self._times(float(factor)) if algebra.is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Expert:
        return self._times(1.0 / float(divisor)) if algebra.is_number(divisor) else NotImplemented

    def renamed(self, name: str, **changes: Any) -> Expert:
        """The same vectors under another name, and with other fields of the card where given.

        Raises ConfigError for what cannot be on a card.
        """
        return Expert(dataclasses.replace(self.card, name=name, **changes), self.z)

    def _sum(self, sign: float, other: Expert) -> Expert:
        base, fingerprint = common_base([self, other])
        terms = [*self._terms(), *(t._replace(weight=sign * t.weight) for t in other._terms())]
        one, two = self.card, other.card
        examples = one.examples + (two.examples if sign > 0 else ())
        card = ExpertCard(
            "sum",
            examples=tuple(dict.fromkeys(examples)),
            modality=one.modality if one.modality == two.modality else "image",
            base=base,
            base_fingerprint=fingerprint,
            license=one.license if one.license == two.license else "",
        )
        return Expert(algebra.told(card, terms), algebra.combined([(1.0, self.z), (sign, other.z)]))

    def _times(self, factor: float) -> Expert:
        if not math.isfinite(factor):
            raise ConfigError(
                f"expert {self.card.name!r} was multiplied by {factor}; a factor is a finite number"
            )
        terms = [term._replace(weight=factor * term.weight) for term in self._terms()]
        examples = self.card.examples if factor > 0 else ()
        card = dataclasses.replace(self.card, examples=examples, scores={})
        return Expert(algebra.told(card, terms), algebra.combined([(factor, self.z)]))

    def _terms(self) -> list[algebra.Term]:
        """What the expert is a sum of: itself, unless arithmetic made it and nobody named it."""
        if self.card.training.get("method") == algebra.METHOD:
            terms = algebra.terms_of(self.card.training.get("terms"))
            if algebra.name_of(terms) == self.card.name:
                return terms
        return [algebra.Term(1.0, self.card.name, self.digest())]

    def check_finite(self) -> None:
        """Raise ExpertFormatError where a vector holds NaN or infinity."""
        import torch

        for name, vector in self.z.items():
            if not bool(torch.isfinite(vector).all()):
                raise ExpertFormatError(
                    f"z of {name!r} in expert {self.name!r} holds NaN or infinity; "
                    "train it again, with a smaller learning rate"
                )


def load_with_digest(folder: Path | str) -> tuple[Expert, str]:
    """`Expert.load`, and the SHA-256 of the file that the vectors were read from."""
    import torch

    config, z = expert_folder.read(folder)
    tensors = {module: torch.tensor(vector) for module, vector in z.items()}
    return Expert(config.card, tensors), config.sha256


def from_files(files: Mapping[str, bytes], where: str) -> Expert:
    """The expert of these files (name -> content), which need not be trusted.

    Raises:
        ExpertFormatError: they are damaged; the message says that they are from ``where``.
    """
    with tempfile.TemporaryDirectory(prefix="t2agent-") as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        try:
            return Expert.load(folder)
        except ExpertFormatError as error:
            raise ExpertFormatError(str(error).replace(folder, where)) from error


MixtureLike = Mixture | str | Expert | Mapping[str, float] | None


def as_mixture(what: MixtureLike) -> tuple[Mixture, dict[str, Expert]]:
    """What may stand for a mixture, as a mixture and the experts that were given themselves.

    A name or an expert means weight 1, None the base model.

    Raises:
        ConfigError: it is not a mixture, a name, an expert, ``{name: weight}`` or None.
    """
    if what is None:
        return Mixture(), {}
    if isinstance(what, Mixture):
        return what, {}
    if isinstance(what, str):
        return Mixture({what: 1.0}), {}
    if isinstance(what, Expert):
        return Mixture({what.name: 1.0}), {what.name: what}
    if isinstance(what, Mapping):
        return Mixture(what), {}
    raise ConfigError(
        f"{type(what).__name__} is not a mixture; give a name, an Expert, {{name: weight}}, "
        "a Mixture, or None for the base model"
    )
