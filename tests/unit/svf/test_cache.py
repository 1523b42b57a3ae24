"""Bases on disk: kept by content, never believed blindly, and computed only once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2agent.errors import ConfigError
from t2agent.svf import decomposition
from t2agent.svf.basis import Basis, decompose
from t2agent.svf.decomposition import decompose_layers


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "empty"
    monkeypatch.setenv("T2AGENT_HOME", str(home))
    return home


def layers(count: int = 3) -> dict[str, torch.nn.Module]:
    return {f"layer{i}": torch.nn.Linear(8, 6 + i) for i in range(count)}


def counted(monkeypatch: pytest.MonkeyPatch, fail_after: int = 99) -> list[int]:
    calls: list[int] = []

    def count(*arguments: object) -> Basis:
        if len(calls) == fail_after:
            raise KeyboardInterrupt
        calls.append(1)
        return decompose(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decomposition, "decompose", count)
    return calls


def test_a_second_run_loads_what_the_first_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = layers()
    calls = counted(monkeypatch)
    first = decompose_layers(chosen, progress=False)
    second = decompose_layers(chosen, progress=False)
    assert len(calls) == 3
    for name, basis in first.items():
        assert torch.equal(basis.q, second[name].q)
        assert torch.equal(basis.s, second[name].s)
        assert (basis.offset is None) == (second[name].offset is None)


def test_an_interrupted_run_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = layers()
    counted(monkeypatch, fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        decompose_layers(chosen, progress=False)
    calls = counted(monkeypatch)
    decompose_layers(chosen, progress=False)
    assert len(calls) == 1


def test_a_changed_weight_or_bias_is_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = layers(1)
    calls = counted(monkeypatch)
    for change in ("weight", "bias", None):
        decompose_layers(chosen, progress=False)
        if change:
            getattr(chosen["layer0"], change).data[0] += 1
    assert len(calls) == 3


def stored() -> Path:
    (file,) = decomposition.folder().rglob("*.safetensors")
    return file


def damage_nothing_left(file: Path) -> None:
    file.write_bytes(b"")


def damage_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def damage_bytes(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-60:-40] = b"\xff" * 20
    file.write_bytes(bytes(data))


def damage_one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(bytes(data))


def damage_foreign(file: Path) -> None:
    tensors = load_file(file)
    save_file(tensors, file, metadata={"format": "pt"})


def damage_other_shape(file: Path) -> None:
    other = decompose(torch.randn(3, 4))
    decomposition.store_basis(file.stem, other)


def damage_renamed(file: Path) -> None:
    decomposition.store_basis("0" * 64, decompose(torch.randn(6, 8)))
    decomposition.path("0" * 64).replace(file)


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing_left,
        damage_cut,
        damage_bytes,
        damage_one_bit,
        damage_foreign,
        damage_other_shape,
        damage_renamed,
    ],
)
def test_damage_is_noticed_and_repaired(damage, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = layers(1)
    good = decompose_layers(chosen, progress=False)["layer0"].q.clone()
    damage(stored())
    calls = counted(monkeypatch)
    again = decompose_layers(chosen, progress=False)["layer0"].q.clone()
    assert len(calls) == 1
    assert torch.equal(again, good)
    decompose_layers(chosen, progress=False)
    assert len(calls) == 1


def test_a_cache_takes_a_quarter_of_the_factors() -> None:
    layer = torch.nn.Linear(1024, 256, bias=False)
    decompose_layers({"layer": layer}, progress=False)
    factors = (256 * 256 + 256 + 256 * 1024) * 4
    assert stored().stat().st_size <= factors / 4


def test_bases_are_computed_where_nothing_can_be_written(empty_cache: Path) -> None:
    empty_cache.mkdir()
    (empty_cache / "cache").write_text("a file in the folder's place")
    with pytest.warns(UserWarning, match="cannot be kept") as caught:
        bases = decompose_layers(layers(), progress=False)
    assert len(bases) == 3
    assert sum("cannot be kept" in str(one.message) for one in caught) == 1


def test_equal_weights_share_a_file() -> None:
    first = torch.nn.Linear(8, 6, bias=False)
    second = torch.nn.Linear(8, 6, bias=False)
    second.load_state_dict(first.state_dict())
    decompose_layers({"first": first, "second": second}, progress=False)
    assert stored().is_file()


_WORKER = """
import torch
from t2agent.svf.decomposition import decompose_layers
torch.manual_seed(0)
layers = {str(i): torch.nn.Linear(64, 64) for i in range(12)}
bases = decompose_layers(layers, progress=False)
print(float(sum(b.q.sum() for b in bases.values())))
"""


def test_processes_may_fill_one_cache_at_once() -> None:
    command = [sys.executable, "-c", _WORKER]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0] == printed[1] != ""
    files = [file for file in decomposition.folder().rglob("*") if file.is_file()]
    assert len(files) == 12
    assert {file.suffix for file in files} == {".safetensors"}


def test_a_weight_that_cannot_be_decomposed_is_named() -> None:
    chosen = layers()
    chosen["layer1"].weight.data[0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"layer1.*not finite.*targets"):
        decompose_layers(chosen, progress=False)
