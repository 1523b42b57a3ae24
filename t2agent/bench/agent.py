"""The agent on t2-nano: fifty tasks of two steps or more, with the bundled tools.

A task is a request, with or without an image, for which tools are on offer: mostly its numbers are
too large to be worked out without one, or only the tool has the answer. It is solved where a tool
was called with success and the last message is right, in any habit (`t2agent.nano.habits`).
Offered are the tools that the task needs and one other; no task is of the train split.

Figure wanted: at least .80 of the tasks. Beside it, what the base model does alone.

With another model, the agent has three tools of a user's own and gets fifty real requests
(`t2agent.bench.three_tools`). Figure wanted of smollm2: at least .70.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from t2agent.bench.three_tools import TOOLS, AgentRequest, requests
from t2agent.chat.agent import T2Middleware, create_t2_agent
from t2agent.chat.chat_model import ChatT2
from t2agent.chat.messages import user_message
from t2agent.errors import ConfigError, T2Error
from t2agent.nano.domains import errands, tools
from t2agent.nano.domains.known_tools import SHIPPED
from t2agent.nano.habits import is_right
from t2agent.nano.problem import Maker, Problem, Split, draw
from t2agent.progress import progress_bar
from t2agent.toolbox import load_tools

KINDS: Mapping[str, tuple[Maker, int]] = {
    "chain": (tools.chain, 10),
    "convert": (errands.convert, 6),
    "count_words": (errands.count_words, 6),
    "sort": (errands.sort, 3),
    "ask_expert": (errands.ask_expert, 2),
    "search": (errands.search, 1),
    "image_call": (tools.image_call, 11),
    "colour": (errands.colour, 6),
    "chart": (errands.chart, 2),
    "count": (errands.count, 1),
    "zoom": (errands.zoom, 1),
    "crop": (errands.crop, 1),
}
"""Kind -> what makes its tasks, and how many of the fifty are of it."""

_MAX_STEPS = 6
_MAX_TOKENS = 96


@dataclass(frozen=True, slots=True)
class AgentTask:
    """A problem, and the names of the tools that are offered for it."""

    kind: str
    problem: Problem
    offered: tuple[str, ...]

    @property
    def message(self) -> HumanMessage:
        """The request as a user sends it."""
        scene = self.problem.scene
        return user_message(self.problem.question, None if scene is None else scene.render())

    def write_files(self, folder: Path) -> None:
        """What search_files finds: the line of the answer, and files without it."""
        for call in self.problem.calls:
            if call.name == "search_files":
                name, _, line = call.result.partition(":1: ")
                for other in errands.FILES:
                    (folder / f"{other}.txt").write_text("nothing to see\n")
                (folder / name).write_text(line + "\n")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task went. ``calls``: whether they were those that lead to the answer, in order."""

    solved: bool
    calls: bool
    steps: tuple[str, ...]


def agent_tasks(seed: int = 0, split: Split = "test") -> list[AgentTask]:
    """The tasks; the same seed gives the same."""
    tasks = []
    for kind, (maker, many) in KINDS.items():
        rng = random.Random(f"agent {kind} {split} {seed}")
        for _ in range(many):
            problem = draw(maker, rng, split)
            needed = {call.name for call in problem.calls}
            others = [tool.name for tool in SHIPPED if tool.name not in needed]
            offered = [*sorted(needed), rng.choice(others)]
            rng.shuffle(offered)
            tasks.append(AgentTask(kind, problem, tuple(offered)))
    return tasks


def attempt(task: AgentTask, chat: ChatT2, **options: Any) -> Outcome:
    """Let an agent do the task. ``options``: as of `T2Middleware`."""
    with TemporaryDirectory() as folder:
        task.write_files(Path(folder))
        offered = load_tools(task.offered, defaults={"chat": chat, "folder": folder})
        middleware = [T2Middleware(max_steps=_MAX_STEPS, **options)]
        agent = create_t2_agent(chat, offered, middleware=middleware)
        messages, error = _walked(agent, task.message)
    return _outcome(task.problem, messages, error)


def _walked(agent: Any, asked: HumanMessage) -> tuple[list[BaseMessage], str]:
    """What an agent's steps add to a message, and the error that ended them, or ""."""
    messages: list[BaseMessage] = [asked]
    try:
        for state in agent.stream({"messages": messages}, stream_mode="values"):
            messages = state["messages"]
    except T2Error as failed:
        return messages[1:], f"{type(failed).__name__}: {failed}"
    return messages[1:], ""


def _outcome(problem: Problem, messages: Sequence[BaseMessage], error: str) -> Outcome:
    asked = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    wanted = [(call.name, dict(call.arguments)) for call in problem.calls]
    last = messages[-1] if messages else None
    answered = isinstance(last, AIMessage) and not last.tool_calls and not error
    return Outcome(
        answered and _served(messages) and is_right(str(last.text), problem.answer, None),  # type: ignore[union-attr]
        [(call["name"], call["args"]) for call in asked] == wanted,
        _told(messages, error),
    )


def _served(messages: Sequence[BaseMessage]) -> bool:
    return any(isinstance(m, ToolMessage) and m.status == "success" for m in messages)


