"""Passes are cut by what they take, and gradients do not depend on how."""

from __future__ import annotations

import gc
import resource
from typing import Any
from weakref import ref

import pytest
import torch

from t2agent.errors import ConfigError
from t2agent.experts.expert import Expert
from t2agent.models.likelihood import Batch, completion_states
from t2agent.models.model import T2Model
from t2agent.models.options import bytes_of
from t2agent.train import TrainOptions
from t2agent.train import learner as module
from t2agent.train.adapters import SvfAdapter
from t2agent.train.learner import Learner
from t2agent.train.memory import kept_bytes
from t2agent.train.passes import Costs, Size, recomputed
from t2agent.train.peft import PeftAdapter
from t2agent.train.setup import frozen_base
from tests.models import build_text_model, tiny_text_model
from tests.unit.train.policies import EXAMPLES, ROWS, learner_of, moved

COSTS = Costs(
    token=100.0,
    pair=0.0,
    repeated=10.0,
    input=10.0,
    layers=10,
    vocabulary=100,
    logits=500,
    allocator=1.0,
    full=1000,
    shares=True,
)


def learner(model: T2Model, kind: str = "svf", **options: Any) -> Learner:
    hyper = TrainOptions(mixed_precision="no", kl=0.3, **options)
    if kind == "lora":
        adapter: Any = PeftAdapter(model, "lora", 2)
        with torch.no_grad():
            for name, value in adapter.parameters.items():
                if "lora_B" in name:
                    value.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    else:
        adapter = moved(model)
    return learner_of(model, adapter, hyper)


def gradients(trained: Learner) -> dict[str, torch.Tensor]:
    with frozen_base(trained.model.model):
        trained.backward(EXAMPLES, ROWS, 10)
    return {name: value.grad.clone() for name, value in trained.adapter.parameters.items()}


def leaving(room: int, trained: Learner) -> Learner:
    """The learner with that many bytes for its passes."""
    costs, _ = trained._planned
    vars(trained)["_planned"] = (costs, room)
    return trained


@pytest.mark.parametrize("kind", ["svf", "lora", "economical"])
def test_gradients_do_not_depend_on_the_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_text_model()
    wanted = gradients(learner(model, kind))
    monkeypatch.setattr(module, "_LOGITS", 2 * model.model.config.vocab_size)  # two tokens a piece
    trained = learner(model, kind)
    if kind == "economical":
        assert trained.adapter.economise()
        assert not trained.adapter.economise()
    costs, _ = trained._planned
    lengths = trained._lengths([module.Prompt.of(example) for example in EXAMPLES])
    longest = Size(max(lengths), 5)
    for room in (2 * costs.bytes([[longest]]), costs.least(longest)):
        for value in trained.adapter.parameters.values():
            value.grad = None
        for name, found in gradients(leaving(room, trained)).items():
            torch.testing.assert_close(found, wanted[name], atol=1e-5, rtol=1e-4)
    prompts = {i: module.Prompt.of(example) for i, example in enumerate(EXAMPLES)}
    assert any(one.recomputed for one in trained._passes(prompts, ROWS))


def test_few_directions_are_all_that_is_read() -> None:
    """With the other values at 1, the gradient of the free ones is that of all."""
    model = tiny_text_model()
    found = []
    for directions, forms in ((None, True), (3, True), (3, False)):
        trained = learner(model)
        adapter = SvfAdapter(model, trained.adapter.expert, directions)  # type: ignore[attr-defined]
        with torch.no_grad():
            for z in adapter.parameters.values():
                z[3:] = 1.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SvfAdapter, "forms", lambda *_, forms=forms, **__: forms)
            own = Learner(model, adapter, trained.options, 8, trained.accelerator)
            found.append({name: grad[:3] for name, grad in gradients(own).items()})
    for other in found[1:]:
        for name, value in other.items():
            torch.testing.assert_close(value, found[0][name], atol=1e-5, rtol=1e-4)


