"""The registry and the experts that commands name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2agent.experts.expert import Expert
    from t2agent.experts.registry import Registry


def registry_of(model: str) -> Registry:
    """The registry of a base model that need not be loaded, looked through without warnings."""
    from t2agent.experts.registry import Registry

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
