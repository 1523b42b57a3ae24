"""How options are checked, whatever they are for."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from t2agent.bench.paper.plan import Plan
from t2agent.dispatch import SearchOptions
from t2agent.errors import ConfigError
from t2agent.models.options import (
    Count,
    CountOrZero,
    GenerationOptions,
    NotNegative,
    Number,
    Positive,
    Share,
    check_option,
    checked,
    config_errors,
)
from t2agent.train import TrainOptions

MADE = [
    GenerationOptions(max_tokens=3, stop=("a",), seed=2),
    SearchOptions(scales=(0.5,), max_seconds=2, per_layer=True),
    TrainOptions(learning_rate=1, directions=4, modules="mlp"),
]


@pytest.mark.parametrize(
    ("kind", "value", "needed"),
    [
        (Count, 0, "a whole number of at least 1"),
        (Count | None, 0, "a whole number of at least 1"),
        (CountOrZero, -1, "a whole number, 0 or more"),
        (Positive, 0, "a finite number above 0"),
        (NotNegative, -0.5, "a finite number of at least 0"),
        (Share, 1.5, "a number in (0, 1]"),
    ],
)
def test_what_is_out_of_range_is_told_with_the_range(kind: Any, value: Any, needed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_option("size", value, kind)
    assert str(caught.value) == f"size is {value!r}; it must be {needed}"


@pytest.mark.parametrize("kind", [Count, CountOrZero])
@pytest.mark.parametrize(
    "value", [True, False, 1.0, "1", None, np.int64(1), np.True_, torch.tensor(1), float("nan")]
)
def test_what_is_no_whole_number(kind: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"size is .*a whole number"):
        check_option("size", value, kind)


@pytest.mark.parametrize("kind", [Positive, NotNegative, Share, Number])
@pytest.mark.parametrize(
    "value",
    [
        True, "0.5", None, b"1", 10**400, float("nan"), float("inf"), np.float32(0.5),
        np.array(0.5), np.int64(1), torch.tensor(0.5),
    ],
)  # fmt: skip
def test_what_is_no_finite_number(kind: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="size is "):
        check_option("size", value, kind)


@pytest.mark.parametrize("value", [1, 1.0, 0.5, np.float64(0.5)])
def test_numbers_that_are_fine(value: Any) -> None:
    for kind in (Positive, NotNegative, Share, Number, Positive | None):
        check_option("size", value, kind)
    assert GenerationOptions(temperature=value).temperature == value


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        GenerationOptions(temperature="x" * 9999)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("options", MADE, ids=lambda one: type(one).__name__)
def test_checked_options_are_dataclasses_as_others(options: Any) -> None:
    for other in (
        pickle.loads(pickle.dumps(options)),
        copy.deepcopy(options),
        type(options)(**dataclasses.asdict(options)),
    ):
        assert other == options
        assert hash(other) == hash(options)
    assert dataclasses.replace(options, max_tokens=9).max_tokens == 9
    assert not hasattr(options, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.max_tokens = 9
    with pytest.raises(ConfigError, match="max_tokens is 0; it must be a whole number"):
        dataclasses.replace(options, max_tokens=0)


@pytest.mark.parametrize("kind", [GenerationOptions, SearchOptions, TrainOptions, Plan])
def test_unknown_names_are_told_with_the_known_ones(kind: Any) -> None:
    known = ", ".join(field.name for field in dataclasses.fields(kind))
    with pytest.raises(ConfigError) as caught:
        kind(zebra=1, ant=2)
    assert str(caught.value) == f"unknown option(s) ant, zebra; known: {known}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"baseline": "mean"}, "baseline is 'mean'; it must be 'group' or 'none'"),
        ({"mixed_precision": None}, "mixed_precision is None; it must be 'auto', 'no' or 'bf16'"),
        ({"modules": 3}, "modules is 3; it must be 'all', 'attention', .* regular expression"),
        ({"modules": "("}, "modules is '('; it must be 'all', .* regular expression .*position 0"),
        ({"kl": -1}, "kl is -1; it must be a finite number of at least 0"),
    ],
)
def test_choices_and_patterns(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}".replace("'('", r"'\('")):
        TrainOptions(**options)


def test_one_of_many_values_is_told_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^scales\[1\] is -1; .* above 0$"):
        SearchOptions(scales=(0.5, -1))
    with pytest.raises(ConfigError, match=r"^scales is 3; it must be a list$"):
        SearchOptions(scales=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^per_layer is 1; "):
        SearchOptions(per_layer=1)  # type: ignore[arg-type]


def test_the_error_of_a_class_of_its_own_is_told_as_it_is() -> None:
    @checked
    class Pair:
        low: Count = 1
        kind: Literal["a", "b"] = "a"

        def __post_init__(self) -> None:
            if self.low > 3:
                raise ConfigError("low is above 3")

    assert Pair(low=3) == Pair(low=3, kind="a")
    with pytest.raises(ConfigError, match=r"^low is above 3$"):
        Pair(low=4)


def test_what_pydantics_models_refuse() -> None:
    class Model(BaseModel):
        sizes: list[Count] = [1]

    told = r"^sizes\[0\] is 0; it must be a whole number"
    with pytest.raises(ConfigError, match=told), config_errors():
        Model(sizes=[0])
    with pytest.raises(ConfigError, match=r"^Model is 3; "), config_errors("Model"):
        Model.model_validate(3)
    with pytest.raises(ZeroDivisionError), config_errors():
        _ = 1 / 0
