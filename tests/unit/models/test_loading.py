from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t2agent.errors import ConfigError
from t2agent.models import loading
from t2agent.models.loading import load, source

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


@pytest.mark.parametrize("config", [None, "{", '{"model_type": "nothing"}', "{}"])
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigError, match="cannot load the base model"):
        load(str(tmp_path), **USUAL)


@pytest.mark.parametrize("dtype", ["bogus", "nn", ""])
def test_an_unknown_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(ConfigError, match="give 'auto'"):
        load("t2-nano", **{**USUAL, "dtype": dtype})
