from __future__ import annotations

import json

import pytest

from t2agent.bench import BENCHMARKS, figures, run
from t2agent.bench.datasets import REQUESTS
from t2agent.dispatch.shipped_requests import DOMAINS, GENERAL, shipped_requests
from t2agent.errors import ConfigError

PROMPTS = {
    "math": ["Solve 3x + 4 = 19 for x.", "What is the area of a circle of radius 3?"],
    "code": ["Write a Python function that reverses a list.", "def add(a, b):"],
    "reasoning": [
        "All cats purr. Tom is a cat. Does Tom purr?",
        "Which is a fruit? (A) pea (B) fig",
    ],
    "other": ["Write a poem about the sea.", "hello, how are you"],
}


def jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


@pytest.fixture
def data(tmp_path):
    rows = [{"label": label, "prompt": p} for label, own in PROMPTS.items() for p in own]
    return jsonl(tmp_path / "requests.jsonl", rows)


@pytest.fixture
def examples(tmp_path):
    rows = [
        {"task": domain, "source": f"source {k % 2}" if domain != "code" else "one", "prompt": text}
        for domain in DOMAINS
        for k, text in enumerate([f"{r.prompt} Please." for r in shipped_requests(domain)[:6]])
    ]
    return jsonl(tmp_path / "examples.jsonl", rows)


def test_all_cases(data, examples, tmp_path):
    clinc = tmp_path / "clinc.json"
    clinc.write_text(json.dumps({"oos_test": [["who was Napoleon", "oos"]]}))

    result = run("real_prompts", data=data, examples=examples, clinc=str(clinc))

    assert json.loads(json.dumps(result)) == result
    assert set(figures(result)) >= set(BENCHMARKS["real_prompts"].wanted)
    assert set(result["left_out"]) == {"one", "source 0", "source 1"}
    assert "auroc_clinc" in result["shipped"]
    assert all(0 <= value <= 1 for value in figures(result).values())
    assert result["fitted"]["math"] == result["fitted"]["code"] == 1


def test_cases_without_their_files_are_left_out(data, tmp_path):
    nothing = str(tmp_path / "nothing")

    result = run("real_prompts", data=data, examples=nothing, clinc=nothing)

    assert set(result) == {"shipped"}
    assert "auroc_clinc" not in result["shipped"]


def test_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="does not ship"):
        run("real_prompts", data=str(tmp_path / "nothing"))
    only = jsonl(tmp_path / "only.jsonl", [{"label": "math", "prompt": "1 + 1"}])
    with pytest.raises(ConfigError, match="labelled 'other'"):
        run("real_prompts", data=only)


def test_nothing_is_learnt_from_the_validation_requests():
    asked = {json.loads(line)["prompt"] for line in REQUESTS.read_text().splitlines()}
    learnt = {r.prompt for domain in (*DOMAINS, GENERAL) for r in shipped_requests(domain)}

    assert not asked & learnt