def _told(messages: Sequence[BaseMessage], error: str) -> tuple[str, ...]:
    return (*map(_shown, messages), *([error] if error else []))


def _shown(message: BaseMessage) -> str:
    if not isinstance(message, AIMessage):
        return f"tool: {message.text}"
    if "dispatch" not in message.response_metadata:  # it tells that there were enough steps
        return f"agent: {message.text}"
    weights = message.response_metadata["dispatch"]["mixture"]["weights"]
    calls = [f"{call['name']}({call['args']})" for call in message.tool_calls]
    return f"{', '.join(weights) or 'base'}: {' '.join([str(message.text), *calls]).strip()}"


def serve(asked: AgentRequest, chat: ChatT2, **options: Any) -> Outcome:
    """Let an agent with the three tools answer a request. ``options``: as of `T2Middleware`."""
    agent = create_t2_agent(chat, TOOLS, middleware=[T2Middleware(max_steps=_MAX_STEPS, **options)])
    messages, error = _walked(agent, HumanMessage(asked.text))
    calls = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    right = [(call["name"], call["args"]) for call in calls] == [
        (asked.tool.__name__, dict(asked.arguments))
    ]
    last = messages[-1] if messages else None
    ended = isinstance(last, AIMessage) and not last.tool_calls and not error
    answered = ended and _served(messages) and asked.is_answered(str(last.text))  # type: ignore[union-attr]
    return Outcome(answered, right, _told(messages, error))


def run(seed: int = 0, progress: bool = True, model: str = "t2-nano") -> dict[str, Any]:
    """Shares of the tasks (0 to 1) by the agent with experts and by the base model alone: solved,
    those with an image and without, and those with the right calls; solved by kind; and the steps
    of each task that the experts did not solve.

    model: "t2-nano" for its own tasks; any other for the fifty real requests, whatever the seed.

    Raises ConfigError for a seed that is no whole number.
    """
    if not isinstance(seed, int):
        raise ConfigError(f"seed is {seed!r}: give a whole number")
    if model != "t2-nano":
        return _run_three_tools(model, progress)
    chat = ChatT2("t2-nano", max_tokens=_MAX_TOKENS)
    todo = agent_tasks(seed)
    outcomes: dict[str, list[Outcome]] = {"experts": [], "base": []}
    with progress_bar("tasks", len(todo), progress) as bar:
        for task in todo:
            outcomes["experts"].append(attempt(task, chat))
            outcomes["base"].append(attempt(task, chat, dispatch="off"))
            bar.advance(1, task=task.kind)
    return {
        "tasks": len(todo),
        "summary": {
            who: _shares(todo, done)
            | {"kinds": {kind: _solved(todo, done, kind) for kind in KINDS}}
            for who, done in outcomes.items()
        },
        "unsolved": [
            {
                "kind": task.kind,
                "request": task.problem.question,
                "tools": list(task.offered),
                "answer": task.problem.answer,
                "steps": list(done.steps),
            }
            for task, done in zip(todo, outcomes["experts"], strict=True)
            if not done.solved
        ],
    }


def _run_three_tools(model: str, progress: bool) -> dict[str, Any]:
    chat = ChatT2(model, max_tokens=_MAX_TOKENS)
    todo = requests()
    outcomes: dict[str, list[Outcome]] = {"experts": [], "base": []}
    with progress_bar("requests", len(todo), progress) as bar:
        for asked in todo:
            outcomes["experts"].append(serve(asked, chat))
            outcomes["base"].append(serve(asked, chat, dispatch="off"))
            bar.advance(1, tool=asked.tool.__name__)
    return {
        "tasks": len(todo),
        "model": model,
        "summary": {who: _of_tools(todo, done) for who, done in outcomes.items()},
        "unsolved": [
            {"request": asked.text, "answer": asked.value, "steps": list(done.steps)}
            for asked, done in zip(todo, outcomes["experts"], strict=True)
            if not done.solved
        ],
    }


def _of_tools(todo: Sequence[AgentRequest], done: Sequence[Outcome]) -> dict[str, Any]:
    pairs = list(zip(todo, done, strict=True))
    return {
        "solved": mean(one.solved for one in done),
        "right_calls": mean(one.calls for one in done),
        "tools": {
            tool.__name__: mean(one.solved for asked, one in pairs if asked.tool is tool)
            for tool in TOOLS
        },
    }


def _shares(todo: Sequence[AgentTask], done: Sequence[Outcome]) -> dict[str, float]:
    solved = [
        (task.problem.scene is not None, outcome.solved)
        for task, outcome in zip(todo, done, strict=True)
    ]
    return {
        "solved": mean(right for _, right in solved),
        "solved_text": mean(right for image, right in solved if not image),
        "solved_image": mean(right for image, right in solved if image),
        "right_calls": mean(outcome.calls for outcome in done),
    }


def _solved(todo: Sequence[AgentTask], done: Sequence[Outcome], kind: str) -> float:
    pairs = zip(todo, done, strict=True)
    return mean(outcome.solved for task, outcome in pairs if task.kind == kind)
