"""An expert of your own: train one in ten lines, register one in three.

    python examples/03_custom_expert.py

Ten steps, so that it takes half a minute; `t2agent train` does the same from a JSON-lines file.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from t2agent import T2Model, register_expert
from t2agent.train import Example, ExampleTask, train_expert


def train(model: T2Model, folder: Path) -> None:
    """Reward the bare number: an expert that answers sums without a word."""
    rng = random.Random(0)
    pairs = {(rng.randint(2, 19), rng.randint(2, 19)) for _ in range(200)}
    examples = [Example(f"What is {a} + {b}?", str(a + b)) for a, b in sorted(pairs)]
    task = ExampleTask("bare-sums", examples, reward="exact")
    expert = train_expert(model, task, method="reinforce", steps=10, max_tokens=24, validation=32)
    print(f"reward on validation: {expert.card.scores}")
    expert.save(folder)


def main() -> None:
    model = T2Model.from_pretrained("t2-nano")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bare-sums"
        train(model, folder)

        # Three lines: any folder with an expert. persist=True keeps it for later processes.
        register_expert(folder, model="t2-nano", persist=False)
        print("known experts:", ", ".join(model.registry.names()))
        prompt = model.tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is 8 + 14?"}],
            add_generation_prompt=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip

        for what in (None, "bare-sums"):
            # The model itself is a Hugging Face model; inside the block it is adapted.
            with model.adapted(what):
                tokens = model.model.generate(**prompt, max_new_tokens=24, do_sample=False)
            reply = model.tokenizer.decode(
                tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True
            )
            print(f"{what or 'base model'}: {reply}")


if __name__ == "__main__":
    main()
