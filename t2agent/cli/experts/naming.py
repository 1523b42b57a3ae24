"""The registry, the experts and the mixtures that commands name."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert
    from t2agent.experts.mixture import Mixture
    from t2agent.experts.registry import Registry


def registry_of(model: str, *, there: bool = True) -> Registry:
    """The registry of a base model that need not be loaded, looked through without warnings.

    Raises ConfigError where the model is a path at which nothing is, unless ``there`` is False.
    """
    from t2agent.experts.registry import Registry
    from t2agent.paths import check_there

    if there:
        check_there(model)
    registry = Registry(model)
    with warnings.catch_warnings():
        # Experts that cannot be used are named by `experts list`.
        warnings.simplefilter("ignore")
        registry.names()
    return registry


def expert_of(registry: Registry, name: str) -> Expert:
    """The registry's expert of that name, or else the one in the folder of that path.

    Raises:
        ExpertNotFoundError: there is neither.
        ExpertFormatError, ExpertMismatchError: it cannot be used.
    """
    from t2agent.experts.expert import Expert

    if name not in registry and Path(name).is_dir():
        return Expert.load(name)
    return registry.get(name)


def check_free(registry: Registry, name: str, *, replace: bool) -> None:
    """Raise, before any work, where an expert cannot be registered under a name.

    Raises:
        ConfigError: it is no name.
        ExpertExistsError: it is taken, and `replace` is False.
    """
    from t2agent.errors import ExpertExistsError
    from t2agent.experts.card import check_name

    check_name(name)
    if not replace and name in registry:
        raise ExpertExistsError(
            f"an expert {name!r} is registered for {registry.base!r} already "
            f"({registry.source(name)}); give another name, or --replace"
        )


_BETWEEN = re.compile(r"[,\s]+|\+(?=[^=+,\s]+=)")  # a plus sign may be of a number, as in 1e+3

Mixing = Annotated[
    list[str] | None,
    typer.Option(
        "--mixture",
        "--of",
        metavar="EXPERT=WEIGHT|JSON|FILE.json",
        help='Several experts as one, as math=0.7+code=0.3; may be repeated. As JSON: {"weights": '
        '{"math": 0.7}, "layers": {"model.layers.3": {"math": 0}}}.',
    ),
]


def mixture_of(values: list[str]) -> Mixture:
    """The mixture that the values of ``--mixture`` mean.

    Each is ``EXPERT=WEIGHT``, several of them with commas, spaces or plus signs between, a JSON
    object, or a file that holds one. Only one may be JSON, and then alone.

    Raises:
        ConfigError: a value is none of these.
    """
    from t2agent.experts.mixture import Mixture

    if len(values) == 1 and (values[0].lstrip().startswith("{") or values[0].endswith(".json")):
        inline = values[0].lstrip().startswith("{")
        try:
            text = values[0] if inline else Path(values[0]).read_text(encoding="utf-8")
            return Mixture.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"--mixture {values[0]:.80} is no mixture in JSON: {error}"
            ) from error
    weights: dict[str, float] = {}
    for part in _BETWEEN.split(",".join(values).strip(", \t\n")):
        expert, equals, weight = part.partition("=")
        if expert in weights:
            raise ConfigError(f"--mixture has {expert!r:.80} twice; give each expert once")
        try:
            weights[expert] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not expert:
            raise ConfigError(f"--mixture has {part!r:.80}; give EXPERT=WEIGHT, such as math=0.7")
    return Mixture(weights)
