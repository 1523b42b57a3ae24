from __future__ import annotations

import pytest

from t2agent.dispatch import fitting as module
from t2agent.dispatch import shipped_requests as examples
from t2agent.dispatch.encoder import Encoder
from t2agent.dispatch.fitting import fit, widened
from t2agent.dispatch.shipped_requests import WRITTEN, ShippedRequest, shipped_requests
from t2agent.dispatch.vectors import ExampleVectors


def request(domain: str, k: int, source: str = WRITTEN, kind: str = "k") -> ShippedRequest:
    return ShippedRequest(f"{domain} {domain}{k % 3} {domain}ish word{k}", source, kind)


SHIPPED = {
    "math": (*(request("sum", k) for k in range(5)), request("sum", 9, "gsm8k", "gsm8k")),
    "code": tuple(request("loop", k) for k in range(5)),
    "reasoning": tuple(request("riddle", k) for k in range(5)),
    "general": tuple(request("chat", k, kind=f"kind{k % 3}") for k in range(12)),
}


@pytest.fixture
def vectors(words, monkeypatch) -> ExampleVectors:
    for place in (module, examples):
        monkeypatch.setattr(place, "shipped_requests", SHIPPED.__getitem__)
    return ExampleVectors(Encoder())


def own(domain: str, n: int = 4) -> list[str]:
    return [f"{domain} {domain}{k} mine{k}" for k in range(n)]


WRITTEN_SUMS = [r.prompt for r in SHIPPED["math"] if r.source == WRITTEN]


@pytest.mark.parametrize("label", ["math", "Maths", " MATHEMATICS "])
def test_a_label_named_after_a_domain_learns_from_what_was_written_for_it(vectors, label):
    assert widened({label: own("sum"), "x": own("tree")}, vectors) == {label: WRITTEN_SUMS, "x": []}


def test_a_name_alone_is_not_enough(vectors):
    # Somebody's "math" that is about loops.
    assert widened({"math": own("loop")}, vectors) == {"math": []}
    assert widened({"sums": own("sum")}, vectors) == {"sums": []}


def test_two_labels_of_one_domain_get_nothing(vectors):
    assert widened({"math": own("sum"), "maths": own("sum")}, vectors) == {"math": [], "maths": []}


def test_what_a_label_has_already_is_not_counted_twice(vectors):
    own_examples = [*own("sum"), WRITTEN_SUMS[0]]

    assert widened({"math": own_examples}, vectors) == {"math": WRITTEN_SUMS[1:]}


def test_the_kinds_of_shipped_requests_are_sources(vectors):
    texts = [
        SHIPPED["math"][0].prompt,
        "mine",
        SHIPPED["math"][1].prompt,
        SHIPPED["math"][5].prompt,
    ]

    first, mine, same, other = module._sources(texts)

    assert first == same
    assert len({first, mine, other}) == 3
    assert mine == module.UNKNOWN


def test_no_labels(vectors):
    assert fit({}, vectors, None, None) is None


def test_all_shipped_requests_are_found_by_the_real_lookup():
    sources = module._sources([r.prompt for r in shipped_requests("math")])

    assert (sources != module.UNKNOWN).all()
    assert len(set(sources)) == len({r.kind for r in shipped_requests("math")})
