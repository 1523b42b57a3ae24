"""The paper's experiments from end to end, on a tiny random model."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from t2agent.bench.paper import ledger, report, run_suite
from t2agent.bench.paper.experiments import ONLINE, Experiments
from t2agent.bench.paper.findings import Findings
from t2agent.bench.paper.ledger import Ledger
from t2agent.bench.paper.plan import FULL
from t2agent.bench.paper.training import Trained
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from tests.unit.bench.paper_suite import Words, build, expert, plan, shared, suite

CONFUSIONS = [f"confusion-{strategy}" for strategy in ONLINE]
UNSEEN = ["unseen", "weights", "scaling"]
COMPARED = ["methods", "by-method", "ablations"]
TABLES = ["experts", *UNSEEN, *CONFUSIONS, *COMPARED, "costs", "controls", "transfer"]
FIGURES = ["experts", *UNSEEN, *CONFUSIONS, "curves", "methods"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run, with transfer."""
    work = tmp_path_factory.mktemp("paper")
    return run_suite(suite(), plan(), work, second=build(1), progress=False), work


@pytest.fixture
def computed(monkeypatch):
    """The names of the files of results that are written from here on."""
    names = []
    write = ledger.write_text

    def note(path, text):
        if path.name != "identity.json":
            names.append(path.stem)
        write(path, text)

    monkeypatch.setattr(ledger, "write_text", note)
    return names


@pytest.mark.slow
def test_a_whole_run_ends_with_all_tables_and_figures(finished, tmp_path):
    experiments, _ = finished
    result = report(Findings(experiments), tmp_path)

    assert list(result["tables"]) == TABLES
    assert sorted(f.stem for f in tmp_path.glob("*.png")) == sorted(FIGURES)
    assert (tmp_path / "report.md").stat().st_size > 1000
    assert {"routed.classifier", "oracle_gap", "combinations_won"} <= result["summary"].keys()
    assert all(0 <= result["summary"][f"own.{name}"] <= 1 for name in ("sums", "poems_hard"))
    methods = {row[0]: row[1] for row in result["tables"]["methods"]["rows"]}
    assert methods["svf-mlp-sft"] < methods["svf"] < methods["lora-r1"]
    assert json.loads((tmp_path / "results.json").read_text())["model"] == "tiny-qwen2"
    # Of HumanEval's kind: there is nothing to train on, so the domain's own examples are taken.
    assert "poems_hard has no examples to learn from" in result["tables"]["weights"]["note"]


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_a_stopped_one_goes_on(finished, computed):
    experiments, work = finished
    run_suite(suite(), plan(), work, second=experiments.second, progress=False)
    assert computed == []

    rate = experiments.trained.rate("svf")
    for key in ("matrix_both_0", f"compared_svf_{rate:g}_sums_0"):
        (experiments.ledger.folder / f"{key}.json").unlink()
    run_suite(suite(), plan(), work, second=experiments.second, progress=False)
    assert computed == ["matrix_both_0", f"compared_svf_{rate:g}_sums_0"]


@pytest.mark.slow
def test_the_comparison_alone_trains_nothing_else(tmp_path, computed):
    """Nor is a learning rate tried that was given."""
    rates = {"svf": 0.03, "svf-even-foreign-sft": 0.02}
    few = plan(parts=("methods",), methods=(*rates, "lora-r1"), rates=rates)
    another = suite(foreign={"sums": Words("sums_foreign")})
    experiments = run_suite(another, few, tmp_path, progress=False)
    result = report(Findings(experiments), tmp_path)

    tried = ["method_lora-r1_0.001_sums_0", "method_lora-r1_0.003_sums_0"]
    tried += ["method_lora-r1_0.01_sums_0", "method_svf-even-foreign-sft_0.02_sums_0"]
    tried += ["method_svf_0.03_sums_0"]
    assert sorted(name for name in computed if name.startswith("method")) == tried
    assert all(name.startswith(("method", "compared")) for name in computed)
    assert list(result["tables"]) == ["methods", "foreign", *COMPARED[1:]]
    named = [[row[0] for row in result["tables"][key]["rows"]] for key in ("methods", "foreign")]
    assert named == [["svf", "lora-r1"], ["svf-even-foreign-sft"]]
    folder = experiments.ledger.folder / "trained" / "method-svf-even-foreign-sft-0.02-sums-0"
    training = Expert.load(folder).card.training
    assert training["task"] == "sums_foreign"
    assert training["hyper"]["evenness"] == 0.5
    assert [f.stem for f in tmp_path.glob("*.png")] == ["methods"]


