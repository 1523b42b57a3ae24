"""The paper's experiments in one run, on a tiny random model of a real architecture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import transformers as hf

from t2agent import bench
from t2agent.bench.paper import run
from t2agent.bench.paper.ledger import Job, Ledger
from t2agent.bench.paper.plan import FULL, QUICK, Plan
from t2agent.bench.paper.table import Interval, Table
from t2agent.bench.paper.training import METHODS
from t2agent.errors import ConfigError

SIZES: dict[str, Any] = {
    "seeds": [0, 1],
    "requests": 3,
    "chosen_on": 2,
    "steps": 1,
    "methods": ["svf", "svf-mlp", "lora-r1", "ia3-sft"],
    "rates_on": 1,
    "timed": 1,
    "hyper": {"validation": 2, "prompts": 2, "samples": 2, "max_tokens": 3},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def settings(home: Path) -> dict[str, Any]:
    source = Path(__file__).resolve().parents[4] / "shared/data/tokenizers/qwen2"
    if not source.is_dir():
        pytest.skip("the shared tokenizer is not here")
    tokenizer = hf.AutoTokenizer.from_pretrained(source)
    config = hf.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    files = []
    for name in ("apples", "pears"):
        lines = [{"prompt": f"How many {name} are {i}?", "answer": str(i)} for i in range(40)]
        files.append(str(home / f"{name}.jsonl"))
        Path(files[-1]).write_text("\n".join(map(json.dumps, lines)))
    where = {"model": str(home / "model"), "task": files, "work": home / "work"}
    return {**where, "out": home / "out", "progress": False, **SIZES}


@pytest.fixture(scope="module")
def result(settings: dict[str, Any]) -> dict[str, Any]:
    return bench.run("paper", **settings)


def test_every_table_and_figure_is_there(result: dict[str, Any], home: Path) -> None:
    names = ["experts", "methods", "by-method", "ablations", "costs", "controls"]
    names += [f"confusion-{s}" for s in ("prompt", "classifier", "embedding")]
    assert set(result["tables"]) == set(names)
    report = (home / "out" / "report.md").read_text()
    for name in names:
        assert result["tables"][name]["title"] in report
    for picture in ("experts", "curves", "methods", "confusion-embedding"):
        assert f"({picture}.png)" in report
        assert (home / "out" / f"{picture}.png").stat().st_size > 3000
    assert json.loads((home / "out" / "results.json").read_text())["summary"] == result["summary"]
    figures = bench.figures(result)
    assert {"own.apples", "share.embedding", "behind_lora.svf-mlp.own"} <= set(figures)
    assert all(0 <= figures[f"share.{s}"] < 1 for s in ("prompt", "classifier", "embedding"))
    by_name = {row[0]: row for row in result["tables"]["methods"]["rows"]}
    assert set(by_name) == set(SIZES["methods"])
    # A layer of 16 x 24: q and o 16, k and v 8, the MLP 16 each.
    assert by_name["svf"][1] == 2 * 16 + 2 * 8 + 3 * 16
    assert by_name["svf-mlp"][1] == 3 * 16
    assert by_name["lora-r1"][1] == 2 * 32 + 2 * 24 + 3 * 40


def test_a_second_run_computes_nothing(
    result: dict[str, Any], settings: dict[str, Any], home: Path
) -> None:
    def state() -> dict[str, int]:
        files = (home / "work").glob("*/*.json")
        return {f.name: f.stat().st_mtime_ns for f in files if f.name != "identity.json"}

    before = state()
    again = run(**settings)
    assert again == result
    assert state() == before
    # What was lost is computed again, and nothing else.
    lost = next((home / "work").glob("*/matrix_apples_0.json"))
    lost.unlink()
    run(**settings)
    changed = {name for name, when in state().items() if before[name] != when}
    assert changed == {lost.name}


def test_other_sizes_have_results_of_their_own(home: Path) -> None:
    one = Ledger(home / "ledger", {"plan": asdict(FULL)})
    other = Ledger(home / "ledger", {"plan": asdict(QUICK)})
    one.run("jobs", [Job("a/b", lambda: 1)], progress=False)
    assert "a/b" in one
    assert "a/b" not in other


def test_a_result_is_computed_once_whoever_does_it(home: Path) -> None:
    ledger, other = (Ledger(home / "shared", {}) for _ in range(2))
    seen: list[str] = []

    def outer() -> int:
        # Another process at the same jobs goes on with what is not claimed.
        with other._claimed("first") as mine:
            assert not mine
        other.run("jobs", [Job("second", lambda: seen.append("other") or 2)], progress=False)
        return 1

    jobs = [Job("first", outer), Job("second", lambda: seen.append("mine") or 2)]
    ledger.run("jobs", jobs, progress=False)
    assert seen == ["other"]
    assert (ledger["first"], ledger["second"]) == (1, 2)


def test_a_failed_job_leaves_no_result_and_no_claim(home: Path) -> None:
    ledger = Ledger(home / "failed", {})

    def fail() -> int:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        ledger.run("jobs", [Job("a", fail)], progress=False)
    assert "a" not in ledger
    ledger.run("jobs", [Job("a", lambda: 3)], progress=False)
    assert ledger["a"] == 3


def test_a_damaged_result_is_an_error(home: Path) -> None:
    ledger = Ledger(home / "damaged", {})
    ledger.run("jobs", [Job("a", lambda: 3)], progress=False)
    (ledger.folder / "a.json").write_text("{")
    with pytest.raises(ConfigError, match="delete its file"):
        ledger["a"]
    with pytest.raises(ConfigError, match="no whole result 'b'"):
        ledger["b"]


def test_an_interval_is_student_s() -> None:
    # t(0.975, 2) = 4.3027; the standard deviation of 1, 2, 3 is 1.
    found = Interval.of([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.30265 / 3**0.5, rel=1e-4)
    assert str(found) == "2.000 ± 2.484"
    assert Interval.of([0.5]) == Interval(0.5, None)
    assert str(Interval(0.5)) == "0.500"


def test_a_table_in_markdown() -> None:
    table = Table(
        "t", "Title", ["a", "b", "c"], [["x", Interval(0.5, 0.1), None], ["y", 12345, 0.25]]
    )
    assert table.markdown().splitlines() == [
        "### Title",
        "",
        "| a | b | c |",
        "| --- | ---: | ---: |",
        "| x | 0.500 ± 0.100 |  |",
        "| y | 12,345 | 0.250 |",
    ]
    assert table.to_dict()["rows"][0] == ["x", {"mean": 0.5, "half": 0.1}, None]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"colour": 1}, "unknown setting.* colour"),
        ({"seeds": []}, "no seeds"),
        ({"requests": 0}, "requests is 0"),
        ({"task": []}, "--task"),
        ({"task": ["nothing.jsonl"]}, "nothing.jsonl"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(**{**settings, **wrong})


def test_the_full_plan_compares_every_method_on_three_seeds() -> None:
    assert Plan() == FULL
    assert (len(FULL.seeds), FULL.requests, FULL.scaling) == (3, 300, (3, 5, 10, 30))
    kinds = {(m.kind, m.rank, m.objective) for m in METHODS.values()}
    for rank in (1, 4, 8):
        assert {("lora", rank, "reinforce"), ("lora", rank, "sft")} <= kinds
    assert all(len(method.rates) == 3 for method in METHODS.values())
