from __future__ import annotations

from t2agent.bench.table import Table
from t2agent.train.confidence import Interval


def test_a_table_in_markdown_and_in_json():
    rows = [["a", 1234, 0.5, Interval(0.25, 0.125)], ["b", None, 1234.5, "0.01"]]
    table = Table("t", "Title", ["task", "x", "y", "z"], rows, "How.")

    assert table.markdown() == (
        "### Title\n\nHow.\n\n| task | x | y | z |\n| --- | ---: | ---: | ---: |\n"
        "| a | 1,234 | 0.500 | 0.250 ± 0.125 |\n| b |  | 1,234 | 0.01 |\n"
    )
    assert table.to_dict()["rows"] == [
        ["a", 1234, 0.5, {"mean": 0.25, "half": 0.125}],
        ["b", None, 1234.5, "0.01"],
    ]
