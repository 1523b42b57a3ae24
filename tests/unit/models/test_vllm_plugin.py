"""The plugin, with vLLM's two types as far as it meets them: vLLM itself is no dependency.

docs/SERVING.md says what was tried with the real one.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from t2agent.experts.expert import Expert
from t2agent.models import vllm_plugin
from t2agent.models.model import T2Model
from tests.models import build_text_model, build_tokenizer

ROOT = Path(__file__).parents[3]


class LoRAResolver(ABC):
    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any: ...


class Registered:
    def __init__(self) -> None:
        self.resolvers: dict[str, Any] = {}

    def register_resolver(self, name: str, resolver: Any) -> None:
        self.resolvers[name] = resolver


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Registered:
    found = Registered()
    for name, members in {
        "vllm": {},
        "vllm.lora": {},
        "vllm.lora.resolver": {"LoRAResolver": LoRAResolver, "LoRAResolverRegistry": found},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
    }.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model's folder, for which the experts a and b are registered."""
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "small"
    build_text_model().model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    put(folder, "a", 1)
    put(folder, "b", 2)
    return folder


def put(folder: Path, name: str, seed: int) -> None:
    model = T2Model.from_pretrained(str(folder))
    made = Expert.identity(model, name)
    draw = torch.Generator().manual_seed(seed)
    for z in made.z.values():
        z[:3] = 1 + torch.randn(3, generator=draw)
    model.registry.register(made, persist=True, replace=True)


def resolve(registered: Registered, base: Path, name: str) -> Any:
    vllm_plugin.register()
    resolver = registered.resolvers["t2agent"]
    assert isinstance(resolver, LoRAResolver)
    return asyncio.run(resolver.resolve_lora(str(base), name))


def test_vllm_finds_the_plugin() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    module, _, function = points["vllm.general_plugins"]["t2agent"].partition(":")
    assert getattr(importlib.import_module(module), function) is vllm_plugin.register


def test_a_mixture_is_exported_when_it_is_asked_for(
    registered: Registered, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2AGENT_VLLM_RANK", "8")
    found = resolve(registered, base, "small:a=0.7+b=0.3")
    folder = Path(found.lora_path)
    assert found.lora_name == f"small:a=0.7+b=0.3@{folder.name}"
    assert found.lora_int_id >= 1
    model = T2Model.from_pretrained(str(base))
    tensors = load_file(folder / "adapter_model.safetensors")
    deltas = model.deltas({"a": 0.7, "b": 0.3})
    for name in deltas:
        b, a = (tensors[f"base_model.model.{name}.lora_{each}.weight"].double() for each in "BA")
        assert b.shape[1] == 8
        with model.merged({"a": 0.7, "b": 0.3}):
            merged = model.targets.layers[name].weight.double().clone()
        change = merged - model.targets.layers[name].weight.double()
        assert float((b @ a - change).norm()) < 1e-4 * float(change.norm()) + 1e-6
    written = folder.stat().st_mtime_ns
    again = resolve(registered, base, "small:b=0.3+a=0.7")  # the same mixture, in other words
    assert (again.lora_path, folder.stat().st_mtime_ns) == (found.lora_path, written)


def test_another_expert_of_the_name_is_another_adapter(registered: Registered, base: Path) -> None:
    first = resolve(registered, base, "small:a")
    put(base, "a", 3)
    second = resolve(registered, base, "small:a")
    assert first.lora_path != second.lora_path
    assert first.lora_name != second.lora_name


def test_names_that_mean_no_mixture(
    registered: Registered, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, said in {
        "small": "",
        "other:a": "",
        "small:nobody": "nobody",
        "small:a=x": "is no mixture",
        "small:a+../b": "../b",
    }.items():
        caplog.clear()
        assert resolve(registered, base, name) is None
        assert said in caplog.text
        assert bool(caplog.text) == bool(said)
    assert not (Path(base).parent / "home" / "cache" / "vllm").exists()


def test_nobody_can_fill_the_disk(
    registered: Registered, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(vllm_plugin, "KEPT", 1)
    assert resolve(registered, base, "small:a") is not None
    assert resolve(registered, base, "small:b") is None
    assert "no more than 1 are kept" in caplog.text
    assert resolve(registered, base, "small:a") is not None
    monkeypatch.setenv("T2AGENT_VLLM_RANK", "many")
    assert resolve(registered, base, "small:a") is None
    assert "T2AGENT_VLLM_RANK is 'many'" in caplog.text
