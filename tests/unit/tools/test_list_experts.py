from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.registry import Registry
from t2agent.toolbox import load_tools

Text = Callable[..., str]


def test_names_and_descriptions(ok: Text) -> None:
    registry = Registry("org/base")
    assert ok("list_experts", {}, chat=registry) == "There are no experts."
    vectors = {"m": torch.ones(3)}
    registry.register(Expert(ExpertCard("sums", description="Adds\nnumbers."), vectors))
    registry.register(Expert(ExpertCard("read", description="x" * 999, modality="image"), vectors))
    told = ok("list_experts", {}, chat=SimpleNamespace(registry=registry))
    assert told == f"read (image): {'x' * 200}\nsums (text): Adds numbers."
    # What no expert knows of is no matter: it takes nothing.
    assert ok("list_experts", {"all": True}, chat=registry) == told


@pytest.mark.parametrize("chat", [None, 3, SimpleNamespace(registry=None)])
def test_no_experts_to_list(chat: object) -> None:
    with pytest.raises(ConfigError, match="give a ChatT2 or a Registry"):
        load_tools("list_experts", chat=chat)
