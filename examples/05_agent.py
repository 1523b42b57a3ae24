"""An agent with three tools of your own: every step shows who answered it, and what was called.

    python examples/05_agent.py

The agent is LangChain's; its model, smollm2, answers a step with tools on offer by the expert
`tools`, and one after a tool's result by `answer`.
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from t2agent import ChatT2, T2Middleware, create_t2_agent
from t2agent.models.installed import is_installed


def get_weather(city: str) -> dict[str, str | int]:
    """Get the weather in a city right now.

    Args:
        city: name of the city, such as Bergen
    """
    return {"city": city, "condition": "heavy rain", "temperature": 7}


def find_order(order_number: str) -> dict[str, str]:
    """Find out where a customer's order is.

    Args:
        order_number: number of the order
    """
    return {"order_number": order_number, "status": "on its way", "arrival": "Thursday"}


def opening_hours(day: str) -> dict[str, str]:
    """Look up the opening hours of the shop on a day of the week.

    Args:
        day: day of the week, such as Monday
    """
    return {"day": day, "opens": "10 am", "closes": "6 pm"}


TOOLS = (get_weather, find_order, opening_hours)


def show(message: BaseMessage) -> None:
    if isinstance(message, ToolMessage):
        print(f"  {message.name} gives {message.text}")
    elif isinstance(message, AIMessage):
        weights = message.response_metadata["dispatch"]["mixture"]["weights"]
        calls = ", ".join(f"{call['name']}({call['args']})" for call in message.tool_calls)
        print(f"  [{', '.join(weights) or 'base model'}] {calls or message.text}")


def main() -> None:
    if not is_installed("smollm2"):
        print("This agent needs the real model; get it with: t2agent models add smollm2")
        return
    chat = ChatT2("smollm2", max_tokens=96)
    agent = create_t2_agent(chat, TOOLS)  # bundled tools go by their names: "calculator"
    for question in (
        "What's the weather like in Bergen?",
        "Where is my order 48213?",
        "Thanks, have a nice day!",
    ):
        print(question)
        state = agent.invoke({"messages": [("user", question)]})
        for message in state["messages"][1:]:
            show(message)
        print(f"  decisions kept: {len(state['t2_decisions'])}")

    # An agent of your own gets the same by a middleware, here with a say in each step: after the
    # first call, the expert for answers.
    def choose(request: ModelRequest) -> dict[str, str] | None:
        return None if len(request.messages) == 1 else {"expert": "answer"}

    own = create_agent(chat, list(TOOLS), middleware=[T2Middleware(choose=choose)])
    question = "What are the opening hours of the shop on Saturday?"
    print(question)
    state = {}
    for state in own.stream({"messages": [("user", question)]}, stream_mode="values"):
        show(state["messages"][-1])
    print(f"  strategies: {', '.join(step['strategy'] for step in state['t2_decisions'])}")


if __name__ == "__main__":
    main()
