"""Packed weights from the shell: made when a base model is added, and left aside when told so."""

from __future__ import annotations

import hashlib

import pytest

from t2agent.models import installed, packed
from t2agent.models.installed import Packaged
from t2agent.models.packed_steps import Steps
from t2agent.paths import home
from tests.unit.models.test_gguf import write

pytestmark = pytest.mark.skipif(not packed.available(), reason="no fast kernel here")


def test_a_model_is_packed_when_added_and_decoded_so_unless_told_not_to(
    run, run_json, tmp_path, monkeypatch
):
    monkeypatch.setenv("T2AGENT_HOME", str(tmp_path / "home"))
    file = write(tmp_path / "tiny.gguf")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    known = Packaged("tiny-package", "1.0", "tiny_package/tiny.gguf", digest, "one/tiny", "MIT")
    monkeypatch.setitem(installed.KNOWN, "tiny", known)
    added = run("models", "add", "tiny", "--from", str(file))
    assert added.exit_code == 0, added.stderr
    [kept] = (home() / "cache" / "packed").glob("*.safetensors")
    assert run("models", "add", "tiny").exit_code == 0
    monkeypatch.setattr(packed, "_pack", lambda *_: pytest.fail("packed again"))

    passes: list[int] = []
    step = Steps.__call__
    monkeypatch.setattr(Steps, "__call__", lambda *a: passes.append(1) or step(*a))
    line = ("chat", "Hello there", "--dispatch", "off", "-m", "tiny", "--max-tokens", "4")
    run_json(*line, "--no-quantized")
    assert not passes
    run_json(*line)
    assert passes
    assert kept.is_file()
