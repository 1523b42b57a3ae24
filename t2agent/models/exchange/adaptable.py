"""What the exchange of experts asks of a base model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from t2agent.experts import expert

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from t2agent.experts.expert import MixtureLike
    from t2agent.models.plans import Resolved
    from t2agent.svf.basis import Basis
    from t2agent.svf.targets import Targets


class Adaptable(expert.Adaptable, Protocol):
    """The part of `t2agent.T2Model` that is exported, and onto whose weights others' are projected.

    The members are those of `T2Model`, which offers the exports itself: it cannot be named here.
    """

    model: PreTrainedModel
    processor: Any
    targets: Targets

    @property
    def modalities(self) -> frozenset[str]: ...  # noqa: D102
    @property
    def bases(self) -> Mapping[str, Basis]: ...  # noqa: D102
    @property
    def writable(self) -> bool: ...  # noqa: D102
    def decompose(self, progress: bool = True) -> None: ...  # noqa: D102
    def resolve(self, what: MixtureLike) -> Resolved: ...  # noqa: D102
    def deltas(self, what: MixtureLike) -> dict[str, Tensor]: ...  # noqa: D102
    def merged(  # noqa: D102
        self, what: MixtureLike, *, keep: bool = True
    ) -> AbstractContextManager[Any]: ...
