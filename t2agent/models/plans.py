"""From what a user asks for to what is done to each layer: mixtures become plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakSet

from t2agent.errors import ConfigError
from t2agent.experts.cache import ExpertCache
from t2agent.experts.compatibility import BaseModel
from t2agent.experts.expert import Expert, Mixture, MixtureLike, as_mixture
from t2agent.svf.rows import RowIndex
from t2agent.svf.transform import LayerDelta, Plan, Term

Key = tuple[object, ...]


class Resolved(NamedTuple):
    """A mixture and the experts that it names."""

    mixture: Mixture
    experts: tuple[Expert, ...]

    @property
    def key(self) -> Key:
        """Equal for the same experts, by identity and state, in the same mixture."""
        state = tuple((e, *(z._version for z in e.z.values())) for e in self.experts)
        return (self.mixture, state)


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans for the layers of one base model.

    shapes: module name -> length of z. routed: names of layers behind a router, in which the rows
    of a batch are mixed. find: an expert by name. fingerprint: of the base model, asked for only
    where an expert names one. cache: keeps the plans. name: of the base model, for messages.
    """

    shapes: Mapping[str, int]
    routed: frozenset[str]
    name: str
    find: Callable[[str], Expert]
    fingerprint: Callable[[], str]
    cache: ExpertCache[Plan]
    _checked: WeakSet[Expert] = field(init=False, default_factory=WeakSet)

    def resolve(self, what: MixtureLike | Resolved) -> Resolved:
        """A mixture and its experts, checked against the base model; what is resolved stays.

        Raises ExpertNotFoundError for an unknown name, ExpertMismatchError for an expert of
        another base model and ExpertFormatError for one with NaN or infinity.
        """
        if isinstance(what, Resolved):
            return what
        mixture, given = as_mixture(what)
        experts = []
        for name in sorted(mixture.experts()):
            expert = given[name] if name in given else self.find(name)
            self._check(expert)
            experts.append(expert)
        return Resolved(mixture, tuple(experts))

    def one(self, what: MixtureLike | Resolved) -> tuple[Resolved, Plan]:
        """The plan of one mixture for all rows."""
        resolved = self.resolve(what)
        return resolved, self._plan([resolved], None)

    def rows(self, wanted: Sequence[MixtureLike | Resolved]) -> Plan:
        """The plan of one mixture for each row of a batch.

        Raises ConfigError for an empty list, or where a layer behind a router would have to
        tell rows with different mixtures apart.
        """
        if not wanted:
            raise ConfigError("an empty list of mixtures was given: one for each row is needed")
        plan = self._plan([self.resolve(what) for what in wanted], len(wanted))
        routed = self.routed & plan.deltas.keys()
        if plan.rows is not None and routed:
            raise ConfigError(
                f"{min(routed)} is reached through a router, which mixes the rows of a batch: "
                "run the rows one at a time, or with one mixture"
            )
        return plan

    def _plan(self, rows: Sequence[Resolved], batch: int | None) -> Plan:
        keys = [resolved.key for resolved in rows]
        key: Key = (batch, *keys)
        found = self.cache.plan(key)
        if found is not None:
            return found
        different = dict(zip(keys, rows, strict=True))
        order = list(different)
        groups = tuple(order.index(k) for k in keys)
        index = RowIndex(groups) if len(order) > 1 else None
        experts = dict.fromkeys(expert for one in different.values() for expert in one.experts)
        plan = Plan(self._deltas(list(different.values()), index), index, batch, tuple(experts))
        self.cache.put(key, plan)
        return plan

    def _deltas(
        self, mixtures: Sequence[Resolved], index: RowIndex | None
    ) -> dict[str, LayerDelta]:
        deltas = {}
        for name, size in self.shapes.items():
            terms: list[list[Term]] = []
            for mixture, experts in mixtures:
                weights = mixture.coefficients(name)
                terms.append(
                    [
                        (weights[e.name], e.z[name])
                        for e in experts
                        if e.name in weights and name in e.z
                    ]
                )
            if any(terms):
                deltas[name] = LayerDelta(terms, size, index)
        return deltas

    def _check(self, expert: Expert) -> None:
        if expert in self._checked:
            return
        # A fingerprint takes a look at all weights: only where the expert names one.
        fingerprint = self.fingerprint() if expert.card.base_fingerprint else ""
        base = BaseModel(self.name, fingerprint, self.shapes)
        if (problem := base.misfit(expert.card, expert.lengths)) is not None:
            raise problem
        expert.check_finite()
        self._checked.add(expert)
