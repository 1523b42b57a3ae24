"""The accuracy table for a terminal and as a picture."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from rich.console import Console

from t2agent.bench import nano
from t2agent.bench.demo import conclusion
from t2agent.bench.nano import Accuracies, bar_chart, rich_table, summary
from t2agent.nano.tasks import DOMAINS

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


def test_the_labels_of_the_chart_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(nano, "write_figure", lambda _path, figure: drawn.append(figure))
    row = {"base": 0.45, "wrong expert": 0.45, "right expert": 0.95, "dispatched": 0.95}
    bar_chart(tmp_path / "chart.png", "title", {**dict.fromkeys(DOMAINS, row), "hard": {"base": 0}})
    [figure] = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    [axes] = figure.axes
    labels = [text for text in axes.texts if text.get_text()]
    assert len(labels) == 4 * len(DOMAINS) + 1  # what was not measured has no bar
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in labels]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_what_the_demo_ends_with() -> None:
    row = {"base": 0.25, "wrong expert": 0.1, "right expert": 1.0, "dispatched": 0.875}
    told = conclusion({"math": row, "code": {**row, "base": 0.5}})
    assert told.startswith("The base model answers 38% of the requests as wanted.")
    assert "dispatch, it answers 88%" in told
    assert told.endswith("100%, with another domain's 10%.")
