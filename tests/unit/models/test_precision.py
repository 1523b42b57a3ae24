from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2agent.models import precision
from t2agent.models.model import T2Model
from tests.models import save_bfloat16


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_bfloat16(folder)
    return folder


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> Any:
    def has(known: bool, memory: int = 2**34) -> None:
        monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: known)
        told = SimpleNamespace(total=memory)
        monkeypatch.setattr(precision.psutil, "virtual_memory", lambda: told)

    return has


def test_without_bfloat16_units_weights_are_widened_as_they_are(halved: Path, units: Any) -> None:
    units(True)
    narrow = T2Model.from_pretrained(halved)
    units(False)
    wide = T2Model.from_pretrained(halved)
    assert (narrow.model.dtype, wide.model.dtype) == (torch.bfloat16, torch.float32)
    both = zip(narrow.model.parameters(), wide.model.parameters(), strict=True)
    assert all(torch.equal(one.float(), other) for one, other in both)
    assert narrow.fingerprint == wide.fingerprint


def test_the_dtype_that_is_asked_for_stays(halved: Path, units: Any) -> None:
    units(False)
    assert T2Model.from_pretrained(halved, dtype="bfloat16").model.dtype == torch.bfloat16


def test_what_would_take_a_quarter_of_the_memory_stays(halved: Path, units: Any) -> None:
    units(False)
    size = sum(weight.numel() for weight in T2Model.from_pretrained(halved).model.parameters())
    units(False, memory=16 * size)
    assert T2Model.from_pretrained(halved).model.dtype == torch.float32
    units(False, memory=16 * size - 1)
    assert T2Model.from_pretrained(halved).model.dtype == torch.bfloat16
