"""The lowest versions that pyproject.toml allows of what t2agent imports, as pip's constraints.

    python tests/lowest_versions.py > lowest.txt

torch alone stays at the version of constraints.txt, of which the index has a build for processors;
so do the tools of development, which users do not need.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("torch",)


def lowest() -> Iterator[str]:
    """A line for each package: the newest version of the lowest series."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    wanted += [line for name, lines in extras.items() if name != "dev" for line in lines]
    for requirement in map(Requirement, dict.fromkeys(wanted)):
        if requirement.name not in KEPT:
            [bound] = [one.version for one in requirement.specifier if one.operator == ">="]
            yield f"{requirement.name}=={bound}.*"


if __name__ == "__main__":
    print(*lowest(), sep="\n")
