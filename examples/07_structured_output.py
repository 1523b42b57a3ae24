"""Replies of a schema: a pydantic class, a choice of words, a JSON schema, and an agent's answer.

    python examples/07_structured_output.py

Decoding is held to the schema, so every reply parses; that it is right is the experts' part.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from t2agent import ChatT2, create_t2_agent


class Number(BaseModel):
    """The answer to a sum."""

    answer: int


class Animal(BaseModel):
    """The word that names an animal."""

    answer: Literal["apple", "belt", "iron", "dog"]


NUMBERS: dict[str, Any] = {
    "title": "numbers",
    "type": "object",
    "properties": {"answer": {"type": "array", "items": {"type": "integer"}}},
    "required": ["answer"],
}


def main() -> None:
    chat = ChatT2(max_tokens=96)

    print(repr(chat.with_structured_output(Number).invoke("What is 7 * 3 + 12?")))
    which = "Which one is an animal? Options: apple, belt, iron or dog."
    print(repr(chat.with_structured_output(Animal).invoke(which)))
    ordered = "What is the value of sorted([4, 9, 2, 7])?"
    print(chat.with_structured_output(NUMBERS).invoke(ordered))

    # The message beside what was parsed, and with it the experts.
    full: Any = chat.with_structured_output(Number, include_raw=True, expert="json").invoke(
        "Tom has 7 bags with 3 apples each and finds 12 more. How many apples does Tom have?"
    )
    print(full["parsed"], full["raw"].response_metadata["dispatch"]["mixture"]["weights"])

    # An agent may call tools first; its last reply has the form.
    agent = create_t2_agent(chat, ["calculator"], response_format=Number)
    state = agent.invoke({"messages": [("user", "Compute 54 * 37, then add 13.")]})
    for message in state["messages"][1:-1]:
        for call in getattr(message, "tool_calls", ()):
            print(f"called {call['name']}: {call['args']}")
    print(repr(state["structured_response"]))


if __name__ == "__main__":
    main()
