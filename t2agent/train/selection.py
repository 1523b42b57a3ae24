"""Which of a base model's adapted layers are trained."""

from __future__ import annotations

import re
import warnings

from t2agent.errors import ConfigError
from t2agent.models.model import T2Model
from t2agent.svf.targets import choose

_SHOWN = 4


def chosen_layers(model: T2Model, modules: str) -> tuple[str, ...]:
    """Names of the layers of ``model.targets`` that ``modules`` names, in their order.

    modules: "all"; "attention" or "mlp" (of the language part); or a regular expression that is
    searched for in the names.

    Raises:
        ConfigError: there are none.
    """
    layers = tuple(model.targets.layers)
    if modules == "all":
        return layers
    if modules in ("attention", "mlp"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be adapted was named when it was loaded
            inside = choose(model.model, modules).layers
        found = tuple(name for name in layers if name in inside)
    else:
        found = tuple(name for name in layers if re.search(modules, name))
    if not found:
        raise ConfigError(
            f"modules={modules!r} matches none of the {len(layers)} adapted layers of "
            f"{model.name}, such as {', '.join(layers[:_SHOWN])}; give 'all', 'attention', 'mlp' "
            "or a regular expression on these names"
        )
    return found
