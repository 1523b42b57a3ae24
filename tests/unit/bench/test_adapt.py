from __future__ import annotations

import pytest

from t2agent.bench import BENCHMARKS, adapt, figures
from t2agent.bench.adapt import bare, run, share
from t2agent.errors import ConfigError
from t2agent.experts.mixture import Mixture
from t2agent.models.model import T2Model
from t2agent.nano.tasks import TASKS


def test_the_examples_have_nothing_but_the_answer() -> None:
    math, combined = TASKS["math"], TASKS["math_json"]
    example = math.sample(1, seed=1)[0]
    assert (bare(math, example).answer, bare(math, example).reference) == (example.answer, "")
    (example,) = combined.sample(1, seed=1)
    assert bare(combined, example).answer == f'{{"answer": {example.answer}}}'


def test_what_was_found_is_measured_against_base_and_single(monkeypatch) -> None:
    """The single expert at weight 1; at other weights it is but a bound."""
    shares = {Mixture(): 0.5, Mixture({"math": 1.0}): 0.75, Mixture({"code": 0.5}): 1.0}
    monkeypatch.setattr(adapt, "share", lambda m, t, e, what: shares.get(what, 0.25))
    monkeypatch.setattr(adapt, "ADAPTED", ("reasoning", "", "math_json", "", "", "", "reasoning"))
    monkeypatch.setattr(adapt, "_EXAMPLES", 1)
    result = run(quick=True, progress=False)
    assert set(BENCHMARKS["adapt"].wanted) <= set(figures(result))
    row = result["tasks"]["reasoning"]
    assert (row["base"], row["single"], row["single is"]) == (0.5, 0.75, {"math": 1.0})
    assert (row["bound"], row["bound is"]) == (1.0, {"code": 0.5})
    (draw,) = row["draws"]
    assert result["summary"]["least_over_single"] <= draw["found"] - 0.75
    assert draw["generated"] > 0


def test_shares_are_of_replies_in_any_habit() -> None:
    model, task = T2Model.from_pretrained("t2-nano"), TASKS["reasoning"]
    examples = task.sample(4, seed=1, split="test")
    assert share(model, task, examples, Mixture({"reasoning": 1.0})) == 1.0


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"draws": "3"}])
def test_sizes_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        run(**wrong)  # type: ignore[arg-type]
