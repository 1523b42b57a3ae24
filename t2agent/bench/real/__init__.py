"""A real base model and its experts on real data: ``t2agent bench real``.

    t2agent bench real                                   # all rows of all files: hours
    t2agent bench real --quick                           # 30 rows of each case
    t2agent bench real --kind labels --kind arith --set rows=100
    t2agent bench real --held-out FOLDER                 # files of the same forms

For each case (files whose names begin alike), the base model, which is held to tools and schemas by
a grammar as any model here, the expert for such requests, and what dispatch makes of them, with
95 % intervals over the rows. Beside these: whether experts for something else are no better than
the base model, and a mix of requests of which some are none of any expert's business.

Every request goes through `ChatT2`. Replies are kept in the work folder as soon as they are there:
a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from t2agent.bench.datasets import CLINC
from t2agent.bench.real.measure import COLUMNS, Line, Measure
from t2agent.bench.real.replies import Replies
from t2agent.bench.real.rows import REAL, read_cases
from t2agent.bench.table import Cell, Table
from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError
from t2agent.files import write_text
from t2agent.models.model import T2Model
from t2agent.train.confidence import Interval

_HELD_OUT = "held_out"
_QUICK = {"rows": 30, "wrong": 10, "mixed": 60}


def run(
    *,
    quick: bool = False,
    model: str | T2Model = "smollm2",
    experts: Sequence[Path | str] = (),
    data: Path | str | None = None,
    held_out: Path | str | None = None,
    kind: Sequence[str] = (),
    rows: int | None = None,
    wrong: int = 50,
    mixed: int = 300,
    clinc: Path | str = CLINC,
    seed: int = 0,
    batch: int = 16,
    work: Path | str = "build/real",
    out: Path | str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Ask what is missing, judge, and write the report; the figures in plain JSON.

    Args:
        quick: at most 30 rows of a case, 10 with wrong experts, 60 mixed requests.
        model: the base model, as `T2Model.from_pretrained` takes it, or loaded.
        experts: folders of more experts, each in the place of the one of its name.
        data: the folder of the files; where neither this nor `held_out` is given,
            ../shared/data/real beside the checkout.
        held_out: another folder of such files, whose figures are under "held_out".
        kind: names of the cases to measure, such as tool_calls or labels; all without.
        rows: most of a case, drawn evenly from its sets (files and sources); None for all.
        wrong: rows of a case that each other expert answers, too; 0 to leave that out.
        mixed: requests of the mix, a third of them small talk and questions of knowledge; 0 to
            leave it out.
        clinc: CLINC150's file, where small talk is from.
        seed: of what is drawn.
        batch: requests that are answered together.
        work: where replies are kept.
        out: folder of report.md, results.json and judged.jsonl, which has each reply with its
            verdict; the work folder if not given.
        progress: show bars on stderr.

    Raises:
        ConfigError: a setting is unusable, files are missing or have rows of no known form.
        ExpertError: an expert cannot be read, or is for another base model.
    """
    if quick:
        rows = min(rows or _QUICK["rows"], _QUICK["rows"])
        wrong, mixed = min(wrong, _QUICK["wrong"]), min(mixed, _QUICK["mixed"])
    _check({"rows": 1 if rows is None else rows, "batch": batch}, 1)
    _check({"wrong": wrong, "mixed": mixed}, 0)
    chosen = [kind] if isinstance(kind, str) else list(kind)
    cases = read_cases(data or REAL, chosen) if data or held_out is None else []
    if held_out is not None:
        read = read_cases(held_out, chosen)
        cases += [replace(case, name=f"{_HELD_OUT}.{case.name}") for case in read]
    if rows is not None:
        cases = [case.drawn(rows, seed) for case in cases]
    folder = Path(work)
    chat = ChatT2(model)
    for one in experts:
        chat.registry.register(one, replace=True)
    replies = Replies(chat, folder / "replies.jsonl", batch=batch, progress=progress)
    measure = Measure(chat, replies, seed=seed, progress=progress)
    lines = [line for case in cases for line in measure.case(case)]
    pairs = measure.wrong(cases, wrong) if wrong else {}
    mix = measure.mixed(cases, mixed, clinc) if mixed else {}
    summary: dict[str, Any] = {}
    for line in lines:
        means = {column: cell.mean for column, cell in line.cells.items()}
        summary.setdefault(line.case, {})[line.figure] = means
    gaps = [gap for one in pairs.values() for gap in one.values()]
    if gaps:
        summary["wrong_at_most_base"] = mean(gap <= 0 for gap in gaps)
    if mix:
        summary["mixed"] = {"gap": mix["gap"], "left to base": mix["left to base"]}
    tables = [_figures(lines), *([_wrong(pairs)] if gaps else []), *([_mixed(mix)] if mix else [])]
    out = folder if out is None else Path(out)
    result = {
        "model": chat.t2.name,
        "experts": {name: chat.registry.get(name).digest() for name in measure.experts},
        "tables": {table.name: table.to_dict() for table in tables},
        "summary": summary,
        "refused": measure.refused(),
        "report": str(out / "report.md"),
    }
    texts = [f"# {chat.t2.name}: real data\n", *(table.markdown() for table in tables)]
    write_text(out / "report.md", "\n".join(texts))
    write_text(out / "results.json", json.dumps(result, indent=2) + "\n")
    judged = (json.dumps(one, ensure_ascii=False) + "\n" for one in measure.judged)
    write_text(out / "judged.jsonl", "".join(judged))
    return result


def _figures(lines: Sequence[Line]) -> Table:
    rows: list[list[Cell]] = [
        [line.case, line.figure, line.rows, *(line.cells.get(column) for column in COLUMNS)]
        for line in lines
    ]
    note = (
        "Shares of the rows, 0 to 1, with 95 % intervals over them. gain: the expert's less the "
        "base model's."
    )
    return Table("real", "Real data", ("case", "figure", "rows", *COLUMNS), rows, note)


def _wrong(pairs: Mapping[str, Mapping[str, float]]) -> Table:
    experts = sorted({name for one in pairs.values() for name in one})
    rows: list[list[Cell]] = [
        [case, *(one.get(name) for name in experts)] for case, one in pairs.items()
    ]
    note = "The case's main figure with an expert that is not for it, less the base model's."
    return Table("wrong", "Wrong experts", ("case", *experts), rows, note)


def _mixed(mix: Mapping[str, Any]) -> Table:
    gap = Interval(mix["gap"], mix["gap half"])
    rows: list[list[Cell]] = [
        ["right, by their own experts", mix["own"]],
        ["right, dispatched", mix["dispatched"]],
        ["the first less the second", gap],
        *([f"for {name}, sent to it", share] for name, share in mix["own expert"].items()),
        ["small talk and knowledge, left to the base model", mix["left to base"]],
    ]
    counts = mix["requests"]
    note = f"{counts['for experts']} requests for experts, {counts['for none']} for none."
    return Table("mixed", "Mixed requests", ("figure", "measured"), rows, note)


def _check(sizes: Mapping[str, Any], least: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < least:
            raise ConfigError(f"{name} is {size!r}; give a whole number of at least {least}")
