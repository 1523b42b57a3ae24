"""The benchmark of how many tools must be shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2agent.bench import figures, run
from t2agent.errors import ConfigError

DOES = {"sunrise": "Tells when the sun rises.", "buy": "Buys an item.", "paint": "Paints a wall."}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": does, "parameters": {}}}
    for name, does in DOES.items()
]


def row(prompt: str, tool: int, *called: str) -> dict[str, Any]:
    calls = [{"name": name, "arguments": {}} for name in called]
    return {"prompt": prompt, "tools": [TOOLS[tool]], "calls": calls}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    rows = [
        row("When does the sun rise?", 0, "sunrise"),
        row("Paint the walls, then buy some items.", 2, "paint", "buy"),
        row("Thank you.", 1),
    ]
    (tmp_path / "tool_calls_dev.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(tmp_path)


def test_shares_of_requests_whose_tools_are_shown(folder: str) -> None:
    found = run("tools", data=folder, offered=[1, 3], shown=[1, 2])
    assert found["requests"] == 2
    measured = figures(found)
    assert measured["3 offered.1 shown"] == 0.5
    assert measured["3 offered.2 shown"] == 1.0
    assert measured["1 offered.1 shown"] == 0.5  # another tool that is wanted is not on offer
    assert run("tools", data=folder, offered=[1, 3], shown=[1, 2]) == found


def test_unusable_numbers(folder: str) -> None:
    with pytest.raises(ConfigError, match="requests is 0"):
        run("tools", data=folder, requests=0)
    with pytest.raises(ConfigError, match="has 3 tools"):
        run("tools", data=folder, offered=[4])
