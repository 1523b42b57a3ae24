"""Carrying an expert over to another base model: the paper's cross-model experiment.

Source: Transformer-Squared (arXiv 2501.06252), section 4: z vectors learnt on one model are applied
to another, module by module and direction by direction, in the order of falling singular values.
The paper does so between models of the same shapes. What is done here where shapes differ is no
more than a stated rule; whether it helps has to be measured (`t2agent experts eval`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch

from t2agent.errors import ConfigError, ExpertMismatchError
from t2agent.experts.card import ExpertCard
from t2agent.experts.expert import Expert
from t2agent.experts.module_names import Place, depths, place
from t2agent.paths import public_name

if TYPE_CHECKING:
    from torch import Tensor

    from t2agent.experts.expert import Adaptable

METHOD = "transfer"
"""What the card of a transferred expert says under ``training["method"]``."""

LayerRule = Literal["depth", "index"]
DirectionRule = Literal["rank", "relative"]

_SHOWN = 3  # module names in a message


class Match(NamedTuple):
    """A module of the new base model and the one that its vector is from.

    layer_kept: whether it is the layer of the same number. source_length, length: of the vectors.
    moved: how many values of the source's are not 1; kept: of the new vector's.
    """

    module: str
    source: str
    layer_kept: bool
    source_length: int
    length: int
    moved: int
    kept: int


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What matched in a transfer.

    Attributes:
        layers, directions: the rules.
        depths: stack of layers (such as "layers") -> how many the old and the new base have.
        matches: one for each module that got a vector.
        unused: modules of the expert that nothing in the new base model took.
        untouched: adapted modules of the new base that nothing matched; they stay as they are.
        moved: values of the expert that are not 1.
        kept_directions: share of these that are somewhere in the result, 0 to 1.
        kept_norm: the same, each counted by (z - 1)^2.
    """

    layers: LayerRule
    directions: DirectionRule
    depths: Mapping[str, tuple[int, int]]
    matches: tuple[Match, ...]
    unused: tuple[str, ...]
    untouched: tuple[str, ...]
    moved: int
    kept_directions: float
    kept_norm: float

    @property
    def exact(self) -> bool:
        """Whether each vector went whole to the same layer, of as many, and none was left out."""
        whole = all(match.source_length == match.length for match in self.matches)
        return whole and not self.unused and all(old == new for old, new in self.depths.values())

    def counts(self) -> dict[str, int]:
        """How many modules matched, and how."""
        same = sum(match.layer_kept for match in self.matches)
        return {
            "same layer": same,
            "other layer": len(self.matches) - same,
            "cut": sum(m.length < m.source_length for m in self.matches),
            "extended": sum(m.length > m.source_length for m in self.matches),
            "unused": len(self.unused),
            "untouched": len(self.untouched),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the single matches."""
        return {
            "exact": self.exact,
            "layers": self.layers,
            "directions": self.directions,
            "depths": {stack: list(pair) for stack, pair in self.depths.items()},
            "modules": self.counts(),
            "kinds unused": _kinds(self.unused),
            "kinds untouched": _kinds(self.untouched),
            "moved": self.moved,
            "kept_directions": self.kept_directions,
            "kept_norm": self.kept_norm,
        }


class Transferred(NamedTuple):
    """The new expert, not registered yet, and what matched."""

    expert: Expert
    report: TransferReport


def transfer(
    expert: Expert,
    model: Adaptable,
    *,
    name: str | None = None,
    layers: LayerRule = "depth",
    directions: DirectionRule = "rank",
    source_layers: int | None = None,
) -> Transferred:
    """An expert of one base model as an expert of another.

    Modules match by what they are within their layer ("self_attn.q_proj"), whatever wraps the
    language model. Between models of the same shapes each vector is taken over as it is. Else:

    - layers, L in the old base and T in the new. "depth": layer j takes the layer at the nearest
      relative depth, j (L - 1) / (T - 1) rounded to a whole number (halves up); the only layer of a
      new base takes the middle one. "index": layer j takes layer j, and those from L on stay as
      they are. By "depth", a layer of a shallow base may serve several layers of a deep one and so
      act several times: `0.5 * expert` is then a thing to try.
    - directions, r in the old module and t in the new. "rank": value i takes value i, and those
      from r on stay 1. "relative": value i takes the value at the nearest relative rank,
      i (r - 1) / (t - 1) rounded as above.

    The card is the old one with the new base model; ``training`` names the old base, its
    fingerprint, the rules and the shares that were kept. Scores are left out: none was measured
    here.

    Args:
        expert: of any base model. That model need not be at hand.
        model: the new base model; a `T2Model`.
        name: of the new expert; the old name if not given.
        layers, directions: the rules.
        source_layers: how many layers the old base has, where the expert's vectors do not reach to
            its last one. It is said of the stack of layers that has most of the vectors.

    Raises:
        ExpertMismatchError: no module matches; the message names some of both.
        ExpertFormatError: the expert holds NaN or infinity.
        ConfigError: there is no such rule, or too few source_layers.
    """
    for what, given, kind in (
        ("layers", layers, LayerRule),
        ("directions", directions, DirectionRule),
    ):
        if given not in get_args(kind):
            raise ConfigError(f"{what} is {given!r}; give one of {', '.join(get_args(kind))}")
    expert.check_finite()
    old, new = _depths(expert, source_layers), depths(model.shapes)
    by_place: dict[Place, str] = {}
    for module in expert.z:
        by_place.setdefault(place(module), module)
    used: dict[str, list[Tensor]] = {}
    matches, vectors = [], {}
    for module, length in model.shapes.items():
        source, layer_kept = _source(module, expert, by_place, old, new, layers)
        if source is None:
            continue
        z = expert.z[source].detach().cpu()
        index = _indices(len(z), length, directions)
        vectors[module] = torch.ones(length)
        vectors[module][: len(index)] = z[index]
        used.setdefault(source, []).append(index)
        matches.append(
            Match(module, source, layer_kept, len(z), length, _moved(z), _moved(vectors[module]))
        )
    if not matches:
        raise ExpertMismatchError(
            f"nothing of expert {expert.name!r}, made for {expert.card.base or 'a base model'!r}, "
            f"matches {model.name!r}: it has vectors for {_some(expert.z)}, and the adapted layers "
            f"there are {_some(model.shapes)}. Train an expert for that base model instead"
        )
    stacks = {place(match.module).stack for match in matches} - {""}
    report = TransferReport(
        layers,
        directions,
        {stack: (old[stack], new[stack]) for stack in sorted(stacks)},
        tuple(matches),
        tuple(module for module in expert.z if module not in used),
        tuple(module for module in model.shapes if module not in vectors),
        sum(map(_moved, expert.z.values())),
        *_kept(expert, used),
    )
    return Transferred(Expert(_card(expert, model, name, report), vectors), report)


def _source(
    module: str,
    expert: Expert,
    by_place: Mapping[Place, str],
    old: Mapping[str, int],
    new: Mapping[str, int],
    rule: LayerRule,
) -> tuple[str | None, bool]:
    """The expert's module that a module takes its vector from; whether that is of its layer."""
    at = place(module)
    if at.layer is None or at.stack not in old:
        source = module if module in expert.z else by_place.get(at)
        return source, True
    layer = at.layer if rule == "index" else _nearest(at.layer, old[at.stack], new[at.stack])
    if layer == at.layer and module in expert.z:
        return module, True
    return by_place.get(at._replace(layer=layer)), layer == at.layer


def _nearest(position: int, old: int, new: int) -> int:
    """Which of ``old`` places is nearest, relatively, to one of ``new``."""
    if new == 1:
        return (old - 1) // 2
    # floor(x + 1/2) of x = position (old - 1) / (new - 1), in whole numbers.
    return (2 * position * (old - 1) + new - 1) // (2 * (new - 1))


def _indices(old: int, new: int, rule: DirectionRule) -> Tensor:
    """The old values that the first of the new ones take."""
    if rule == "rank":
        return torch.arange(min(old, new))
    return torch.tensor([_nearest(k, old, new) for k in range(new)])


def _depths(expert: Expert, source_layers: int | None) -> dict[str, int]:
    layers = depths(expert.z)
    if source_layers is None:
        return layers
    counted = Counter(at.stack for at in map(place, expert.z) if at.layer is not None)
    stack = max(counted, key=lambda stack: counted[stack], default=None)
    least = 0 if stack is None else layers[stack]
    if stack is None or source_layers < least:
        raise ConfigError(
            f"source_layers is {source_layers}, but expert {expert.name!r} has vectors for "
            f"{least} layers"
        )
    return {**layers, stack: source_layers}


def _kept(expert: Expert, used: Mapping[str, list[Tensor]]) -> tuple[float, float]:
    """The shares of the moved directions that went over: by number and by (z - 1)^2."""
    sums = torch.zeros(2, 2, dtype=torch.float64)  # kept, whole; by number, by square
    for module, z in expert.z.items():
        change = z.detach().cpu().double() - 1
        indices = torch.cat(used.get(module, [torch.arange(0)])).unique()
        for row, part in zip(sums, (change[indices], change), strict=True):
            row += torch.stack([(part != 0).sum().double(), part.square().sum()])
    kept, whole = sums.tolist()
    return (kept[0] / whole[0], kept[1] / whole[1]) if whole[0] else (1.0, 1.0)


def _moved(z: Tensor) -> int:
    return int((z != 1).sum())


def _card(expert: Expert, model: Adaptable, name: str | None, report: TransferReport) -> ExpertCard:
    card = expert.card
    return replace(
        card,
        name=card.name if name is None else name,
        base=model.name,
        base_fingerprint=model.fingerprint,
        training={
            "method": METHOD,
            "expert": card.name,
            "sha256": expert.digest(),
            "base": public_name(card.base),
            "base_fingerprint": card.base_fingerprint,
            "report": report.to_dict(),
            "training": dict(card.training),
        },
        scores={},
    )


def _kinds(modules: tuple[str, ...]) -> list[str]:
    return sorted({place(module).kind for module in modules})


def _some(modules: Mapping[str, object]) -> str:
    kinds = _kinds(tuple(modules))
    more = f" and {len(kinds) - _SHOWN} more kinds" if len(kinds) > _SHOWN else ""
    return f"{', '.join(kinds[:_SHOWN])}{more}"
