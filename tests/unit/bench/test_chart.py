"""The accuracy table for a terminal and as a picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from rich.console import Console

from t2agent.bench.nano import Accuracies, bar_chart, rich_table, summary

TABLE = Accuracies(
    {"math": {"base": 0.1, "math": 0.9, "code": 0.0, "read": 0.2}, "math_hard": {"base": 0.3}},
    dispatched={"math": 0.88},
    routed={"math": 1.0},
    requests=50,
)


def test_summary_separates_own_from_others() -> None:
    assert summary(TABLE.by_expert, TABLE.dispatched) == {
        "math": {"base": 0.1, "wrong expert": 0.1, "right expert": 0.9, "dispatched": 0.88},
        "math_hard": {"base": 0.3},
    }


def test_what_was_not_measured_stays_empty() -> None:
    console = Console(width=100, record=True, file=None)
    with console.capture() as shown:
        console.print(rich_table("t", summary(TABLE.by_expert, TABLE.dispatched)))
    line = next(line for line in shown.get().splitlines() if "math_hard" in line)
    assert "0.30" in line
    assert "0.88" not in line


def test_the_chart_is_a_picture_with_a_bar_for_each_figure(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "chart.png"
    bar_chart(path, "title", summary(TABLE.by_expert, TABLE.dispatched))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 4
