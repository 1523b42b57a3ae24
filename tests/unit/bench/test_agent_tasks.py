from __future__ import annotations

import json

import pytest

from t2agent.bench import BENCHMARKS, figures, run
from t2agent.bench import agent as bench
from t2agent.bench.agent import KINDS, agent_tasks, attempt
from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError
from t2agent.nano.problem import split_of
from t2agent.toolbox import tool_names


@pytest.fixture(scope="module")
def chat() -> ChatT2:
    return ChatT2(max_tokens=96)


def test_fifty_tasks_of_two_steps_or_more():
    tasks = agent_tasks()

    assert len(tasks) == 50
    assert len({task.problem.question for task in tasks if task.problem.scene is None}) >= 25
    assert all(task.problem.calls for task in tasks)  # a call and an answer are two steps
    assert sum(len(task.problem.calls) > 1 for task in tasks) >= 20
    assert 20 <= sum(task.problem.scene is not None for task in tasks) <= 30
    assert {split_of(task.problem.key) for task in tasks} == {"test"}
    assert {name for task in tasks for name in task.offered} <= set(tool_names())
    assert agent_tasks() == tasks
    assert agent_tasks(1) != tasks


def test_the_last_message_after_a_result_counts(chat: ChatT2):
    task = next(task for task in agent_tasks() if "weekday" in str(task.problem.calls))

    done = attempt(task, chat)

    assert done.solved
    assert done.calls
    assert done.steps[0].startswith("tools: add_days(")
    assert attempt(task, chat, dispatch="off").steps[0].startswith("base: ")


def test_an_answer_without_a_tool_does_not_count(chat: ChatT2):
    """What the model can do alone shows nothing of an agent."""
    task = agent_tasks()[0]
    problem = type(task.problem)(
        **{
            **{name: getattr(task.problem, name) for name in task.problem.__slots__},
            "question": "What is 7 * 3 + 12?",
            "answer": "33",
        }
    )

    done = attempt(type(task)(task.kind, problem, ()), chat)

    assert done.steps[-1].endswith("The answer is 33.")
    assert not done.solved


def test_the_figures(monkeypatch: pytest.MonkeyPatch):
    few = {name: (maker, 1) for name, (maker, _) in KINDS.items() if name in ("chain", "colour")}
    monkeypatch.setattr(bench, "KINDS", few)

    result = run("agent", progress=False)

    assert json.loads(json.dumps(result)) == result
    assert set(figures(result)) >= set(BENCHMARKS["agent"].wanted)
    assert result["tasks"] == 2
    assert set(result["summary"]["base"]["kinds"]) == {"chain", "colour"}
    assert all(0 <= value <= 1 for value in figures(result).values())
    solved = 2 * result["summary"]["experts"]["solved"]
    assert len(result["unsolved"]) == 2 - solved
    with pytest.raises(ConfigError, match="seed"):
        run("agent", seed="one")
