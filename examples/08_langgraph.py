"""A LangGraph graph with memory, and a human who approves before a tool runs.

    python examples/08_langgraph.py

The agent is a node of a graph like any other. The graph stops before the tool's call, whoever
runs it decides, and it goes on from where it was.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from t2agent import ChatT2
from t2agent.models.installed import is_installed


def book_table(restaurant: str, people: int, time: str) -> dict[str, Any]:
    """Book a table in a restaurant.

    Args:
        restaurant: name of the restaurant
        people: how many people will come
        time: time of the day
    """
    return {"restaurant": restaurant, "people": people, "time": time, "confirmation": "T-4471"}


def get_weather(city: str) -> dict[str, Any]:
    """Get the weather in a city right now.

    Args:
        city: name of the city, such as Bergen
    """
    return {"city": city, "condition": "heavy rain", "temperature": 7}


TOOLS = [book_table, get_weather]
FREE = {"get_weather"}  # nobody needs to approve what changes nothing


def approve(state: MessagesState) -> Command[Any]:
    """Ask a human; a refusal is what the model reads instead of a result."""
    last = state["messages"][-1]
    assert isinstance(last, AIMessage)
    [call] = last.tool_calls
    if call["name"] in FREE or interrupt({"tool": call["name"], "arguments": call["args"]}):
        return Command(goto="tools")
    told = "Error: the user said no"
    refusal = ToolMessage(told, tool_call_id=call["id"], name=call["name"], status="error")
    return Command(goto="model", update={"messages": [refusal]})


def wants_a_tool(state: MessagesState) -> str:
    return "approve" if getattr(state["messages"][-1], "tool_calls", None) else END


def build(chat: ChatT2) -> Any:
    bound = chat.bind_tools(TOOLS, parallel_tool_calls=False)

    def model(state: MessagesState) -> dict[str, Any]:
        """One step: dispatched by what is asked now."""
        return {"messages": [bound.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("approve", approve, destinations=("tools", "model"))
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", wants_a_tool, ["approve", END])
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=InMemorySaver())


def main() -> None:
    if not is_installed("smollm2"):
        print("This graph needs the real model; get it with: t2agent models add smollm2")
        return
    graph = build(ChatT2("smollm2", max_tokens=96))
    for conversation, question, yes in (
        ("first", "Book a table for 4 people at Luigi's at 7 pm.", True),
        ("first", "What's the weather like in Bergen?", True),
        ("second", "Please reserve a table at the Blue Door for two at 12:30.", False),
    ):
        # A thread's messages are remembered: the second question comes after the first one.
        thread: Any = {"configurable": {"thread_id": conversation}, "recursion_limit": 20}
        print(f"user: {question}")
        state = graph.invoke({"messages": [("user", question)]}, thread)
        while "__interrupt__" in state:
            asked = state["__interrupt__"][0].value
            print(f"  {asked['tool']}({asked['arguments']})? {'yes' if yes else 'no'}")
            state = graph.invoke(Command(resume=yes), thread)
        last = state["messages"][-1]
        weights = last.response_metadata["dispatch"]["mixture"]["weights"]
        print(f"agent [{', '.join(weights) or 'base model'}]: {last.text}")
        said = [message.type for message in state["messages"]]
        print(f"  remembered: {len(said)} messages, {said.count('human')} of the user")


if __name__ == "__main__":
    main()
