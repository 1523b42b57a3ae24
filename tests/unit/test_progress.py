from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from t2agent.models.exchange import export_merged
from t2agent.progress import no_transformers_bars, progress_bar
from t2agent.svf.decomposition import decompose_layers
from tests.experts import random_expert
from tests.models import build_text_model


def test_a_bar_is_drawn_on_stderr_only(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training [x]", total=3) as bar:
        bar.advance(1, reward="0.71", best="[bold]")
        bar.advance(2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "training [x]" in err
    assert "reward 0.71  best [bold]" in err
    assert "3/3" in err
    assert bar.done == 3


def test_a_bar_that_is_off_draws_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", total=None, enabled=False) as bar:
        bar.advance(2, reward="0.71")
    assert capfd.readouterr() == ("", "")
    assert bar.done == 2


def test_bars_nest(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("outer", total=1) as outer, progress_bar("inner", total=1) as inner:
        inner.advance()
        outer.advance()
    err = capfd.readouterr().err
    assert "outer" in err
    assert "inner" in err


def test_transformers_draws_no_bars() -> None:
    logging.enable_progress_bar()
    with no_transformers_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()
    with no_transformers_bars(enabled=False):
        assert logging.is_progress_bar_enabled()


def test_nothing_is_drawn_where_nothing_is_computed_or_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def decompose(*, terminal: bool) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
            decompose_layers(dict(layers), progress=True)
        return capfd.readouterr().err

    layers = {"one": torch.nn.Linear(8, 4)}
    assert decompose(terminal=False) == ""
    layers["two"] = torch.nn.Linear(8, 4)
    assert "Decomposing weights" in decompose(terminal=True)  # of one there is no basis yet
    assert decompose(terminal=True) == ""


def test_a_checkpoint_is_written_without_bars_of_others(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = build_text_model()
    export_merged(model, random_expert(model, "some"), tmp_path / "merged", progress=False)
    assert capfd.readouterr() == ("", "")
