from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from t2agent.bench import BENCHMARKS, figures, run
from t2agent.bench.clinc import auroc, calibration_error
from t2agent.errors import ConfigError

INTENTS = {
    "weather": ["will it rain", "is it sunny", "how cold is it", "will it snow in Oslo"],
    "music": ["play some jazz", "skip this song", "who sings this", "play a tune by Abba"],
    "bank": ["pay my bill", "what is my balance", "send money to Ann", "block my credit card"],
}


@pytest.fixture
def data(tmp_path):
    sets = {
        "train": [[text, label] for label, texts in INTENTS.items() for text in texts[:3]],
        "test": [[texts[3], label] for label, texts in INTENTS.items()],
        "oos_test": [["who was Napoleon", "oos"], ["is the pope a catholic", "oos"]],
    }
    path = tmp_path / "tiny.json.gz"
    path.write_bytes(gzip.compress(json.dumps(sets).encode()))
    return str(path)


def test_a_tiny_set(data):
    result = run("clinc", data=data, few=2, draws=2)

    assert json.loads(json.dumps(result)) == result
    found = figures(result)
    assert set(found) >= set(BENCHMARKS["clinc"].wanted)
    assert all(0 <= value <= 1 for value in found.values())
    assert result["all"]["accuracy"] == 1
    assert result["all"]["auroc"] == 1


def test_what_is_missing(data, tmp_path):
    with pytest.raises(ConfigError, match="does not ship"):
        run("clinc", data=str(tmp_path / "nothing.json.gz"))
    with pytest.raises(ConfigError, match="at least 1"):
        run("clinc", data=data, few=0)
    with pytest.raises(ConfigError, match="at least 1"):
        run("clinc", data=data, draws=0)
    (tmp_path / "other.json").write_text('{"train": []}')
    with pytest.raises(ConfigError, match="lacks oos_test, test"):
        run("clinc", data=str(tmp_path / "other.json"))


def test_auroc():
    assert auroc(np.array([2.0, 3.0]), np.array([1.0, 0.0])) == 1
    assert auroc(np.array([2.0, 0.5]), np.array([1.0, 1.0])) == 0.5


def test_calibration_error():
    # Two bins of half the requests each: .9 said and .5 right; 1.0 said and all right.
    confidence = np.array([0.9, 0.9, 1.0, 1.0])
    right = np.array([True, False, True, True])

    assert calibration_error(confidence, right) == pytest.approx(0.2)
    assert calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == 0
