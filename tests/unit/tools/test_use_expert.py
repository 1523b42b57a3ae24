from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import StateGraph
from langgraph.prebuilt import ToolNode

from t2agent.chat.agent import T2State
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.registry import Registry
from t2agent.toolbox import load_tools
from t2agent.toolbox.experts import asked_for


@pytest.fixture
def registry() -> Registry:
    registry = Registry("org/base")
    for name in ("sums", "poems"):
        registry.register(Expert(ExpertCard(name), {"m": torch.ones(3)}))
    return registry


def asked(registry: Registry, name: str) -> ToolMessage:
    """The tool's answer in an agent that keeps decisions."""
    graph = StateGraph(T2State)
    graph.add_node("tools", ToolNode(load_tools("use_expert", chat=registry)))
    graph.set_entry_point("tools")
    request = AIMessage("", tool_calls=[{"name": "use_expert", "args": {"name": name}, "id": "1"}])
    state: Any = {"messages": [HumanMessage("Hi"), request], "t2_decisions": [{}]}
    answer = graph.compile().invoke(state)["messages"][-1]
    assert isinstance(answer, ToolMessage)
    return answer


def test_an_expert_is_asked_for(registry: Registry) -> None:
    answer = asked(registry, " sums ")

    assert (answer.status, answer.content) == ("success", "The expert sums answers from now on.")
    assert asked_for([HumanMessage("Hi"), answer]) == "sums"
    assert asked_for([answer, asked(registry, "poems"), AIMessage("so")]) == "poems"
    assert asked_for([answer, HumanMessage("And now?")]) is None


def test_nobody_has_that_name(registry: Registry) -> None:
    answer = asked(registry, "sum")

    assert answer.status == "error"
    assert "Did you mean 'sums'" in answer.content
    assert asked_for([answer]) is None


def test_an_agent_that_would_not_listen(registry: Registry, refused: Callable[..., str]) -> None:
    told = refused("use_expert", {"name": "sums"}, chat=registry)

    assert "no T2Middleware" in told


@pytest.mark.parametrize("name", ["ask_expert", "use_expert"])
def test_a_grammar_lets_a_model_write_only_the_experts_names(registry: Registry, name: str) -> None:
    chat = SimpleNamespace(registry=registry, invoke=lambda *_: None)
    (tool,) = load_tools(name, chat=chat)

    assert tool.args["name"]["enum"] == ["poems", "sums"]
    assert tool.args["name"]["type"] == "string"


@pytest.mark.parametrize("chat", [None, 3])
def test_no_experts(chat: object) -> None:
    with pytest.raises(ConfigError, match="give a ChatT2"):
        load_tools("use_expert", chat=chat)
