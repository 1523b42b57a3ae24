"""``make demo``: what self-adaptation does to the embedded model, in under three minutes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table as RichTable

from t2agent.bench.nano import COLUMNS, bar_chart, rich_table, summary, table
from t2agent.chat.chat_model import ChatT2
from t2agent.chat.messages import user_message
from t2agent.dispatch import EmbeddingDispatcher
from t2agent.models.installed import NANO
from t2agent.nano.tasks import DOMAINS, TASKS


def _registry_table(chat: ChatT2) -> RichTable:
    drawn = RichTable(title=f"Experts found for {chat.t2.name}")
    for column in ("expert", "modality", "parameters", "what for"):
        drawn.add_column(column, justify="right" if column == "parameters" else "left")
    for name in chat.registry.names():
        expert = chat.registry.get(name)
        card = expert.card
        drawn.add_row(name, card.modality, f"{expert.parameters:,}", card.description)
    return drawn


def _side_by_side(chat: ChatT2) -> RichTable:
    drawn = RichTable(title="One unseen request of each domain", show_lines=True)
    for column in ("request", "base model", "adapted", "wanted", "dispatcher's scores"):
        drawn.add_column(column, overflow="fold")
    for name in DOMAINS:
        task = TASKS[name]
        example = task.sample(1, seed=7, split="test")[0]
        ask = [user_message(example.prompt, example.image)]
        base = chat.invoke(ask, dispatch="off", max_tokens=task.max_tokens)
        adapted = chat.invoke(ask, max_tokens=task.max_tokens)
        decision = adapted.response_metadata["dispatch"]
        # Most experts are out of the question: what would be shown as 0.00 is left out.
        scores = "\n".join(f"{k} {v:.2f}" for k, v in decision["scores"].items() if v >= 0.005)
        picture = "[image] " if example.image is not None else ""
        drawn.add_row(
            picture + example.prompt, str(base.text), str(adapted.text), example.answer, scores
        )
    return drawn


def conclusion(rows: Mapping[str, Mapping[str, float]]) -> str:
    """What the accuracies of all domains show, in a sentence."""
    base, wrong, right, dispatched = (
        f"{mean(row[column] for row in rows.values()):.0%}" for column in COLUMNS
    )
    return (
        f"The base model answers {base} of the requests as wanted. Adapted to each request by "
        f"dispatch, it answers {dispatched}; with the domain's own expert given it would be "
        f"{right}, with another domain's {wrong}."
    )


def main() -> None:
    """Show the registry, answers side by side, and the accuracy table with its chart."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m t2agent.bench.demo")
    parser.add_argument("--requests", type=int, default=100, help="unseen requests a domain")
    parser.add_argument("--chart", type=Path, default=Path("build/demo.png"))
    options = parser.parse_args()
    begin = time.perf_counter()
    console = Console(markup=False)
    chat = ChatT2(NANO)
    console.print(_registry_table(chat))
    console.print(_side_by_side(chat))
    measured = table(chat.t2, EmbeddingDispatcher(chat.registry), requests=options.requests)
    rows = summary(measured)
    title = f"t2-nano on {options.requests} unseen requests a domain"
    console.print(rich_table(title, rows))
    bar_chart(options.chart, title, rows)
    console.print(f"Chart: {options.chart}   ({time.perf_counter() - begin:.0f} s)")
    console.print(conclusion(rows))


if __name__ == "__main__":
    main()
