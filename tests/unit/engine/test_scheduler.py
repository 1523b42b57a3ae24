from __future__ import annotations

import time

import pytest

from t2agent import T2Model
from t2agent.engine.batching import Call
from t2agent.engine.scheduler import Job, Scheduler
from t2agent.engine.two_passes import Engine
from t2agent.models.options import GenerationOptions
from t2agent.models.prompt import Prompt
from t2agent.models.rows import Rows


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(T2Model.from_pretrained("t2-nano"))


def test_another_reply_to_a_call_shares_its_decision_and_prompt(engine: Engine) -> None:
    options = GenerationOptions(max_tokens=12, temperature=3.0)
    call = Call(engine, Prompt.user("Compute 54 * 37."), options)
    scheduler = Scheduler(engine.model)
    first = scheduler.submit(call, seed=1)
    second = scheduler.submit(call, seed=2, like=first)
    pieces: list[str] = []
    third = scheduler.submit(call, seed=1, like=first, on_text=pieces.append)
    replies = [job.future.result(60) for job in (first, second, third)]
    texts = [reply.generation.text for reply in replies]
    assert texts[0] == texts[2] == "".join(pieces)
    assert texts[1] != texts[0]
    assert second.row.inputs is first.row.inputs
    assert {reply.decision.mixture for reply in replies} == {first.decision.mixture}
    assert first.decision.seconds > 0 == second.decision.seconds  # decided once
    third.give_up()
    assert not first.row.asked.cancel.is_set()
    scheduler.close()


def test_closing_gives_up_prompts_that_wait_to_be_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    reading = Rows._read_together

    def held(self: Rows, rows: list) -> list:
        read.append(len(rows))
        assert rows[0].asked.cancel.wait(60)  # until closing has given up
        return reading(self, rows)

    monkeypatch.setattr(Rows, "_read_together", held)
    scheduler = Scheduler(engine.model)
    calls = [
        Call(engine, Prompt.user("word " * 400), GenerationOptions(max_tokens=40), "off")
        for _ in range(3)
    ]
    jobs: list[Job] = []
    with scheduler._changed:  # so that they begin together
        jobs += [scheduler.submit(call) for call in calls]
    while not read:
        time.sleep(0.005)
    scheduler.close(0.05)
    assert len(read) == 1
    for job in jobs:
        assert job.future.cancelled() or (
            job.future.result(0).generation.finish_reason == "cancelled"
        )
