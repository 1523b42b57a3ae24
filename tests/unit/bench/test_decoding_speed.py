"""The benchmark of decoding measures what it says, with a small model of a GGUF file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from t2agent import ConfigError, T2Model
from t2agent.bench import BENCHMARKS, decoding, figures
from t2agent.models import packed
from tests.models import build_text_model
from tests.unit.models.test_gguf import write


@pytest.mark.skipif(not packed.available(), reason="no fast kernel here")
def test_all_ways_are_measured_but_for_llama_where_it_is_not(tmp_path: Path) -> None:
    model = T2Model.from_pretrained(write(tmp_path / "tiny.gguf"))
    found = decoding.measure(model, tokens=40, repeats=1)
    assert found["tokens_a_second"].keys() == {"bfloat16", "packed", "expert"}
    wanted = set(BENCHMARKS["decoding"].wanted) - {"llama_ratio"}
    assert wanted <= set(figures(found))
    assert all(value > 0 for value in figures(found).values())
    with pytest.raises(ConfigError, match=r"cannot run llama\.cpp: .*llama_cpp"):
        decoding.measure(model, tokens=2, repeats=1, llama=sys.executable)


def test_a_model_without_packed_weights_is_told_so() -> None:
    with pytest.raises(ConfigError, match="no packed weights here"):
        decoding.measure(build_text_model(), tokens=2, repeats=1)
