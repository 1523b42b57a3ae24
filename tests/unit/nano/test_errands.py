"""What the errands say that a tool gives is what the tool gives."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from t2agent.nano.domains import errands, tools
from t2agent.nano.domains.tools import describe
from t2agent.nano.problem import Maker, draw
from t2agent.toolbox import load_tools
from t2agent.toolbox.images import image_block

MAKERS = [
    errands.convert, errands.count_words, errands.sort, errands.search, errands.ask_expert,
    errands.chart, errands.count, errands.colour, errands.zoom, errands.crop,
]  # fmt: skip
SEEN = {"calculator", "add_days", "weekday", "convert_units", "count_words", "sort_numbers"}


@pytest.mark.parametrize(
    "maker", [*MAKERS, tools.chain, tools.image_call], ids=lambda m: m.__name__
)
def test_the_tools_give_what_the_calls_say(maker: Maker, tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(10):
        problem = draw(maker, rng, "test")
        messages = []
        if problem.scene is not None:
            messages = [HumanMessage([dict(image_block(problem.scene.render()))])]
        for call in problem.calls:
            if call.name == "ask_expert":  # its answer is a model's
                continue
            if call.name == "search_files":
                name, _, line = call.result.partition(":1: ")
                (tmp_path / name).write_text(line + "\n")
            (tool,) = load_tools(call.name, defaults={"folder": tmp_path})
            more = {"messages": messages} if messages and call.name not in SEEN else {}
            given = tool.invoke({**call.arguments, **more})
            text = given if isinstance(given, str) else given[0]["text"]
            assert text == call.result
            for file in tmp_path.iterdir():
                file.unlink()


@pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)
def test_an_errand_offers_what_it_needs_and_one_more(maker: Maker) -> None:
    rng = random.Random(1)
    for _ in range(10):
        problem = draw(maker, rng, "train")
        assert problem.answer
        needed = {call.name for call in problem.calls}
        lines = problem.tools.removeprefix(describe([])[:7]).strip().splitlines()
        offered = {line.removeprefix("- ").partition("(")[0] for line in lines}
        assert needed < offered
        assert len(offered) == len(needed) + 1


@pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)
def test_the_splits_do_not_overlap(maker: Maker) -> None:
    rng = random.Random(2)
    keys = {
        split: {draw(maker, rng, split).key for _ in range(20)}  # type: ignore[arg-type]
        for split in ("train", "val", "test")
    }
    assert not keys["train"] & keys["test"]
    assert not keys["val"] & keys["test"]


def test_a_crop_shows_the_number_that_is_asked_for() -> None:
    """The other number lies outside: it can only be told from what the tool gives."""
    rng = random.Random(3)
    for _ in range(20):
        problem = draw(errands.crop, rng, "test")
        assert problem.scene is not None
        box = problem.calls[0].arguments
        inside = [m for m in problem.scene.marks if box["top"] <= m.y + m.size / 2 < box["bottom"]]
        assert "".join(m.what for m in inside) == problem.answer
