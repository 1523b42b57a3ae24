"""Replies of a schema: a pydantic class, a JSON schema, and an agent's answer.

    python examples/07_structured_output.py

Decoding is held to the schema, so every reply parses; that it is right is the experts' part.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from t2agent import ChatT2, create_t2_agent
from t2agent.models.installed import is_installed

LETTER = (
    "Hello, my name is Maria Lopez and I work for Northwind Bicycles in Boston. "
    "Please call me back on 555 0142."
)


class Contact(BaseModel):
    """Who wrote a message."""

    person: str
    company: str
    city: str
    phone: str


RESTAURANT: dict[str, Any] = {
    "title": "restaurant",
    "type": "object",
    "properties": {key: {"type": "string"} for key in ("name", "food", "area", "price")},
    "additionalProperties": False,
}


def find_order(order_number: str) -> dict[str, str]:
    """Find out where a customer's order is.

    Args:
        order_number: number of the order
    """
    return {"order_number": order_number, "status": "on its way", "arrival": "Thursday"}


class Delivery(BaseModel):
    """When an order comes."""

    order_number: str
    arrival: str


def main() -> None:
    if not is_installed("smollm2"):
        print("This needs the real model; get it with: t2agent models add smollm2")
        return
    chat = ChatT2("smollm2", max_tokens=96)

    print(repr(chat.with_structured_output(Contact).invoke(LETTER)))

    # The message beside what was parsed, and with it the experts.
    text = "The Golden Curry is a cheap Indian restaurant by the riverside."
    full: Any = chat.with_structured_output(RESTAURANT, include_raw=True).invoke(text)
    print(full["parsed"], full["raw"].response_metadata["dispatch"]["mixture"]["weights"])

    # An agent may call tools first; its last reply has the form.
    agent = create_t2_agent(chat, [find_order], response_format=Delivery)
    state = agent.invoke({"messages": [("user", "When does my order 48213 arrive?")]})
    for message in state["messages"][1:-1]:
        for call in getattr(message, "tool_calls", ()):
            print(f"called {call['name']}: {call['args']}")
    print(repr(state["structured_response"]))


if __name__ == "__main__":
    main()
