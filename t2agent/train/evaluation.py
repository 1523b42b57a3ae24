"""What experts are worth for a task: greedy replies to its examples, judged by the task.

Measured as training validates: decoded greedily, each reply at most as long as the task says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import mean
from typing import Any

from t2agent.errors import ConfigError
from t2agent.experts.expert import Mixture, MixtureLike
from t2agent.models.calls import judged_marks
from t2agent.models.generate import generate
from t2agent.models.model import T2Model
from t2agent.models.options import Count, GenerationOptions, check_option
from t2agent.models.prompt import Prompt
from t2agent.progress import Bar, progress_bar
from t2agent.tasks.reward import is_right, scores
from t2agent.tasks.task import Example, Task, distinct, longest_reply
from t2agent.train.confidence import Interval
from t2agent.train.judging import judged, read
from t2agent.train.metrics import judged_reply
from t2agent.train.setup import modality_of

_ROWS = 50  # requests in one batch


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A mixture beside the base model, on the same examples of a task.

    Attributes:
        examples: how many, all different.
        reward, base: mean rewards, each in [-1, 1], with their 95 % intervals over the examples.
        gain: mean of the differences between the two rewards of each example, with its interval: if
            that leaves out 0, the one is better than the other on this task.
        right, base_right: shares of right replies (0 to 1); see `accuracy`.
        replies: all of them, as `judged_reply` has them, with ``by``, "expert" or "base".
    """

    examples: int
    reward: Interval
    base: Interval
    gain: Interval
    right: float
    base_right: float
    replies: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def figures(self) -> dict[str, Any]:
        """All but the replies, in plain JSON."""
        plain = asdict(replace(self, replies=()))
        del plain["replies"]
        return plain


def evaluate(
    model: T2Model,
    task: Task,
    what: MixtureLike,
    *,
    n: int = 300,
    split: str = "test",
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure a mixture (or an expert, or its name) and the base model on a task.

    Args:
        model: the base model.
        task: where examples come from and how replies are judged.
        what: as `T2Model.adapted` takes it.
        n: how many examples are drawn; those drawn twice, from a small split, count once.
        split: "train", "val" or "test".
        seed: of the draw.
        progress: show a bar on stderr.

    Raises:
        ConfigError: the split is unknown or empty, or a reward is not in [-1, 1].
        ModalityError: the task has images and the model reads text only.
        ExpertNotFoundError, ExpertMismatchError: as `T2Model.adapted`.
    """
    check_option("n", n, Count)
    model.resolve(what)  # before any work
    examples = distinct(task.sample(n, seed=seed, split=split))
    if not examples:
        raise ConfigError(f"task {task.name!r} gave no examples of split {split!r}")
    modality_of(model, examples)
    with progress_bar(f"measuring {task.name}", 2 * len(examples), progress) as bar:
        adapted = replies(model, task, examples, what, bar=bar)
        plain = replies(model, task, examples, bar=bar)
    rewards = judged(model, task, adapted, examples)
    base = judged(model, task, plain, examples)
    right = _right(task, read(model, adapted, examples), examples, rewards)
    base_right = _right(task, read(model, plain, examples), examples, base)
    return Evaluation(
        len(examples),
        Interval.of(rewards),
        Interval.of(base),
        Interval.of(one - other for one, other in zip(rewards, base, strict=True)),
        mean(right),
        mean(base_right),
        [
            {"by": by, **judged_reply(*row)}
            for pair in zip(
                zip(examples, adapted, rewards, right, strict=True),
                zip(examples, plain, base, base_right, strict=True),
                strict=True,
            )
            for by, row in zip(("expert", "base"), pair, strict=True)
        ],
    )


def replies(
    model: T2Model,
    task: Task,
    examples: Sequence[Example],
    what: Any = None,
    *,
    bar: Bar | None = None,
) -> list[str]:
    """Greedy replies. ``what``: a mixture for all (as `T2Model.adapted` takes it), or a list of
    one for each example. ``bar`` moves on by one for each."""
    texts = [""] * len(examples)
    options = GenerationOptions(max_tokens=longest_reply(task))
    groups: dict[Any, list[int]] = {}
    for place in range(len(examples)):
        one = what[place] if isinstance(what, list) else what
        groups.setdefault(Mixture(one) if isinstance(one, Mapping) else one, []).append(place)
    for one, places in groups.items():
        # Many tokens share the adapted weights, so it saves time to form them.
        merge = one is not None and model.writable
        with model.merged(one, keep=False) if merge else model.adapted(one):
            for start in range(0, len(places), _ROWS):
                rows = places[start : start + _ROWS]
                prompts = [Prompt.of(examples[k]) for k in rows]
                found = generate(model, prompts, options, keep=judged_marks(model, examples))
                for k, generation in zip(rows, found, strict=True):
                    texts[k] = generation.text
                if bar is not None:
                    bar.advance(len(rows))
    return texts


def accuracy(model: T2Model, task: Task, examples: Sequence[Example], what: Any = None) -> float:
    """Share of the examples that are answered rightly (0 to 1).

    Right is what earns the full reward, 1; of a task with ``scores`` or ``score`` (0 to 1, as
    `RealTask` has them), the mean score counts instead.
    """
    texts = read(model, replies(model, task, examples, what), examples)
    return mean(_right(task, texts, examples))


def _right(
    task: Task,
    texts: Sequence[str],
    examples: Sequence[Example],
    rewards: Sequence[float] | None = None,
) -> list[float]:
    """How right each reply is, from 0 to 1; ``rewards``: where they are known."""
    if callable(together := getattr(task, "scores", None)):
        return list(together(texts, examples))
    if one := getattr(task, "score", None):
        return [one(*pair) for pair in zip(texts, examples, strict=True)]
    rewards = scores(task, texts, examples) if rewards is None else rewards
    return [float(is_right(value)) for value in rewards]
