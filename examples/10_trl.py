"""Train an expert with TRL's SFTTrainer instead of t2agent's own loop.

    pip install 't2agent[trl]'
    python examples/10_trl.py

z is an ordinary module here, so TRL's other trainers (GRPOTrainer, DPOTrainer, ...), its callbacks
and its ways to run on many GPUs are there, too. Half a minute on the CPU.
"""

from __future__ import annotations

import random
import tempfile

from t2agent import T2Model
from t2agent.train import AdaptedModule


def conversations(n: int) -> list[dict[str, list[dict[str, str]]]]:
    """Sums, answered by the whole equation."""
    rng = random.Random(0)
    found = []
    for _ in range(n):
        a, b = rng.randint(2, 19), rng.randint(2, 19)
        prompt = [{"role": "user", "content": f"What is {a} + {b}?"}]
        completion = [{"role": "assistant", "content": f"{a} + {b} = {a + b}"}]
        found.append({"prompt": prompt, "completion": completion})
    return found


def answer(model: T2Model, prompt: str) -> str:
    """Greedily, as the model is adapted where this is called."""
    inputs = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    tokens = model.model.generate(**inputs, max_new_tokens=24, do_sample=False)
    text: str = model.tokenizer.decode(
        tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return text


def main() -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = T2Model.from_pretrained("t2-nano")
    data = conversations(640)
    examples = [row["prompt"][0]["content"] for row in data[:64]]
    module = AdaptedModule.of(model, "equations", examples=examples)
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, max_steps=20, per_device_train_batch_size=32, learning_rate=0.02,
            use_cpu=model.device.type == "cpu", bf16=False, save_strategy="no", logging_steps=5,
            report_to=[], disable_tqdm=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            module, config, train_dataset=Dataset.from_list(data), processing_class=model.tokenizer
        )
        trainer.train()
        trainer.save_model()  # an expert's folder
        model.registry.register(folder)

    # `model` is the base model as it was, and knows one expert more.
    for what in (None, "equations"):
        with model.adapted(what):
            print(f"{what or 'base model'}: {answer(model, 'What is 8 + 14?')}")


if __name__ == "__main__":
    main()
