"""What `t2agent.train` exports."""

from __future__ import annotations

import pytest

from t2agent import train
from t2agent.tasks import paper as tasks
from t2agent.train import peft as peft_baseline
from t2agent.train import trainer


@pytest.mark.parametrize("name", train.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(train, name)
    assert name.isupper() or value.__doc__  # a mapping has none of its own


def test_names_are_those_of_their_modules() -> None:
    assert train.train_expert is trainer.train_expert
    assert train.train_adapter is peft_baseline.train_adapter
    assert train.load_adapter is peft_baseline.load_adapter
    assert train.load_task is tasks.load_task
    assert train.REAL_TASKS is tasks.REAL_TASKS


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train_model'"):
        _ = train.train_model
