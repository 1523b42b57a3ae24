"""The benchmark of other engines, against a server that answers with t2-nano."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
import torch

from t2agent import ChatT2, ChatT2Remote, T2Model
from t2agent.bench import engines
from t2agent.models.exchange.factors import factors
from tests.openai_server import serving

ASKED: list[engines.Asked] = [
    ({}, "What is 7 * 3 + 12?"),
    ({"math": 1.0}, "What is 7 * 3 + 12?"),
    ({"json": 1.0}, "Write as JSON: Anna is 31 years old."),
]


@pytest.fixture(scope="module")
def model() -> T2Model:
    return T2Model.from_pretrained("t2-nano")


def test_the_same_engine_gives_the_same_replies_and_another_expert_others(model: T2Model) -> None:
    local = ChatT2(model, dispatch="off")
    with serving(local) as server:
        chat = ChatT2Remote("t2-nano", base_url=server.url, dispatch="off", max_tokens=12)
        found = engines.compared(model, chat, ASKED, tokens=12)
        assert (found["requests"], found["equal"], found["differences"]) == (3, 1.0, [])
        timed = engines.throughput(model, chat, ASKED, 12, None, 1, process=os.getpid())
        for figure in ("faster", "less_processor"):
            assert timed[figure].keys() == {"plain"}
            assert timed[figure]["plain"] > 0
    with serving(local, {"math": "json", "json": "json"}) as server:
        chat = ChatT2Remote("t2-nano", base_url=server.url, dispatch="off", max_tokens=12)
        found = engines.compared(model, chat, ASKED, tokens=12)
        [other] = found["differences"]
        assert found["equal"] == pytest.approx(2 / 3)
        assert other["mixture"] == {"math": 1.0}
        assert other["gap"] > 0
        assert other["rank"] > 1


def test_an_expert_of_a_rank_is_what_an_export_writes(model: T2Model) -> None:
    mixture = {"math": 0.7, "json": 0.3}
    limited = engines._Limited(model, 4).of(mixture)
    wanted = factors(model, mixture, 4, "float32", progress=False).pairs
    with model.merged(None):
        before = {name: model.targets.layers[name].weight.clone() for name in wanted}
    with model.merged(limited):
        for name, (b, a) in wanted.items():
            change = model.targets.layers[name].weight - before[name]
            torch.testing.assert_close(change, b @ a, rtol=1e-4, atol=1e-5)
    assert engines._Limited(model, None).of(mixture) == mixture
    assert engines._Limited(model, 4).of({}) is None


def test_requests_are_over_none_single_experts_and_a_mixture(tmp_path: Path) -> None:
    for _, file, key in engines._FILES:
        rows = [{key: f"{file} {at}", "labels": ["a", "b"]} for at in range(20)]
        rows[0][key] = "x" * 400
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{file}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    asked = engines._real(tmp_path, 10)
    assert len({text for _, text in asked}) == 10
    assert [dict(mixture) for mixture, _ in asked[:7]] == [dict(one[0]) for one in engines._FILES]
    assert all(len(text) < 300 for _, text in asked)
