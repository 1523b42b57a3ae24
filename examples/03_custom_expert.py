"""An expert of your own for the real model: train one in ten lines, register one in three.

    python examples/03_custom_expert.py [STEPS]

Ten steps, about a minute; `t2agent train` does the same from a file of JSON lines.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

from t2agent import ChatT2, T2Model, register_expert
from t2agent.train import Example, ExampleTask, train_expert

ITEMS = (
    "lamp",
    "kettle",
    "jacket",
    "bicycle",
    "phone",
    "desk",
    "tent",
    "mirror",
    "watch",
    "blender",
)
MESSAGES = {
    "RETURN": ("I want to send the {} back.", "How do I return my {}?", "The {} does not fit me."),
    "BROKEN": ("My {} stopped working.", "The {} came with a crack.", "The {} makes an odd noise."),
    "WHERE": ("When will my {} arrive?", "I am still waiting for the {}.", "Has the {} been sent?"),
}


def train(model: T2Model, folder: Path, steps: int) -> None:
    """A shop's own codes for its customers' messages."""
    examples = [
        Example(message.format(item), code)
        for code, messages in MESSAGES.items()
        for message, item in itertools.product(messages, ITEMS)
    ]
    task = ExampleTask("shop-codes", examples, reward="exact")
    expert = train_expert(model, task, method="sft", steps=steps, validation=9)
    print(f"reward on validation: {expert.card.scores}")
    expert.save(folder)


def main() -> None:
    model = T2Model.from_pretrained("auto")
    chat = ChatT2(model, max_tokens=16)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shop-codes"
        train(model, folder, int(sys.argv[1]) if len(sys.argv) > 1 else 10)

        # Three lines: any folder with an expert. persist=True keeps it for later processes.
        register_expert(folder, model=model.name, persist=False)
        message = "The zip of my new backpack broke on the first day."
        print("base model:", chat.invoke(message, dispatch="off").text)
        print("shop-codes:", chat.invoke(message, expert="shop-codes").text)


if __name__ == "__main__":
    main()
