"""Requests that ship with t2agent: of three domains, and general ones.

They lie in ``experts/examples``, one JSON object a line: prompt, source, kind. Where they come
from and under which licences is told in ATTRIBUTION.md beside them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path

from t2agent.errors import ConfigError
from t2agent.paths import bundled

DOMAINS = ("code", "math", "reasoning")
GENERAL = "general"
WRITTEN = "t2agent"
"""The source of prompts that were written for this project, after no data set."""


@dataclass(frozen=True, slots=True)
class ShippedRequest:
    """One request, the data set or project it is from, and its kind within the domain."""

    prompt: str
    source: str
    kind: str


def examples_folder() -> Path:
    """Where the shipped requests lie."""
    return bundled("experts") / "examples"


@cache
def shipped_requests(domain: str) -> tuple[ShippedRequest, ...]:
    """All shipped requests of a domain ("code", "math", "reasoning"), or the "general" ones.

    Raises:
        ConfigError: there is no such domain, or the installation lacks the file.
    """
    if domain not in (*DOMAINS, GENERAL):
        known = ", ".join((*DOMAINS, GENERAL))
        raise ConfigError(f"there are no example requests of domain {domain!r}; choose of {known}")
    path = examples_folder() / f"{domain}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error}); install t2agent again") from error
    return tuple(ShippedRequest(**json.loads(line)) for line in lines if line)


def written_requests(domain: str) -> list[str]:
    """The prompts of a domain that were written for this project.

    Raises ConfigError as `shipped_requests`.
    """
    return [r.prompt for r in shipped_requests(domain) if r.source == WRITTEN]


def real_examples(domain: str, n: int | None = None) -> list[str]:
    """Prompts for an expert's card, of many kinds; `n` of them take the kinds in turn.

    Raises:
        ConfigError: there is no such domain, or n is not at least 1.
    """
    if n is not None and n < 1:
        raise ConfigError(f"n is {n}; ask for at least 1 example, or None for all")
    by_kind: dict[str, list[str]] = {}
    for request in shipped_requests(domain):
        by_kind.setdefault(request.kind, []).append(request.prompt)
    turns = zip_longest(*(by_kind[kind] for kind in sorted(by_kind)))
    return [prompt for turn in turns for prompt in turn if prompt is not None][:n]
