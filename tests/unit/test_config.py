from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t2agent.errors import ConfigError
from t2agent.models.options import GenerationOptions
from t2agent.paths import base_slug, home, public_name


def test_home_is_read_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "one"))
    assert home() == tmp_path / "one"
    monkeypatch.setenv("T2AGENT_HOME", "~/two")
    assert home() == Path.home() / "two"
    monkeypatch.setenv("T2AGENT_HOME", " ")
    assert home() == Path.home() / ".local/share/t2agent"
    monkeypatch.delenv("T2AGENT_HOME")
    assert home() == Path.home() / ".local/share/t2agent"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("t2-nano", "t2-nano"),
        ("Qwen/Qwen2-0.5B", "Qwen--Qwen2-0.5B"),
        ("/models/My Model", "My-Model"),
        ("./checkpoints/run 7/", "run-7"),
        ("~/models/tiny", "tiny"),
        ("a/b/c", "c"),
        (" gpt2 ", "gpt2"),
        ("org/été:1", "org---t-1"),
    ],
)
def test_slug_of_a_base_model(name: str, slug: str) -> None:
    assert base_slug(name) == slug


def test_slug_of_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "standing-here").mkdir()
    monkeypatch.chdir(tmp_path / "standing-here")
    assert base_slug(".") == "standing-here"


def test_a_name_for_others_tells_no_path() -> None:
    assert public_name("/home/me/models/tiny") == "tiny"
    assert public_name("Qwen/Qwen2-0.5B") == "Qwen/Qwen2-0.5B"
    assert public_name("") == ""
    assert public_name("/") == ""


@pytest.mark.parametrize("name", ["", "  ", "/", "...", "é"])
def test_a_name_that_names_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="does not name a base model"):
        base_slug(name)


@pytest.mark.parametrize("name", ["../../etc", "..", "x/../../y", "\x00", "a/..", "../.ssh"])
def test_a_slug_never_leaves_its_folder(name: str, tmp_path: Path) -> None:
    try:
        slug = base_slug(name)
    except ConfigError:
        return
    assert (tmp_path / slug).resolve().parent == tmp_path.resolve()


def test_options_that_are_fine() -> None:
    options = GenerationOptions(max_tokens=1, temperature=0.7, top_p=1, stop=["a"], seed=0)
    assert options.stop == ("a",)
    assert hash(options) == hash(
        GenerationOptions(max_tokens=1, temperature=0.7, top_p=1, stop=("a",), seed=0)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "warm"},
        {"top_p": 0},
        {"top_p": 1.01},
        {"stop": "text"},
        {"stop": ("",)},
        {"stop": (1,)},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 1.0},
    ],
)
def test_options_outside_their_range_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GenerationOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 3, b"t2-nano", ["t2-nano"]])
def test_a_base_model_is_named_by_a_string(name: Any) -> None:
    with pytest.raises(ConfigError, match="named by a string"):
        base_slug(name)


def test_stop_that_is_no_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match="sequence of strings"):
        GenerationOptions(stop=5)  # type: ignore[arg-type]
