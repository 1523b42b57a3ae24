"""Prints the lowest version that pyproject.toml allows of each direct dependency, one a line.

    python .ci/lowest.py [EXTRA]...      # of the package itself, and of these extras

A range without a lower bound is an error: nobody could say what its lowest version is.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirement: str) -> str:
    """The requirement pinned to its lower bound: "rich>=13.9,<16" gives "rich==13.9"."""
    wanted = Requirement(requirement)
    bounds = [one.version for one in wanted.specifier if one.operator in (">=", "==", "~=")]
    if len(bounds) != 1:
        sys.exit(f"{requirement!r} in {PROJECT.name} has no one lower bound: write name>=version")
    return f"{wanted.name}=={bounds[0]}"


def main(extras: list[str]) -> None:
    """Prints them, each name once."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    offered = project["optional-dependencies"]
    if unknown := set(extras) - set(offered):
        sys.exit(f"no extra {', '.join(sorted(unknown))}: there are {', '.join(offered)}")
    wanted = [*project["dependencies"], *(one for name in extras for one in offered[name])]
    print("\n".join(sorted({lowest(one) for one in wanted}, key=str.lower)))


if __name__ == "__main__":
    main(sys.argv[1:])
