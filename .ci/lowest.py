"""Prints pip's constraints for the lowest versions that pyproject.toml allows, one a line.

    python .ci/lowest.py [EXTRA]...      # of the package's own dependencies and of these extras

torch, and what the tests need besides, stay at the versions of constraints.txt: builds of torch
differ by machine. A range without one lower bound is an error.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
AS_PINNED = {"hypothesis", "openai", "pytest", "pytest-asyncio", "ruff", "torch"}


def lowest(requirement: str) -> Requirement:
    """The requirement at its lower bound: "rich>=13.9,<16" gives "rich==13.9"."""
    wanted = Requirement(requirement)
    bounds = [one.version for one in wanted.specifier if one.operator in (">=", "==", "~=")]
    if len(bounds) != 1:
        sys.exit(f"{requirement!r} in pyproject.toml has no lower bound: write {wanted.name}>=...")
    return Requirement(f"{wanted.name}=={bounds[0]}")


def constraints(extras: list[str]) -> list[str]:
    """One line for each package, in the order of their names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered = project["optional-dependencies"]
    if unknown := set(extras) - set(offered):
        sys.exit(f"no extra {', '.join(sorted(unknown))}: there are {', '.join(offered)}")
    wanted = [*project["dependencies"], *(one for name in extras for one in offered[name])]
    found = {one.name: one for one in map(lowest, wanted) if one.name not in AS_PINNED}
    pinned = map(Requirement, (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    found |= {one.name: one for one in pinned if one.name in AS_PINNED}
    return [str(found[name]) for name in sorted(found, key=str.lower)]


if __name__ == "__main__":
    print("\n".join(constraints(sys.argv[1:])))
