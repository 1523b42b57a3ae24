"""The accuracy table for a terminal and as a picture."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from rich.console import Console

from t2agent.bench import charts
from t2agent.bench.demo import conclusion
from t2agent.bench.nano import Table, bar_chart, rich_table, summary
from t2agent.nano.tasks import DOMAINS

TABLE = Table(
    {
        "math": {"base": 0.1, "math": 0.9, "code": 0.0, "read": 0.2},
        "code": {"base": 0.3, "math": 0.0, "code": 0.75, "read": 0.5},
    },
    dispatched={"math": 0.88, "code": 0.7},
    routed={"math": 1.0, "code": 0.9},
)


def test_summary_separates_own_from_others() -> None:
    assert summary(TABLE) == {
        "math": {"base": 0.1, "wrong expert": 0.1, "right expert": 0.9, "dispatched": 0.88},
        "code": {"base": 0.3, "wrong expert": 0.25, "right expert": 0.75, "dispatched": 0.7},
    }


def test_the_table_has_a_line_of_all_figures_for_each_task() -> None:
    console = Console(width=100, record=True, file=None)
    with console.capture() as shown:
        console.print(rich_table("t", summary(TABLE)))
    line = next(line for line in shown.get().splitlines() if "code" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "code",
        "0.30",
        "0.25",
        "0.75",
        "0.70",
    ]


def test_the_chart_is_a_picture_with_a_bar_for_each_figure(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "chart.png"
    bar_chart(path, "title", summary(TABLE))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 4


def test_the_labels_of_the_chart_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(charts, "write_figure", lambda _path, figure, _dpi: drawn.append(figure))
    row = {"base": 0.45, "wrong expert": 0.45, "right expert": 0.95, "dispatched": 0.95}
    bar_chart(tmp_path / "chart.png", "title", dict.fromkeys(DOMAINS, row))
    [figure] = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    [axes] = figure.axes
    labels = [text for text in axes.texts if text.get_text()]
    assert len(labels) == 4 * len(DOMAINS)
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in labels]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_what_the_demo_ends_with() -> None:
    row = {"base": 0.25, "wrong expert": 0.1, "right expert": 1.0, "dispatched": 0.875}
    told = conclusion({"math": row, "code": {**row, "base": 0.5}})
    assert told.startswith("The base model answers 38% of the requests as wanted.")
    assert "dispatch, it answers 88%" in told
    assert told.endswith("100%, with another domain's 10%.")
