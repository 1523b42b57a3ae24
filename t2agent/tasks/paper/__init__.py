"""The tasks of the Transformer-squared paper: real data, its prompts, its scoring.

    task = load_task("gsm8k")
    expert = train_expert(model, task)

| name | data set on the Hub | licence | splits |
|---|---|---|---|
| gsm8k | openai/gsm8k | MIT | train (90 % train, 10 % val), test |
| math | EleutherAI/hendrycks_math | MIT | train (90 % train, 10 % val), test |
| mbpp | google-research-datasets/mbpp | CC-BY-4.0 | train, validation, test |
| humaneval | openai/openai_humaneval | MIT | test |
| arc_easy, arc_challenge | allenai/ai2_arc | CC-BY-SA-4.0 | train, validation, test |
| textvqa | lmms-lab/textvqa | CC-BY-4.0 | train (90 % train, 10 % val), test = validation |
| okvqa | lmms-lab/OK-VQA | CC-BY-4.0 | test = val2014 |

Data come through the `datasets` library (``pip install 't2agent[data]'``), which keeps what it
downloaded; nothing is loaded before the first `sample`. Without it, or without a network, give a
folder of JSON-lines files in the data set's own fields (`rows`).

Prompts: the system messages of the authors' repository (SakanaAI/self-adaptive-llms, as its public
copies have them), put before the question, as an example here has no system message. The paper
names no prompt for images; these are the usual ones. What differs is said in each module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from t2agent.errors import ConfigError
from t2agent.tasks.paper.arc import ArcChallenge, ArcEasy
from t2agent.tasks.paper.base import RealTask
from t2agent.tasks.paper.code import HumanEval, Mbpp
from t2agent.tasks.paper.gsm8k import Gsm8k
from t2agent.tasks.paper.math import Math
from t2agent.tasks.paper.vqa import OkVqa, TextVqa

__all__ = ["REAL_TASKS", "load_task"]

_TASKS = (Gsm8k, Math, Mbpp, HumanEval, ArcEasy, ArcChallenge, TextVqa, OkVqa)
REAL_TASKS: Mapping[str, type[RealTask]] = MappingProxyType({task.name: task for task in _TASKS})
"""Name -> what makes the task; see `load_task`."""


def load_task(name: str, path: Path | str | None = None) -> RealTask:
    """A task of the paper. Its data are read when it is first asked for examples.

    Args:
        name: one of `REAL_TASKS`.
        path: a folder with the data, see `rows.read_split`; without it the folder ``name`` in
            ``$T2AGENT_TASK_DATA`` if there is one, else the `datasets` library.

    Raises:
        ConfigError: no such task.
    """
    if name not in REAL_TASKS:
        raise ConfigError(f"got the task {name!r}; needed one of {', '.join(REAL_TASKS)}")
    return REAL_TASKS[name](path)
