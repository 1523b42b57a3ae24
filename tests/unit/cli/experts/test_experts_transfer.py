from __future__ import annotations

from pathlib import Path

import pytest
import torch

from t2agent.experts.registry import Registry
from t2agent.models.model import T2Model
from tests.models import build_text_model
from tests.unit.cli.conftest import save


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    """A base model of the same shapes with other weights."""
    return str(save(build_text_model(7), tmp_path_factory.mktemp("bases") / "other-text"))


@pytest.fixture(autouse=True)
def added(run, expert_folders):
    run("experts", "add", str(expert_folders["sums"]))


def test_to_a_model_of_the_same_shapes(run, run_json, tiny, other, t2agent_home):
    line = ("experts", "transfer", "sums", "--from", tiny, "--to", other)
    made = run_json(*line)

    assert made["report"]["exact"] is True
    assert len(made["report"]["matches"]) == 14
    assert Path(made["folder"]).is_relative_to(t2agent_home)
    expert = Registry(other).get("sums")
    original = Registry(tiny).get("sums")
    assert all(torch.equal(expert.z[m], original.z[m]) for m in original.z)
    assert expert.card.training["base_fingerprint"] == original.card.base_fingerprint
    with T2Model.from_pretrained(other).adapted("sums"):
        pass
    assert run(*line).exit_code == 1  # the name is taken
    shown = run(*line, "--name", "again").stdout
    for text in ("Exact", "same layer: 14", "100.0%", "experts eval again"):
        assert text in shown


def test_to_a_model_with_other_shapes_and_from_a_folder(run, tiny_vision, expert_folders):
    folder = str(expert_folders["poems"])
    line = ("experts", "transfer", folder, "--to", tiny_vision, "-n", "far")
    shown = run(*line, "--targets", "all+vision")
    assert shown.exit_code == 0, shown.stderr
    assert "Not exact" in shown.stdout
    assert "extended: 4" in shown.stdout  # k_proj and v_proj have more heads there
    assert "left as they are" in shown.stdout
    assert run(*line, "--replace", "--layers", "index", "--directions", "relative").exit_code == 0


def test_registering_elsewhere_is_refused_and_names_the_way(run, expert_folders):
    refused = run("experts", "add", str(expert_folders["sums"]), "--model", "t2-nano")
    assert refused.exit_code == 1
    assert "t2agent experts transfer" in refused.stderr


def test_errors(run, tiny, other):
    line = ("experts", "transfer", "--from", tiny, "--to", other)
    assert run(*line, "nobody").exit_code == 1
    assert run(*line, "sums", "--name", "no name").exit_code == 1
    assert run(*line, "sums", "--layers", "odd").exit_code == 2
    assert run(*line, "sums", "--source-layers", "1").exit_code == 1
    assert run("experts", "transfer", "sums", "--from", tiny).exit_code == 2
