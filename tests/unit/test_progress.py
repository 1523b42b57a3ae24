from __future__ import annotations

import pytest

from t2agent.progress import progress_bar


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