@pytest.mark.slow
def test_a_damaged_result_is_named(finished):
    experiments, _ = finished
    file = experiments.ledger.folder / "matrix_both_0.json"
    whole = file.read_text()
    try:
        file.write_text(whole[:5])
        with pytest.raises(ConfigError, match=r"matrix/both/0.*delete its file"):
            Findings(experiments).tables()
    finally:
        file.write_text(whole)


@pytest.mark.slow
def test_what_a_method_trained_is_what_is_measured(finished, monkeypatch):
    """Not the base model, which an adapted(None) inside of an adapted(expert) would be."""
    experiments, _ = finished
    model = experiments.suite.model
    ids = torch.tensor([[5, 6, 7, 8]])
    seen = []

    def measure(model, task, examples, what=None):
        with model.adapted(what), torch.no_grad():
            seen.append(model.model(input_ids=ids).logits)
        return 0.0

    monkeypatch.setattr("t2agent.bench.paper.experiments.accuracy", measure)
    with torch.no_grad():
        base = model.model(input_ids=ids).logits
    for name in ("svf", "lora-r1"):
        key = f"method/{name}/{experiments.trained.rate(name):g}/sums/0"
        folder = experiments.ledger.folder / "trained" / key.replace("/", "-")
        if name == "svf":  # as one step may have made nothing better
            expert(model, "sums", 3).save(folder)
        experiments._method(name, "sums", 0)
        own, sibling = seen[-2:]
        assert torch.equal(own, sibling)
        if name == "svf":
            assert not torch.allclose(own, base)
    with torch.no_grad():
        assert torch.equal(model.model(input_ids=ids).logits, base)


@pytest.fixture(scope="module")
def given():
    return {name: expert(shared(), name, n) for n, name in enumerate(("sums", "poems"))} | {
        "classifier": expert(shared(), "classifier", 5)
    }


@pytest.mark.slow
def test_with_given_experts_none_is_trained(given, tmp_path, computed):
    few = plan(methods=("svf",), rates_on=0, seeds=(0, 1), scaling=(1,), shots=1)
    experiments = run_suite(suite(), few, tmp_path, given=given, progress=False)
    result = report(Findings(experiments), tmp_path)

    assert not [name for name in computed if name.startswith("expert_")]
    assert "method_svf_0.02_sums_1" in computed
    assert experiments.trained.expert("sums", 1) is given["sums"]
    assert "curves.png" not in {f.name for f in tmp_path.glob("*.png")}
    assert "transfer" not in result["tables"]
    assert result["tables"]["experts"]["rows"][0][1]["half"] is not None
    other = {**given, "sums": expert(shared(), "sums", 9)}
    other_ledger = run_suite_ledger(other, few, tmp_path)
    assert other_ledger != experiments.ledger.folder


def run_suite_ledger(given, the_plan, work):
    """The folder of results that a run with these experts would have."""
    from t2agent.bench.paper import _identity

    found = suite()
    return Ledger(work, _identity(found, found.checked(), the_plan, given)).folder


@pytest.mark.slow
def test_foreign_experts_stay_and_are_never_chosen(given, tmp_path):
    model = build()
    foreign = expert(model, "foreign", 7)
    theirs = expert(model, "sums", 8)
    for one in (foreign, theirs):
        model.registry.register(one, persist=True)
    found, few = suite(model), plan()
    mine = {name: Expert(dataclasses.replace(e.card), e.z) for name, e in given.items()}
    trained = Trained(found, few, Ledger(tmp_path, {}), mine)
    experiments = Experiments(found, few, trained.ledger, trained)

    online = experiments._online("both", 0)
    assert all(set(r["chosen"]) <= {"sums", "poems", "others"} for r in online.values())
    assert set(experiments._few_shot("both", 0)["few-shot"]["mixture"]) <= {"sums", "poems"}
    assert model.registry.get("sums").digest() == mine["sums"].digest()
    # In another process, what is on disk is as it was.
    assert build().registry.names() == ["foreign", "sums"]
    assert build().registry.get("sums").digest() == theirs.digest()


def test_more_seeds_and_methods_leave_the_results_that_are_there(tmp_path):
    def folder(**changes):
        return run_suite_ledger({}, dataclasses.replace(FULL, **changes), tmp_path)

    known = folder()
    assert folder(seeds=(0, 1, 2, 3), methods=("svf",), scaling=(5,), compared_on=1) == known
    assert folder(parts=("methods",), rates={"svf": 0.02}) == known
    assert folder(seeds=(1, 0)) != known  # learning rates are chosen with the first
    assert folder(requests=299) != known
    assert folder(steps=44) != known