def test_the_cheaper_way_is_taken() -> None:
    model = tiny_text_model()
    ones = Expert.identity(model, "x")
    assert SvfAdapter(model, ones).forms(10**6, training=True)
    assert not SvfAdapter(model, ones, 1).forms(10**6, training=True)
    assert not SvfAdapter(model, ones).forms(1, training=True)


def test_rows_of_like_length_run_together_and_prompts_stay_whole() -> None:
    groups = [
        [(0, Size(10, 5)), (1, Size(10, 2))],
        [(2, Size(30, 3))],
        [(3, Size(12, 4))],
    ]
    assert [one.rows for one in COSTS.cut(groups, 10**6, 100)] == [(1, 0, 3, 2)]
    parts = COSTS.cut(groups, COSTS.bytes([[Size(30, 3)]]), 100)
    assert sorted(row for one in parts for row in one.rows) == [0, 1, 2, 3]
    assert all(
        COSTS.bytes([[size for _, size in group] for group in groups if group[0][0] in one.rows])
        <= COSTS.bytes([[Size(30, 3)]])
        for one in parts
    )
    assert not any(one.recomputed for one in parts)
    assert [len(one.rows) for one in COSTS.cut(groups, 10**6, 1)] == [1, 1, 1, 1]


def test_what_fits_only_when_recomputed_is() -> None:
    row = Size(90, 10)
    small = COSTS.bytes([[row]], again=True)
    assert small < COSTS.bytes([[row]])
    (only,) = COSTS.cut([[(0, row)]], small, 8)
    assert only.recomputed
    with pytest.raises(ConfigError, match=r"100 tokens takes at least .* raise memory"):
        COSTS.cut([[(0, row)]], small - 1, 8)


def test_a_bound_that_cannot_be_kept_is_refused_before_training() -> None:
    trained = learner(tiny_text_model(), memory="1MB")
    with frozen_base(trained.model.model), pytest.raises(ConfigError, match="memory leaves"):
        trained.check(EXAMPLES)
    learner(tiny_text_model(), memory="100GB").check(EXAMPLES)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(5, 5), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("300m", 3 * 10**8), ("7", 7)],
)
def test_sizes(given: int | str, wanted: int) -> None:
    assert bytes_of(given) == wanted
    TrainOptions(memory=given)


@pytest.mark.parametrize("given", ["much", "-1", 0, "0GB", "2 XB"])
def test_what_is_no_size(given: int | str) -> None:
    with pytest.raises(ConfigError, match="memory is"):
        TrainOptions(memory=given)


def test_a_run_may_go_on_with_other_memory() -> None:
    assert TrainOptions(memory="2GB").identity() == TrainOptions().identity()


def test_what_autograd_keeps_is_counted_once_and_let_go_of() -> None:
    value = torch.ones(1000, requires_grad=True)
    # exp keeps its result, and so does the product, with the factor.
    assert kept_bytes(lambda: value.exp() * torch.ones(1000)) == 8000
    assert value.grad_fn is None


def test_recomputing_leaves_the_model_as_it_was() -> None:
    hf = tiny_text_model().model
    with recomputed(hf):
        assert any(module.training for module in hf.modules())
    assert not any(module.training for module in hf.modules())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in hf.modules())


def test_recomputed_layers_that_nothing_runs_again_are_let_go_of() -> None:
    model = build_text_model()
    layer = next(iter(model.targets.layers.values()))
    own = layer.weight
    layer.weight = torch.nn.Parameter(own.detach().clone())
    held = ref(layer.weight)
    with recomputed(model.model):
        assert completion_states(model, Batch.made_up(model, 8, 1, 4)).requires_grad
    layer.weight = own
    gc.collect()
    assert held() is None


def test_peak_memory_is_measured_where_it_is_estimated() -> None:
    """The estimate is for the process: more than it holds, less than twice its peak."""
    trained = learner(tiny_text_model())
    with frozen_base(trained.model.model):
        estimate = trained.estimate(EXAMPLES, 4)
        trained.backward(EXAMPLES, ROWS, 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0 < estimate < 2 * peak
