"""The benchmark of the server, small."""

from __future__ import annotations

from t2agent.bench.serving import run


def test_requests_at_once_are_answered_as_alone_and_bad_ones_refused():
    found = run(requests=4, repeats=1, tokens=8, storm=60)
    assert found["equal"] == 1
    assert found["storm"]["wrong"] == 0
    outcomes = found["storm"]["outcomes"]
    assert outcomes["answered"] == 30
    assert [outcomes[f"refused {status}"] for status in (400, 401, 404, 413)] == [6, 6, 6, 6]
    assert outcomes["left"] == 6
