from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from t2agent.errors import ConfigError
from t2agent.models import loading
from t2agent.models.generate import Prompt, generate
from t2agent.models.loading import load, source
from t2agent.models.model import T2Model
from t2agent.models.options import GenerationOptions
from tests.models import build_text_model, build_vision_model

USUAL: dict[str, Any] = {
    "revision": None,
    "device_map": None,
    "dtype": "auto",
    "quantization_config": None,
    "cache_dir": None,
    "trust_remote_code": False,
}


def test_the_embedded_base_lies_in_the_package_and_others_are_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Path(source("t2-nano")) / "config.json").is_file()
    assert source("org/model") == "org/model"
    assert source(str(tmp_path)) == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source("~/") == str(tmp_path)


def test_a_missing_embedded_base_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "bundled", lambda _kind: tmp_path)
    with pytest.raises(ConfigError, match="install t2agent anew"):
        source("t2-nano")


def test_a_path_without_a_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load(str(tmp_path / "nowhere"), **USUAL)


def test_without_the_hub_the_cache_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    looked_up: list[Any] = []

    def fail(host: Any, *_args: Any, **_options: Any) -> None:
        looked_up.append(host)
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    shutil.copytree(whole, tmp_path / "models--org--model" / "snapshots" / "one")
    (tmp_path / "models--org--model" / "refs").mkdir()
    (tmp_path / "models--org--model" / "refs" / "main").write_text("one")
    load("org/model", **{**USUAL, "cache_dir": tmp_path})
    with pytest.raises(ConfigError, match="t2agent models list"):
        load("org/other", **{**USUAL, "cache_dir": tmp_path})
    assert len(looked_up) <= 2  # else each file is tried again and again, for half a minute


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "nothing"}', "{}"])
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigError, match="cannot load the base model") as caught:
        load(str(tmp_path), **USUAL)
    assert config != "{}" or "t2agent models list" in str(caught.value)  # what to give instead


@pytest.mark.parametrize("dtype", ["bogus", "nn", ""])
def test_an_unknown_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(ConfigError, match="give 'auto'"):
        load("t2-nano", **{**USUAL, "dtype": dtype})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    model = build_text_model()
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def without_a_layer(folder: Path) -> None:
    file = folder / "model.safetensors"
    kept = {key: value for key, value in load_file(file).items() if "layers.1" not in key}
    save_file(kept, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_short, "damaged or cut short .*; get it again"),
        (without_a_layer, r"lacks 9 of the weights .*layers\.1.* would be random"),
        (lambda folder: config(folder, hidden_size=128), "other sizes than config.json says"),
        (
            lambda folder: config(folder, quantization_config={"quant_method": "gptq", "bits": 4}),
            "a package that it needs is not installed",
        ),
        (
            lambda folder: config(
                folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
            ),
            "a package that it needs is not installed",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "KeyError: 'added_tokens'"),
        (lambda folder: (folder / "tokenizer.json").write_bytes(b"\xff"), "cannot load"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    whole: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    told: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load(str(tmp_path), **USUAL)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=told):
        load(str(tmp_path), **USUAL)
    assert capfd.readouterr().err == ""  # told once, by the error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_told(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"no CUDA device here .* give device_map=None or 'cpu'"):
        load(str(whole), **{**USUAL, "device_map": "cuda"})


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="it is a file; give a checkpoint's folder"):
        load(str(tmp_path / "model.bin"), **USUAL)


def test_nothing_is_told_where_nothing_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = build_vision_model()
    made.model.save_pretrained(tmp_path)
    made.processor.save_pretrained(tmp_path)
    capfd.readouterr()
    model = T2Model.from_pretrained(tmp_path)
    generate(model, [Prompt.user("What?", Image.new("RGB", (64, 64)))], GenerationOptions())
    assert capfd.readouterr() == ("", "")
