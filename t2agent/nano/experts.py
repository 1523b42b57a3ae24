"""Train the experts that are shipped with t2-nano: ``python -m t2agent.nano.experts``.

Each is trained with the product's own trainer (`t2agent.train.train_expert`) by REINFORCE, on
prompts of the train split, chosen on the validation split, and scored once on the test split.
Its card carries example prompts of ours and, where there are any, of real data.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from t2agent.bundle import bundled
from t2agent.dispatch.examples import real_examples
from t2agent.expert import Expert
from t2agent.model import T2Model
from t2agent.nano.accuracy import accuracy
from t2agent.nano.tasks import DOMAINS, TASKS
from t2agent.train import attach_record, train_expert

DESCRIPTIONS = {
    "math": "Arithmetic and word problems, worked out step by step.",
    "code": "Python expressions, answered as the console shows them.",
    "reasoning": "Which option fits: questions with choices, answered with the word alone.",
    "read": "Numbers in an image, read and given alone.",
}
_REAL = ("math", "code", "reasoning")  # domains that have real example prompts
_OWN_EXAMPLES = 256
_SCORED = 200


def train_domain(
    model: T2Model, name: str, *, seed: int = 0, work: Path | None = None, progress: bool = True
) -> Expert:
    """Train and score the expert of one domain. ``work``: folder of its checkpoint."""
    task = TASKS[name]
    expert = train_expert(
        model,
        task,
        steps=45,
        validation=128,
        seed=seed,
        checkpoint=work,
        progress=progress,
        name=name,
        description=DESCRIPTIONS[name],
    )
    examples = task.sample(_SCORED, seed=0, split="test")
    prompts = [e.prompt for e in task.sample(_OWN_EXAMPLES, seed=0, split="train")]
    if name in _REAL:
        prompts += real_examples(name)
    card = replace(
        expert.card,
        examples=tuple(dict.fromkeys(prompts)),
        scores={
            **expert.card.scores,
            "test": accuracy(model, task, examples, expert),
            "test_base": accuracy(model, task, examples),
            "test_requests": _SCORED,
        },
        license="Apache-2.0",
    )
    return Expert(card, expert.z)


def main() -> None:
    """Train what the command line asks for and write it into the shipped experts."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m t2agent.nano.experts")
    parser.add_argument("domains", nargs="*", choices=[*DOMAINS, []], help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/experts"), help="checkpoints")
    parser.add_argument("--out", type=Path, help="folder of the experts (default: the shipped)")
    options = parser.parse_args()
    out = options.out or bundled("experts") / "t2-nano"
    model = T2Model.from_pretrained("t2-nano")
    for name in options.domains or DOMAINS:
        work = options.work / f"{name}-{options.seed}"
        expert = train_domain(model, name, seed=options.seed, work=work)
        expert.save(out / name)
        attach_record(work, out / name)
        print(name, dict(expert.card.scores))


if __name__ == "__main__":
    main()
