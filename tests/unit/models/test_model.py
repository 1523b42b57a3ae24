"""The base model: contexts, threads, gradients, offloading, fingerprints, mistakes."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path

import accelerate
import pytest
import torch
from torch import Tensor

from t2agent.errors import ConfigError, ExpertMismatchError, ExpertNotFoundError
from t2agent.experts.expert import Expert, ExpertCard, Mixture
from t2agent.models.model import T2Model
from tests.architectures import Tokens, build, expert
from tests.models import build_text_model


def logits(model: T2Model, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.model(**batch).logits


def alone(model: T2Model, what: object, batch: dict[str, Tensor]) -> Tensor:
    with model.adapted(what):  # type: ignore[arg-type]
        return logits(model, batch)


def test_contexts_nest_and_the_inner_one_wins() -> None:
    model, batch = build("llama")
    one, two = expert(model, "one", 1), expert(model, "two", 2)
    base = logits(model, batch)
    first, second = alone(model, one, batch), alone(model, two, batch)
    for outer in (model.adapted, model.merged):
        with outer(one):
            around = logits(model, batch)
            torch.testing.assert_close(around, first, rtol=1e-4, atol=1e-5)
            with model.adapted(None):
                assert torch.equal(logits(model, batch), base)
            with model.adapted(two):
                assert torch.equal(logits(model, batch), second)
            with model.merged(two):
                torch.testing.assert_close(logits(model, batch), second, rtol=1e-4, atol=1e-5)
            with model.merged(None):
                assert torch.equal(logits(model, batch), base)
            assert torch.equal(logits(model, batch), around)
        assert torch.equal(logits(model, batch), base)


def test_threads_do_not_see_each_others_experts() -> None:
    model, batch = build("llama")
    what = [None, expert(model, "one", 1), expert(model, "two", 2)]
    wanted = [alone(model, each, batch) for each in what]
    wrong: list[int] = []
    start = threading.Barrier(len(what) + 1)

    def work(which: int) -> None:
        start.wait()
        for step in range(20):
            enter = model.merged if which == 2 and step % 5 == 0 else model.adapted
            with enter(what[which]):
                if (logits(model, batch) - wanted[which]).abs().max() > 1e-4:
                    wrong.append(which)

    def plain() -> None:
        start.wait()
        wrong.extend(3 for _ in range(20) if not torch.equal(logits(model, batch), wanted[0]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    threads.append(threading.Thread(target=plain))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


async def test_a_context_goes_along_to_a_worker_thread() -> None:
    model, batch = build("llama")
    one = expert(model, "one", 1)
    wanted = alone(model, one, batch)
    with model.adapted(one):
        assert torch.equal(await asyncio.to_thread(logits, model, batch), wanted)
    with model.merged(one):
        got = await asyncio.to_thread(logits, model, batch)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_mixtures_are_linear_and_differ_by_layer() -> None:
    model, batch = build("llama")
    one, two = expert(model, "one", 1), expert(model, "two", 2)
    for each in (one, two):
        model.registry.register(each)
    layer = "model.layers.1"
    z = {}
    for name in model.shapes:
        a, b = (0.0, 2.0) if name.startswith(layer + ".") else (0.5, -1.0)
        z[name] = 1 + a * (one.z[name] - 1) + b * (two.z[name] - 1)
    mixture = Mixture({"one": 0.5, "two": -1.0}, layers={layer: {"one": 0.0, "two": 2.0}})
    wanted = alone(model, Expert(ExpertCard("sum"), z), batch)
    torch.testing.assert_close(alone(model, mixture, batch), wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(alone(model, "one", batch), alone(model, {"one": 1}, batch))
    assert torch.equal(alone(model, "one", batch), alone(model, one, batch))


def test_no_change_costs_nothing() -> None:
    model, batch = build("llama")
    base = logits(model, batch)
    nothing = [None, Mixture(), Expert.identity(model, "unit"), [None, None, Mixture()]]
    for what in nothing:
        with model.adapted(what):
            assert not any(
                m._forward_hooks or m._forward_pre_hooks for m in model.targets.layers.values()
            )
            assert torch.equal(logits(model, batch), base)
    assert model._bases is None


def test_gradients_reach_z() -> None:
    model, batch = build("opt")
    z = {n: torch.nn.Parameter(torch.ones(r)) for n, r in model.shapes.items()}
    trained = Expert(ExpertCard("trained"), z)
    with model.adapted([trained, None, trained]):
        model.model(**batch).logits.logsumexp(-1).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in z.values())
    assert all(p.grad is None for p in model.model.parameters())
    name = next(iter(z))
    step = 1e-2
    grads = z[name].grad.clone()

    def value(change: float) -> float:
        with torch.no_grad():
            z[name][3] = 1 + change
            with model.adapted([trained, None, trained]):
                return float(model.model(**batch).logits.double().logsumexp(-1).sum())

    slope = (value(step) - value(-step)) / (2 * step)
    assert abs(slope - float(grads[3])) < 0.05 * abs(slope) + 1e-3


def test_a_z_changed_in_place_counts_at_once() -> None:
    model, batch = build("llama")
    one = expert(model, "one", 1)
    with model.adapted(one):
        before = logits(model, batch)
        with torch.no_grad():
            for z in one.z.values():
                z.copy_(1 + 2 * (z - 1))
        assert not torch.equal(logits(model, batch), before)
        inside = logits(model, batch)
    assert torch.equal(alone(model, one, batch), inside)


@pytest.mark.parametrize("where", ["disk", "cpu"])
def test_offloaded_layers_are_adapted(where: str, tmp_path: Path) -> None:
    model, batch = build("gpt2")
    one, fingerprint = expert(model, "one", 1), model.fingerprint
    base, wanted = logits(model, batch), alone(model, one, batch)
    rows = alone(model, [one, None, one], batch)
    if where == "disk":
        accelerate.disk_offload(model.model, tmp_path, execution_device=torch.device("cpu"))
    else:
        accelerate.cpu_offload(model.model, execution_device=torch.device("cpu"))
    offloaded = T2Model(model.model, Tokens())
    assert offloaded.device.type == "cpu"
    assert not offloaded.writable
    assert torch.equal(alone(offloaded, one, batch), wanted)
    assert torch.equal(alone(offloaded, [one, None, one], batch), rows)
    assert torch.equal(logits(offloaded, batch), base)
    assert offloaded.fingerprint == fingerprint
    with pytest.raises(ConfigError, match="offloaded"), offloaded.merged(one):
        pass


def test_from_pretrained_with_layers_on_disk(tmp_path: Path) -> None:
    model, batch = build("llama")
    one, wanted = expert(model, "one", 1), logits(model, batch)
    model.model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot load"):
        T2Model.from_pretrained(tmp_path / "nothing")
    parts = ["model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head"]
    placed = {"model.layers.1": "disk", **dict.fromkeys(parts, "cpu")}
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(
        tmp_path, device_map=placed, offload_folder=tmp_path / "offload"
    )
    offloaded = T2Model(network, Tokens())
    assert torch.equal(logits(offloaded, batch), wanted)
    assert torch.equal(alone(offloaded, one, batch), alone(model, one, batch))
    assert offloaded.fingerprint == model.fingerprint


def test_the_fingerprint_is_of_the_content() -> None:
    model, _ = build("llama")
    narrow = T2Model(build("llama")[0].model.to(torch.bfloat16), Tokens())
    assert narrow.fingerprint == model.fingerprint
    other, _ = build("llama")
    with torch.no_grad():
        other.model.model.norm.weight[0] += 1
    assert other.fingerprint != model.fingerprint
    one = Expert(ExpertCard("one", base_fingerprint="f" * 64), expert(model, "x", 1).z)
    with pytest.raises(ExpertMismatchError, match=model.fingerprint), model.adapted(one):
        pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_follows_the_layer(dtype: torch.dtype) -> None:
    model, batch = build("neox")
    one = expert(model, "one", 1)
    wanted = alone(model, one, batch) - logits(model, batch)
    low = T2Model(model.model.to(dtype), Tokens())
    got = alone(low, one, batch)
    assert got.dtype == dtype
    effect = got.float() - logits(low, batch).float()
    assert (effect - wanted).norm() < 0.2 * wanted.norm()


def test_mistakes_are_named() -> None:
    model, batch = build("llama")
    one = expert(model, "one", 1)
    with pytest.raises(ConfigError, match="2 mixtures were given"), model.adapted([one, None]):
        logits(model, batch)
    with pytest.raises(ConfigError, match="empty list"), model.adapted([]):
        pass
    with pytest.raises(ExpertNotFoundError), model.adapted("nobody"):
        pass
    short = Expert(ExpertCard("short"), {next(iter(model.shapes)): torch.ones(3)})
    with pytest.raises(ExpertMismatchError, match="3 numbers"), model.adapted(short):
        pass
    stray = Expert(ExpertCard("stray"), {"nowhere": torch.ones(3)})
    with pytest.raises(ExpertMismatchError, match="nowhere"), model.adapted(stray):
        pass
    with model.adapted(one):  # an error inside has left nothing behind
        logits(model, batch)


@pytest.mark.parametrize("autocast", [False, True])
def test_what_inference_mode_left_behind_can_be_trained_with(
    autocast: bool, t2agent_home: Path
) -> None:
    (t2agent_home / "cache").unlink()  # so that the bases are computed in inference mode
    model, batch = build("gpt2")
    one = expert(model, "one", 1)
    mode = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    with torch.inference_mode(), mode:
        for enter in (model.adapted, model.merged):
            with enter(one):
                model.model(**batch)
    trained = Expert(ExpertCard("t"), {n: z.clone().requires_grad_() for n, z in one.z.items()})
    with model.adapted(trained), mode:
        model.model(**batch).logits.float().sum().backward()
    assert all(z.grad is not None for z in trained.z.values())


def test_what_is_no_model() -> None:
    tiny = build_text_model()
    for arguments, says in (
        ((None, tiny.tokenizer), "hf_model is a NoneType"),
        (("t2-nano", tiny.tokenizer), "from_pretrained"),
        ((tiny.model, None), "processor is None"),
    ):
        with pytest.raises(ConfigError, match=says):
            T2Model(*arguments)  # type: ignore[arg-type]
    for model in (None, 3, tiny.model):
        with pytest.raises(ConfigError, match="give a name, a folder or a file"):
            T2Model.from_pretrained(model)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="targets=3"):
        T2Model(tiny.model, tiny.tokenizer, targets=3)  # type: ignore[arg-type]


class Note:
    """What a module may know of a model."""

    def __init__(self, model: T2Model) -> None:
        time.sleep(0.01)
        self.model, self.fits = model, True


def notes_of(model: T2Model) -> list[Note]:
    """What four threads get that ask at once."""
    notes: list[Note] = []
    threads = [
        threading.Thread(target=lambda: notes.append(model.attached(Note))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return notes


def test_what_is_attached_is_made_once_and_goes_with_the_model() -> None:
    model, other = build_text_model(), build_text_model()
    notes = notes_of(model)
    assert len(set(map(id, notes))) == 1
    assert model.attached(Note, lambda note: note.fits) is notes[0]
    assert other.attached(Note) is not notes[0]
    notes[0].fits = False
    again = model.attached(Note, lambda note: note.fits)
    assert again is not notes[0]
    assert model.attached(Note) is again

    left = weakref.ref(model), weakref.ref(again), weakref.ref(notes[0])
    del model, again, notes
    gc.collect()
    assert [one() for one in left] == [None] * 3
