"""P5: requests in the manner of other benchmarks than those that the examples are from.

The requests were written by hand for this project (tests/benchmarks/data), and nothing is learnt
from them. Figures wanted, as the experts ship and with other examples: math and code at least .95,
reasoning at least .70; AUROC of the scope at least .94; at least .75 of the requests in scope
pass the gate and .85 of the others are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2agent.bench.clinc import auroc
from t2agent.bench.datasets import CLINC, EXAMPLES, REQUESTS, read_json, read_jsonl
from t2agent.bench.shapes import private_cache
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.dispatch.shipped_requests import DOMAINS, written_requests
from t2agent.errors import ConfigError
from t2agent.experts.registry import Registry

_OTHER = "other"


def run(
    data: str = str(REQUESTS), examples: str = str(EXAMPLES), clinc: str = str(CLINC)
) -> dict[str, Any]:
    """Three cases: "shipped", t2-nano's experts as they come; "fitted", learning from `examples`
    alone; "left_out", the requests of each source of `examples`, learning from the other sources.

    Out of scope are the requests labelled "other" and, in "shipped" and "fitted", those that
    CLINC150 has for it as a second set. A case whose files are missing is left out.

    Args:
        data: JSON lines with prompt and label: math, code, reasoning or other.
        examples: JSON lines with prompt, task (a label) and source.
        clinc: CLINC150's file.

    Raises:
        ConfigError: `data` cannot be read, or a file has another content.
    """
    requests: dict[str, list[str]] = {}
    for row in read_jsonl(data, "prompt", "label"):
        requests.setdefault(row["label"], []).append(row["prompt"])
    outside = {_OTHER: requests.pop(_OTHER, [])}
    if not outside[_OTHER] or not requests:
        raise ConfigError(f"{data} needs requests in scope and others, labelled {_OTHER!r}")
    if Path(clinc).is_file():
        outside["clinc"] = [text for text, _ in read_json(clinc)["oos_test"]]
    cases = {"shipped": _measure(EmbeddingDispatcher(Registry("t2-nano")), requests, outside)}
    if Path(examples).is_file():
        rows = read_jsonl(examples, "prompt", "task", "source")
        with private_cache():
            cases["fitted"] = _measure(EmbeddingDispatcher().fit(_by_task(rows)), requests, outside)
            cases["left_out"] = _left_out(rows, outside[_OTHER])
    return cases


def _by_task(rows: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    prompts: dict[str, list[str]] = {}
    for row in rows:
        prompts.setdefault(row["task"], []).append(row["prompt"])
    return prompts


def _measure(
    dispatcher: EmbeddingDispatcher,
    inside: Mapping[str, Sequence[str]],
    outside: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    texts = [text for label in inside for text in inside[label]]
    truth = [label for label in inside for _ in inside[label]]
    right = np.array(dispatcher.predict(texts)) == truth
    scope = dispatcher.scope(texts)
    figures = {label: float(right[np.array(truth) == label].mean()) for label in sorted(inside)}
    figures["passed"] = float((scope >= dispatcher.scope_threshold).mean())
    for name, others in outside.items():
        theirs, suffix = dispatcher.scope(others), "" if name == _OTHER else f"_{name}"
        figures[f"refused{suffix}"] = float((theirs < dispatcher.scope_threshold).mean())
        figures[f"auroc{suffix}"] = auroc(scope, theirs)
    return figures


def _left_out(rows: Sequence[Mapping[str, str]], others: Sequence[str]) -> dict[str, Any]:
    """A task that has no other source keeps the requests that ship and were written for it."""
    figures = {}
    for source in sorted({row["source"] for row in rows}):
        inside = _by_task([row for row in rows if row["source"] == source])
        kept = {task: written_requests(task) for task in inside if task in DOMAINS}
        kept |= _by_task([row for row in rows if row["source"] != source])
        if inside.keys() <= kept.keys():
            figures[source] = _measure(EmbeddingDispatcher().fit(kept), inside, {_OTHER: others})
    return figures
