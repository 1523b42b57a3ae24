from __future__ import annotations

import sys

import pytest

from t2agent.bench import run, start
from t2agent.errors import ConfigError

SLOWLY = "import time; print('first', flush=True); time.sleep(.3)"


def test_a_command_is_timed_until_it_prints_or_until_it_ends() -> None:
    command = (sys.executable, "-c", SLOWLY)
    found = start.medians({"first": command, "dispatch": command}, 1, whole={"dispatch"})
    assert set(found) == {"first_s", "first_cpu_s", "dispatch_s", "dispatch_cpu_s"}
    assert found["dispatch_s"] > 0.3
    assert found["first_s"] < found["dispatch_s"]
    assert found["dispatch_cpu_s"] < 0.3  # sleeping takes none


def test_what_cannot_be_timed_is_told() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        run("start", repeats=0)
    wrong = (sys.executable, "-m", "t2agent", "experts", "show", "nobody")
    with pytest.raises(ConfigError, match=r"experts show nobody ended with 1: error: no expert"):
        start.medians({"wrong": wrong}, 1, whole=())
