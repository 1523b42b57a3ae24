"""REINFORCE with a KL term to the base model.

Source: Transformer-Squared (arXiv 2501.06252), sec. 3.2:

    J(z) = E[log pi_{W'}(y | x) r(y, y*)] - lambda KL(pi_{W'} || pi_W),  r in {-1, +1}.

Deviations: several replies are sampled for each prompt, and a reply's reward counts relative to
the mean reward of the prompt's other replies (leave-one-out, so the estimate stays unbiased)
unless ``baseline="none"``; both terms are divided by the number of sampled tokens of the step,
which Adam does not see; rewards may be any numbers in [-1, 1]. A step in which no prompt's replies
differ in reward has no signal: what would be left is the KL term's gradient, which is rounding
noise near the base model, and Adam makes full steps of it. Such a step moves nothing. In a step
with a signal, prompts whose replies all earn the same add the KL term alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2agent.tasks.task import Example, Task
from t2agent.train.judging import judged
from t2agent.train.learner import Learner, Row
from t2agent.train.lesson import Lesson, Sampled
from t2agent.train.options import TrainOptions


def sampled(
    learner: Learner, task: Task, examples: Sequence[Example], seeds: Sequence[Sequence[int]]
) -> Lesson:
    """Replies to the examples, sampled with these seeds (of `reply_seeds`) and judged."""
    options = learner.options
    groups = learner.replies(
        examples, samples=options.samples, temperature=options.temperature, seeds=seeds
    )
    # Equal replies to one prompt are judged once, and all replies together.
    replies = list(dict.fromkeys((i, g.text) for i, group in enumerate(groups) for g in group))
    asked = [examples[i] for i, _ in replies]
    found = judged(learner.model, task, [text for _, text in replies], asked)
    worth = dict(zip(replies, found, strict=True))
    rewards = [[worth[i, g.text] for g in group] for i, group in enumerate(groups)]
    flat = [value for values in rewards for value in values]
    rows: dict[tuple[int, tuple[int, ...]], Row] = {}
    for index, (group, values) in enumerate(zip(groups, rewards, strict=True)):
        for generation, weight in zip(group, advantages(values, options), strict=True):
            key = (index, generation.token_ids)
            seen = rows.get(key, Row(*key, 0.0, 0))
            # Equal replies to one prompt have equal gradients: one row stands for all of them.
            rows[key] = Row(*key, seen.weight + weight, seen.count + 1)
    compared = [flat] if options.baseline == "none" else rewards
    return Lesson(
        examples,
        # Without the KL term, a row of weight 0 has no gradient.
        [row for row in rows.values() if options.kl > 0 or row.weight != 0.0],
        sum(len(g.token_ids) for group in groups for g in group),
        sum(flat) / len(flat),
        any(len(set(values)) > 1 for values in compared),
        Sampled(
            rewards,
            [len(g.token_ids) for group in groups for g in group],
            sum(g.finish_reason == "length" for group in groups for g in group),
        ),
    )


def advantages(rewards: Sequence[float], options: TrainOptions) -> list[float]:
    """What each reply of one prompt is worth, by the options' baseline."""
    if options.baseline == "none":
        return list(rewards)
    if len(set(rewards)) == 1:
        return [0.0] * len(rewards)  # exactly: 0.1 thrice is not 0.3
    total, others = sum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]
