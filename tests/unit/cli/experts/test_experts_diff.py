from __future__ import annotations

import pytest

from t2agent.cli.experts.diff import draw
from t2agent.experts.compare import compare
from t2agent.experts.registry import Registry
from tests.experts import random_expert
from tests.models import tiny_vision_model


@pytest.fixture(autouse=True)
def added(run, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder))


def test_two_experts_with_a_plot(run, run_json, tiny, tmp_path):
    file = tmp_path / "deep" / "diff.png"
    found = run_json("experts", "diff", "sums", "poems", "-m", tiny, "--plot", str(file))

    registry = Registry(tiny)
    wanted = compare(registry.get("sums"), registry.get("poems"), top=10)
    assert found["cosine"] == wanted.cosine
    assert len(found["modules"]) == 14
    assert len(found["directions"]) == 10
    assert found["directions"][0]["s"] is None
    assert file.read_bytes().startswith(b"\x89PNG")
    table = run("experts", "diff", "sums", "poems", "-m", tiny).stdout
    for text in ("cosine", "opposed", "mlp.down_proj", "Directions moved most"):
        assert text in table


def test_one_expert_and_singular_values(run, run_json, tiny, tmp_path):
    found = run_json("experts", "diff", "sums", "-m", tiny, "--weighted", "--top", "3")
    assert found["names"] == ["sums", None]
    assert all(direction["s"] > 0 for direction in found["directions"])
    assert len(found["directions"]) == 3
    plot = tmp_path / "one.png"
    shown = run("experts", "diff", "sums", "-m", tiny, "--plot", str(plot)).stdout
    assert str(plot.name) in shown.replace("\n", "")
    assert "opposed" not in shown


def test_a_folder_instead_of_a_name(run_json, tiny, expert_folders):
    one = run_json("experts", "diff", str(expert_folders["sums"]), "sums", "-m", tiny)
    assert one["cosine"] == pytest.approx(1.0)


def test_modules_outside_of_layers_and_two_stacks_are_drawn(tmp_path):
    model = tiny_vision_model()
    one = random_expert(model, "one")
    odd = {**one.z, "model.connector.proj": one.z[next(iter(one.z))],
           "model.vision_model.encoder.layers.7.fc1": one.z[next(iter(one.z))]}  # fmt: skip
    draw(compare(type(one)(one.card, odd)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    draw(compare(0 * one), tmp_path / "b.png")


def test_errors(run, tiny):
    assert run("experts", "diff", "nobody", "-m", tiny).exit_code == 1
    assert run("experts", "diff", "sums", "--top", "0", "-m", tiny).exit_code == 2
    assert run("experts", "diff", "sums", "--threshold", "-1", "-m", tiny).exit_code == 2
