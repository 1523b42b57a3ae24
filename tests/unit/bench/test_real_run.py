"""The benchmark of real data in small, on the smallest model, whose experts have those names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2agent.bench import figures, run
from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.models.model import T2Model

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    data, held = tmp_path / "data", tmp_path / "held"
    cities = ("Rome", "Oslo")
    call = {"name": "get_weather", "arguments": {"city": "Rome"}}
    write(
        data,
        "tool_calls_dev.jsonl",
        [
            {"prompt": f"What is the weather in {c}?", "tools": TOOLS, "calls": [call]}
            for c in cities
        ],
    )
    asked = {"role": "user", "content": "What is the weather in Rome?"}
    result = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "get_weather", "content": "sunny"},
    ]
    row = {"messages": [asked, *result], "tools": TOOLS, "must_say": ["sunny"]}
    write(data, "tool_answers_dev.jsonl", [row])
    write(data, "extract_dev.jsonl", [{"text": "Ann is 3.", "fields": {"name": "Ann"}}])
    write(held, "labels_x.jsonl", [{"text": "Nice.", "label": "good", "labels": ["good", "bad"]}])
    clinc = tmp_path / "clinc.json"
    clinc.write_text('{"test": [["hello", "greeting"]], "oos_test": [["who won", "oos"]]}')
    return {
        "model": "t2-nano",
        "data": data,
        "held_out": held,
        "wrong": 1,
        "mixed": 6,
        "clinc": clinc,
        "work": tmp_path / "work",
        "progress": False,
    }


def test_all_of_it_and_that_it_goes_on(settings: dict[str, Any], tmp_path: Path) -> None:
    answer = Expert.identity(T2Model.from_pretrained("t2-nano"), "answer")
    answer.save(tmp_path / "answer")
    settings["experts"] = [tmp_path / "answer"]
    result = run("real", **settings)

    found = figures(result)
    assert {"tool_calls.fully right.expert", "tool_calls.auto: right tool.dispatched"} <= set(found)
    assert {"held_out.labels.strict.base", "held_out.labels.by likelihood.base"} <= set(found)
    assert found["tool_answers.share said.gain"] == 0  # the expert changes nothing
    assert "extract.F1.expert" not in found  # t2-nano has none for it
    assert found["tool_calls.fully right.gain"] == pytest.approx(
        found["tool_calls.fully right.expert"] - found["tool_calls.fully right.base"]
    )
    assert {"wrong_at_most_base", "mixed.gap", "mixed.left to base"} <= set(found)
    assert set(result["tables"]) == {"real", "wrong", "mixed"}
    assert result["refused"] == {}
    assert "| tool_calls | fully right | 2 |" in Path(result["report"]).read_text()
    told = [json.loads(line) for line in (tmp_path / "work" / "judged.jsonl").open()]
    assert {one["case"] for one in told} >= {"tool_calls", "extract", "held_out.labels"}

    kept = tmp_path / "work" / "replies.jsonl"
    lines = kept.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines)  # each is asked once
    # Stopped while a line was written: that one is asked again, and no other.
    kept.write_text("\n".join(lines)[:-9])
    assert run("real", **settings) == result
    assert len(kept.read_text().splitlines()) == len(lines) + 1


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"batch": True}, {"wrong": -1}, {"mixed": "many"}])
def test_sizes_are_checked(settings: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*; give a whole number"):
        run("real", **settings | wrong)
