"""An agent and images: one that a tool brings changes the experts on the way, and tools work on it.

python examples/06_image_agent.py
"""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from t2agent import ChatT2, create_t2_agent
from t2agent.nano.tasks import TASKS
from t2agent.toolbox.images import image_block

# Pictures as t2-nano knows them: 64 x 64 pixels with a printed number.
NUMBER = TASKS["read"].sample(1, seed=3, split="test")[0]


@tool
def open_image() -> list[dict[str, str]]:
    """Opens the image."""
    assert NUMBER.image is not None
    return [image_block(NUMBER.image)]


def show(messages: list[BaseMessage]) -> None:
    for message in messages[1:]:
        if isinstance(message, ToolMessage):
            seen = "an image" if isinstance(message.content, list) else message.text
            print(f"  {message.name} gives {seen}")
        elif isinstance(message, AIMessage):
            weights = message.response_metadata["dispatch"]["mixture"]["weights"]
            calls = ", ".join(f"{call['name']}({call['args']})" for call in message.tool_calls)
            print(f"  [{', '.join(weights) or 'base model'}] {calls or message.text}")


def main() -> None:
    chat = ChatT2("t2-nano")

    # No image yet: the expert for tool calls. The image is there: the expert for reading.
    question = "What number is in the image?"
    print(f"{question} (it shows {NUMBER.answer})")
    show(create_t2_agent(chat, [open_image]).invoke({"messages": [("user", question)]})["messages"])

    # Tools that work on the image of the conversation; they get it from the agent's state.
    assert NUMBER.image is not None
    for question, name in (
        ("Multiply the number in the image by 12.", "calculator"),
        ("What colour is the image at 3, 3?", "measure_colour"),
        ("Cut out the rectangle 8, 8, 40, 40.", "crop_image"),
    ):
        print(question)
        message = HumanMessage(
            [dict(image_block(NUMBER.image)), {"type": "text", "text": question}]
        )
        show(create_t2_agent(chat, [name]).invoke({"messages": [message]})["messages"])


if __name__ == "__main__":
    main()
