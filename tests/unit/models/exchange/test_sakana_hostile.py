"""Checkpoints that are damaged, foreign, too large, or hold code."""

from __future__ import annotations

import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2agent.errors import ExpertFormatError, ExpertMismatchError
from t2agent.models.exchange import import_sakana
from t2agent.models.model import T2Model
from tests.architectures import build
from tests.unit.models.exchange.policies import Combination, Policy


def saved(state: object, tmp_path: Path, **options: Any) -> Path:
    torch.save(state, tmp_path / "file.pt", **options)
    return tmp_path / "file.pt"


def params(model: T2Model) -> dict[str, Tensor]:
    return {key: p.detach() for key, p in Policy(model.model.state_dict()).params.items()}


def test_files_for_other_models(tmp_path: Path) -> None:
    model, _ = build("llama")
    good = params(model)
    first = next(iter(good))
    some = {key: p for key, p in good.items() if "layers.0" in key}
    foreign = {f"language_model.{key}": p for key, p in good.items()}
    short = {**good, first: good[first][:-1]}
    square = {**good, first: good[first][:, None]}
    listed = {f"learnable_params_module_list.{i}": p for i, p in enumerate(some.values())}
    gap = {f"learnable_params_module_list.{i + 1}": p for i, p in enumerate(good.values())}
    for state in (some, foreign, short, square, listed, gap):
        with pytest.raises(ExpertMismatchError, match="base model that it was trained for"):
            import_sakana(saved(state, tmp_path), model, "x")
    attention, _ = build("llama", targets="attention")
    with pytest.raises(ExpertMismatchError, match="targets 'all' or 'mlp'"):
        import_sakana(saved(good, tmp_path), attention, "x")


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    model, _ = build("llama")
    good = params(model)
    first = next(iter(good))
    mixed = Combination([Policy(model.model.state_dict())], per_layer=True, norm=False).state_dict()
    bad: list[object] = [
        {}, [], 3, torch.ones(3), [good],
        {**good, first: "text"},
        {**good, 5: good[first]},
        {**good, first: good[first].long()},
        {**good, first: torch.full_like(good[first], float("nan"))},
        {**good, first: torch.full_like(good[first], -float("inf")), "x": good[first].to_sparse()},
        {**good, first: torch.ones(1).expand(10**9)},
        {**mixed, "adaptive_weights": torch.ones(3, 1)},
        {**mixed, "adaptive_weights": torch.ones(1)},
        {**mixed, "other": torch.ones(1)},
        {k: v for k, v in mixed.items() if k == "adaptive_weights"},
        {k: (v[:0] if k == "adaptive_weights" else v) for k, v in mixed.items()},
        {k: (0 * v if k == "adaptive_weights" else v) for k, v in mixed.items()},
    ]  # fmt: skip
    for state in bad:
        with pytest.raises((ExpertFormatError, ExpertMismatchError)):
            import_sakana(saved(state, tmp_path), model, "x")


def test_code_is_not_run(tmp_path: Path) -> None:
    model, _ = build("llama")
    marker = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(marker), "w"))

    for options in ({}, {"_use_new_zipfile_serialization": False}):
        with pytest.raises(ExpertFormatError, match=r"refuses it|is not a usable"):
            import_sakana(saved({"a": Code()}, tmp_path, **options), model, "x")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": Code()}))
    with pytest.raises(ExpertFormatError):
        import_sakana(tmp_path / "plain.pt", model, "x")
    assert not marker.exists()


def test_files_that_are_not_there_or_too_large(tmp_path: Path) -> None:
    model, _ = build("llama")
    with pytest.raises(ExpertFormatError, match="no such file"):
        import_sakana(tmp_path / "nothing.pt", model, "x")
    with pytest.raises(ExpertFormatError, match="no such file"):
        import_sakana(tmp_path, model, "x")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        with pytest.raises(ExpertFormatError, match="no such file"):
            import_sakana(tmp_path / "pipe.pt", model, "x")
    with open(tmp_path / "huge.pt", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ExpertFormatError, match="at most"):
        import_sakana(tmp_path / "huge.pt", model, "x")


def test_archives_that_lie_about_their_size(tmp_path: Path) -> None:
    model, _ = build("llama")
    good = saved(params(model), tmp_path)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for part in source.infolist():
            out.writestr(part.filename, source.read(part))
    with pytest.raises(ExpertFormatError, match="compressed"):
        import_sakana(packed, model, "x")
    # A storage that is said to be longer than its data: torch would read what lies behind.
    longer = tmp_path / "longer.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(longer, "w") as out:
        for part in source.infolist():
            data = source.read(part)
            out.writestr(part.filename, data[:4] if "/data/" in part.filename else data)
    with pytest.raises(ExpertFormatError):
        import_sakana(longer, model, "x")


def test_damage_anywhere_is_a_typed_error_or_harmless(tmp_path: Path) -> None:
    model, _ = build("llama")
    data = saved(params(model), tmp_path).read_bytes()
    draw = random.Random(0)
    target = tmp_path / "damaged.pt"
    refused = 0
    for turn in range(300):
        damaged = bytearray(data)
        if turn % 3 == 0:
            damaged = damaged[: draw.randrange(len(data))]
        else:
            for _ in range(draw.choice((1, 1, 4, 64))):
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        target.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = import_sakana(target, model, "x")
        except (ExpertFormatError, ExpertMismatchError):
            refused += 1
        else:  # a changed number is a number all the same
            assert all(bool(torch.isfinite(z).all()) for z in got.z.values())
    assert refused > 150
