from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from t2agent.errors import ConfigError
from t2agent.train import TrainOptions
from t2agent.train.options import options_for


def test_methods_have_their_own_defaults_and_hyper_wins() -> None:
    assert options_for("reinforce", {}) == TrainOptions()
    assert options_for("sft", {}).kl == 0.0
    assert options_for("sft", {"kl": 0.1}).kl == 0.1


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"lr; known: learning_rate, kl, prompts"):
        options_for("reinforce", {"lr": 1})


def test_an_unknown_method() -> None:
    with pytest.raises(ConfigError, match="reinforce, sft"):
        options_for("dpo", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", True),
        ("kl", -0.1),
        ("temperature", 0.0),
        ("clip", "1"),
        ("prompts", 0),
        ("samples", 1.5),
        ("patience", -1),
        ("max_tokens", 0),
        ("baseline", "mean"),
        ("mixed_precision", "fp16"),
    ],
)
def test_values_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        TrainOptions(**{name: value})  # type: ignore[arg-type]


def test_one_sample_has_no_group() -> None:
    with pytest.raises(ConfigError, match="at least 2 samples"):
        TrainOptions(samples=1)
    assert TrainOptions(samples=1, baseline="none").samples == 1


def test_plain_json_and_frozen() -> None:
    options = TrainOptions()
    assert TrainOptions(**json.loads(json.dumps(options.to_dict()))) == options
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.kl = 1.0  # type: ignore[misc]


def test_tasks_are_imported_without_torch() -> None:
    code = "import sys; from t2agent.train import ExampleTask; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
