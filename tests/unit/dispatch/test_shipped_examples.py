"""t2agent/dispatch/shipped_requests.py."""

from __future__ import annotations

import pytest

from t2agent.dispatch import shipped_requests as examples
from t2agent.dispatch.shipped_requests import (
    DOMAINS,
    GENERAL,
    WRITTEN,
    examples_folder,
    real_examples,
    shipped_requests,
)
from t2agent.errors import ConfigError


@pytest.mark.parametrize("domain", [*DOMAINS, GENERAL])
def test_every_domain_has_distinct_requests_of_several_kinds(domain):
    requests = shipped_requests(domain)

    assert len({r.prompt.strip() for r in requests}) == len(requests) >= 100
    assert len({r.kind for r in requests}) >= 10
    assert sum(r.source == WRITTEN for r in requests) >= 100


def test_no_request_is_of_two_domains():
    prompts = [r.prompt for domain in (*DOMAINS, GENERAL) for r in shipped_requests(domain)]

    assert len(set(prompts)) == len(prompts)


def test_every_source_has_its_attribution():
    told = (examples_folder() / "ATTRIBUTION.md").read_text(encoding="utf-8")

    for domain in (*DOMAINS, GENERAL):
        for source in {r.source.split("/")[0] for r in shipped_requests(domain)}:
            assert f"`{source}" in told


def test_a_few_examples_take_the_kinds_in_turn():
    kind_of = {r.prompt: r.kind for r in shipped_requests("math")}
    kinds = set(kind_of.values())

    assert {kind_of[prompt] for prompt in real_examples("math", len(kinds))} == kinds
    assert sorted(real_examples("math")) == sorted(kind_of)


def test_errors(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="choose of code, math, reasoning, general"):
        shipped_requests("poetry")
    with pytest.raises(ConfigError, match="at least 1"):
        real_examples("math", 0)
    monkeypatch.setattr(examples, "examples_folder", lambda: tmp_path)
    shipped_requests.cache_clear()
    try:
        with pytest.raises(ConfigError, match="install t2agent again"):
            shipped_requests("math")
    finally:
        shipped_requests.cache_clear()
