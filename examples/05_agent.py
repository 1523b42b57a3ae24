"""An agent with tools: every step shows who answered it, what it called and what came back.

python examples/05_agent.py
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from t2agent import ChatT2, T2Middleware, create_t2_agent
from t2agent.toolbox import load_tools


def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    return f"sunny in {city}"


def show(message: BaseMessage) -> None:
    if isinstance(message, ToolMessage):
        print(f"  {message.name} gives {message.text}")
    elif isinstance(message, AIMessage):
        weights = message.response_metadata["dispatch"]["mixture"]["weights"]
        calls = ", ".join(f"{call['name']}({call['args']})" for call in message.tool_calls)
        print(f"  [{', '.join(weights) or 'base model'}] {calls or message.text}")


def main() -> None:
    chat = ChatT2()  # t2-nano with its experts

    # Bundled tools by name, and a function of your own. None instead of a list: all bundled ones.
    agent = create_t2_agent(chat, ["calculator", "add_days", "weekday"])
    for question in (
        "Which weekday is 19 days after 2026-01-25?",
        "Compute 54 * 37, then add 13.",
    ):
        print(question)
        state = agent.invoke({"messages": [("user", question)]})
        for message in state["messages"][1:]:
            show(message)
        print(f"  decisions kept: {len(state['t2_decisions'])}")

    weather = create_t2_agent(chat, [get_weather])
    print("What is the weather in Paris?")
    for update in weather.stream(
        {"messages": [("user", "What is the weather in Paris?")]}, stream_mode="updates"
    ):
        for change in update.values():
            for message in change.get("messages", ()):
                show(message)

    # An agent of your own gets the same by a middleware, here with a say in each step.
    def choose(request: ModelRequest) -> dict[str, str] | None:
        return {"expert": "tools"} if len(request.messages) == 1 else None

    own = create_agent(chat, load_tools(["calculator"]), middleware=[T2Middleware(choose=choose)])
    state = own.invoke({"messages": [("user", "What is 23 * 47?")]})
    print("What is 23 * 47?")
    for message in state["messages"][1:]:
        show(message)
    print(f"  strategies: {', '.join(step['strategy'] for step in state['t2_decisions'])}")


if __name__ == "__main__":
    main()
