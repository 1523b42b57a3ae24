"""A mixture on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from t2agent.experts.mixture import Mixture

Mixing = Annotated[
    list[str] | None,
    typer.Option(
        "--mixture",
        "--of",
        metavar="EXPERT=WEIGHT|JSON|FILE.json",
        help='Several experts as one; may be repeated. As JSON: {"weights": '
        '{"math": 0.7}, "layers": {"model.layers.3": {"math": 0}}}.',
    ),
]


def mixture_of(given: list[str]) -> Mixture:
    """The mixture that the values of ``--mixture`` mean.

    Each is ``EXPERT=WEIGHT``, several of them with commas or spaces between, a JSON object, or a
    file that holds one. Only one may be JSON, and then alone.

    Raises:
        ConfigError: a value is none of these.
    """
    from t2agent.experts.mixture import Mixture

    if len(given) == 1 and (given[0].lstrip().startswith("{") or given[0].endswith(".json")):
        inline = given[0].lstrip().startswith("{")
        try:
            text = given[0] if inline else Path(given[0]).read_text(encoding="utf-8")
            return Mixture.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--mixture {given[0]:.80} is no mixture in JSON: {error}") from error
    weights: dict[str, float] = {}
    for part in re.split(r"[,\s]+", ",".join(given).strip(", \t\n")):
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
