from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import SystemMessage

from t2agent.bench import (
    BENCHMARKS,
    chat_overhead,
    concurrent,
    constrained,
    figures,
    next_steps,
    run,
)
from t2agent.chat.chat_model import ChatT2
from t2agent.errors import ConfigError
from t2agent.toolbox import load_tools
from tests.experts import WordDispatcher, random_expert
from tests.models import build_text_model


def test_a_chat_call_is_timed_beside_generate() -> None:
    found = chat_overhead.measure(build_text_model(), tokens=5, repeats=3)
    assert found["tokens"] == 5
    assert min(found.values()) > 0


def test_a_dispatched_call_too() -> None:
    model = build_text_model()
    model.registry.register(random_expert(model, "alpha"))
    assert chat_overhead.measure(model, 3, 1, dispatched=True)["dispatched_ratio"] > 0


def test_each_form_is_timed_beside_free_text() -> None:
    model = build_text_model(context=4096)
    found = constrained.measure(model, tokens=6, repeats=1)
    assert found["vocabulary"] == len(model.tokenizer)
    assert set(constrained.FORMS) < set(found)
    assert found["ratio"] == max(found[name]["ratio"] for name in constrained.FORMS)


def test_next_steps_are_timed_beside_the_same_with_nothing_known() -> None:
    chat = ChatT2("t2-nano", dispatch="off", max_tokens=1, max_tools=None)
    found = next_steps.measure(chat, [SystemMessage("Be careful. " * 20)], load_tools("weekday"), 1)
    assert found["equal"] == 1
    assert 0 < found["ratio"] < 1
    assert len(found["by_step"]) == len(found["tokens"]) - 1


def test_calls_at_once_are_timed_beside_one_by_one() -> None:
    model = build_text_model()
    for seed, name in enumerate(("alpha", "beta")):
        model.registry.register(random_expert(model, name, seed))
    chat = ChatT2(model, dispatch=WordDispatcher("alpha", "beta"), max_tokens=8)
    found = concurrent.measure(chat, ["an alpha one", "a beta one", "none", "alpha"] * 2, 2)
    assert found["experts"] == 2
    assert found["requests"] == 8
    assert found["equal"] == 1
    assert found["throughput_ratio"] > 1


def test_the_wanted_figures_are_told() -> None:
    nested: dict[str, Any] = {name: {"ratio": 1.0} for name in ("nano", "qwen2")}
    nested["smollm2"] = {"rows_throughput": 1.0}
    assert set(BENCHMARKS["chat_overhead"].wanted) <= set(figures(nested))


@pytest.mark.parametrize("name", ["chat_overhead", "constrained"])
def test_without_the_tokenizer(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--set tokenizer=FOLDER"):
        run(name, tokenizer=tmp_path / "none")
