from __future__ import annotations

import json
import multiprocessing
import os

import pytest

from t2agent.bench.paper import ledger as module
from t2agent.bench.paper.ledger import Job, Ledger
from t2agent.errors import ConfigError


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "_POLL", 0.02)


def jobs(computed, keys="abc"):
    def compute(key):
        computed.append(key)
        return {"of": key}

    return [Job(f"what/{key}/0", lambda key=key: compute(key)) for key in keys]


def test_what_is_there_is_not_computed_again(tmp_path):
    computed = []
    ledger = Ledger(tmp_path, {"seed": 0})
    ledger.run("first", jobs(computed, "ab"), progress=False)
    Ledger(tmp_path, {"seed": 0}).run("again", jobs(computed), progress=False)

    assert computed == ["a", "b", "c"]
    assert "what/a/0" in ledger
    assert "what/d/0" not in ledger
    assert ledger["what/c/0"] == {"of": "c"}


def test_another_configuration_has_results_of_its_own(tmp_path):
    computed = []
    for seed in (0, 1):
        Ledger(tmp_path, {"seed": seed}).run("x", jobs(computed, "a"), progress=False)

    assert computed == ["a", "a"]
    identities = [json.loads(f.read_text()) for f in tmp_path.glob("*/identity.json")]
    assert sorted(i["seed"] for i in identities) == [0, 1]


def test_a_run_that_failed_goes_on(tmp_path):
    def fail():
        raise ValueError("broken")

    computed = []
    ledger = Ledger(tmp_path, {})
    with pytest.raises(ValueError, match="broken"):
        ledger.run("x", [*jobs(computed, "a"), Job("what/b/0", fail)], progress=False)
    ledger.run("x", jobs(computed), progress=False)

    assert computed == ["a", "b", "c"]


def test_a_result_that_is_missing_or_damaged(tmp_path):
    ledger = Ledger(tmp_path, {})
    ledger.run("x", jobs([], "a"), progress=False)
    (ledger.folder / "what_a_0.json").write_text('{"of":')

    for key in ("what/a/0", "what/b/0"):
        with pytest.raises(ConfigError, match="delete its file") as raised:
            ledger[key]
        assert key in str(raised.value)


def _fork(work):
    """Start a process of this one's kind."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_two_processes_share_the_work(tmp_path):
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def work():
        def compute(n):
            if n == 0:
                barrier.wait(20)  # each is at a job of its own
            return os.getpid()

        def first():
            return compute(0)

        keys = [Job("first/0", first), Job("first/1", first)]
        keys += [Job(f"later/{n}", lambda n=n: compute(n)) for n in range(1, 9)]
        Ledger(tmp_path, {}).run("x", keys, progress=False)

    processes = [_fork(work) for _ in range(2)]
    for process in processes:
        process.join(40)

    assert [process.exitcode for process in processes] == [0, 0]
    ledger = Ledger(tmp_path, {})
    assert {ledger["first/0"], ledger["first/1"]} == {process.pid for process in processes}
    assert all(f"later/{n}" in ledger for n in range(1, 9))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_what_a_killed_process_was_at_is_computed_by_another(tmp_path):
    def killed():
        Ledger(tmp_path, {}).run(
            "x", [*jobs([], "a"), Job("what/b/0", lambda: os._exit(7))], progress=False
        )

    process = _fork(killed)
    process.join(40)
    computed = []
    Ledger(tmp_path, {}).run("x", jobs(computed), progress=False)

    assert process.exitcode == 7
    assert computed == ["b", "c"]


def test_a_result_that_another_process_computes_is_waited_for(tmp_path, monkeypatch):
    """Here the other is this process: a lock belongs to an open file."""
    ledger = Ledger(tmp_path, {})
    with ledger._claimed("what/a/0") as mine:
        assert mine
        slept = []

        def sleep(seconds):
            slept.append(seconds)
            (ledger.folder / "what_a_0.json").write_text('"theirs"')

        monkeypatch.setattr(module.time, "sleep", sleep)
        computed = []
        ledger.run("x", jobs(computed, "ab"), progress=False)

    assert computed == ["b"]
    assert slept == [0.02]
    assert ledger["what/a/0"] == "theirs"
