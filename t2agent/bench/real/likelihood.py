"""Labels by likelihood: what a model knows of a text's label before it is taught to say it."""

from __future__ import annotations

import torch

from t2agent.bench.real.rows import Case, asked
from t2agent.models.likelihood import answer_tokens, log_likelihoods, rows_per_pass
from t2agent.models.model import T2Model
from t2agent.models.prompt import Prompt, encode
from t2agent.progress import progress_bar
from t2agent.tasks.task import Example


def likely_labels(model: T2Model, case: Case, *, progress: bool = True) -> list[str]:
    """For each row of a case of labels, the one that the base model gives the greatest probability
    as a whole reply to the same request."""
    found = []
    with (
        torch.no_grad(),
        model.adapted(None),
        progress_bar(f"{case.name}: labels by likelihood", len(case.rows), progress) as bar,
    ):
        for row, one in zip(case.rows, asked(case), strict=True):
            prompt = Prompt.of(Example(messages=one.messages))
            replies = [(0, answer_tokens(model, label)) for label in row["labels"]]
            length = encode(model, [prompt])["input_ids"].shape[1]
            size = rows_per_pass(model, length, max(len(tokens) for _, tokens in replies))
            scores: list[float] = []
            for start in range(0, len(replies), size):
                part = replies[start : start + size]
                scores += log_likelihoods(model, [prompt], part).tolist()
            found.append(row["labels"][scores.index(max(scores))])
            bar.advance(1)
    return found
