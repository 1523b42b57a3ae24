"""The same results on a GPU: devices and dtypes follow the layers. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2agent.engine.two_passes import Engine, Given
from t2agent.models.generate import Prompt
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.architectures import Tokens, build, expert
from tests.experts import random_expert
from tests.models import build_text_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def logits(model: T2Model, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        inputs = {key: value.to(model.device) for key, value in batch.items()}
        return model.model(**inputs).logits


def on_gpu(model: T2Model, dtype: torch.dtype = torch.float32) -> T2Model:
    return T2Model(model.model.to("cuda", dtype), Tokens(), targets="all+vision")


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "llava", "qwen2_vl"])
def test_adapted_and_merged_as_on_the_cpu(name: str) -> None:
    model, batch = build(name, targets="all+vision")
    one, fingerprint = expert(model, "one", 1), model.fingerprint
    base = logits(model, batch)
    with model.adapted(one):
        wanted = logits(model, batch)
    with model.adapted([one, None, one]):
        rows = logits(model, batch)
    gpu = on_gpu(model)
    assert gpu.device.type == "cuda"
    assert gpu.fingerprint == fingerprint
    before = logits(gpu, batch)
    effect = (wanted - base).norm()
    with gpu.adapted(one):
        assert (logits(gpu, batch).cpu() - wanted).norm() < 2e-3 * effect
    with gpu.merged(one):
        assert (logits(gpu, batch).cpu() - wanted).norm() < 2e-3 * effect
    with gpu.adapted([one, None, one]):
        assert (logits(gpu, batch).cpu() - rows).norm() < 2e-3 * effect
    assert torch.equal(logits(gpu, batch), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes(dtype: torch.dtype) -> None:
    model, batch = build("llama")
    one = expert(model, "one", 1)
    base = logits(model, batch)
    with model.adapted(one):
        effect = logits(model, batch) - base
    gpu = on_gpu(model, dtype)
    start = logits(gpu, batch)
    for enter in (gpu.adapted, gpu.merged):
        with enter(one):
            got = logits(gpu, batch)
        assert got.dtype == dtype
        assert ((got - start).float().cpu() - effect).norm() < 0.2 * effect.norm()
    assert torch.equal(logits(gpu, batch), start)


def test_gradients_reach_z_as_on_the_cpu() -> None:
    model, batch = build("llama")
    grads = []
    for each in (model, on_gpu(build("llama")[0])):
        one = expert(each, "one", 1)
        for z in one.z.values():
            z.requires_grad_(True)
        inputs = {key: value.to(each.device) for key, value in batch.items()}
        with each.adapted(one):
            each.model(**inputs).logits.logsumexp(-1).sum().backward()
        grads.append({name: z.grad for name, z in one.z.items()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-4)


def test_the_engine_answers_and_measures() -> None:
    model = build_text_model()
    model.registry.register(random_expert(model, "alpha"))
    model.model.to("cuda")
    engine = Engine(model, "off")
    options = GenerationOptions(max_tokens=8, temperature=1.0, seed=1)
    prompts = [Prompt.user("hello"), Prompt.user("and a longer one")]
    answers = engine.answer(prompts, options, choice=Given("alpha"))
    alone = [engine.answer([one], options, choice=Given("alpha"))[0] for one in prompts]
    assert [a.generation.token_ids for a in answers] == [a.generation.token_ids for a in alone]
    costs = engine.break_even.costs(model, "alpha", 2)
    assert costs is not None
    assert costs.merging > 0


def test_what_is_formed_on_the_gpu_counts_and_is_dropped() -> None:
    model, batch = build("llama")
    experts = [expert(model, f"e{k}", k) for k in range(4)]
    gpu = on_gpu(model)
    size = 4 * sum(gpu.shapes.values())
    gpu.expert_cache.budget = 4 * size  # two experts and what is formed of them
    for _ in range(2):
        for one in experts:
            with gpu.adapted(one):
                logits(gpu, batch)
            assert 0 < gpu.expert_cache.bytes <= gpu.expert_cache.budget
    before = torch.cuda.memory_allocated()
    gpu.expert_cache.budget = 0
    assert gpu.expert_cache.bytes == 0
    assert torch.cuda.memory_allocated() < before
