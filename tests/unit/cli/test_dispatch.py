from __future__ import annotations

from typing import get_args

from PIL import Image

from t2agent.cli import options
from t2agent.dispatch.strategies import NAMES


def test_strategies_are_those_of_the_library():
    choices = get_args(get_args(get_args(options.Strategy)[0])[0])
    assert choices == NAMES


def test_another_strategy(run, run_json, tiny, expert_folders):
    run("experts", "add", str(expert_folders["sums"]), "--eligible")
    decision = run_json("dispatch", "What is 4 plus 9?", "--dispatch", "prompt", "-m", tiny)
    assert decision["strategy"] == "prompt"
    assert set(decision["scores"]) == {"sums"}
    assert run_json("dispatch", "Hi", "--dispatch", "off", "-m", tiny)["strategy"] == "off"
    for name, says in (("classifier", "Train one"), ("few-shot", "call chat.adapt")):
        result = run("dispatch", "Hi", "--dispatch", name, "-m", tiny)
        assert result.exit_code == 1
        assert says in result.stderr


def test_scores_and_mixture(run, run_json, tiny, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder), "--eligible")

    decision = run_json("dispatch", "What is 4 plus 9?", "-m", tiny)

    assert decision["strategy"] == "embedding"
    assert decision["scores"]["sums"] > decision["scores"]["poems"]
    assert set(decision["mixture"]["weights"]) == {"sums"}
    assert decision["in_scope"] is True
    assert decision["gate"] >= decision["threshold"]
    assert 0 < decision["seconds"] < 60
    table = run("dispatch", "What is 4 plus 9?", "-m", tiny).stdout
    assert "sums" in table
    assert "in scope (gate " in table


def test_an_expert_without_proof_is_not_chosen(run, run_json, tiny, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder))
    assert run_json("dispatch", "What is 4 plus 9?", "-m", tiny)["scores"] == {}
    listed = run_json("experts", "list", "-m", tiny)["experts"]
    for one in listed:
        assert one["eligible"] is False
        assert "no score stands beside the base model's" in one["eligible_reason"]
        assert f"t2agent experts eligible {one['name']} --yes -m" in one["eligible_reason"]
    assert run_json("experts", "eligible", "sums", "--yes", "-m", tiny)["eligible"] is True
    decision = run_json("dispatch", "What is 4 plus 9?", "-m", tiny)
    assert set(decision["scores"]) == {"sums"}
    assert run_json("experts", "show", "sums", "-m", tiny)["eligible_reason"] == "as you said"
    assert run_json("experts", "eligible", "sums", "-m", tiny)["eligible"] is False


def test_without_experts_the_base_model_answers(run_json, tiny):
    decision = run_json("dispatch", "Anything", "-m", tiny)

    assert decision["mixture"]["weights"] == {}


def test_text_experts_are_not_for_images(run, run_json, tiny, expert_folders, tmp_path):
    run("experts", "add", str(expert_folders["sums"]))
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")

    decision = run_json(
        "dispatch", "What is 4 plus 9?", "-m", tiny, "--image", str(tmp_path / "image.png")
    )

    assert decision["mixture"]["weights"] == {}


def test_wrong_arguments(run, tiny, tmp_path):
    assert run("dispatch").exit_code == 2
    assert run("dispatch", " ").exit_code == 2
    no_image = run("dispatch", "Hi", "-m", tiny, "--image", str(tmp_path / "none.png"))
    assert no_image.exit_code == 1
    assert "no image file" in no_image.stderr
    folder = run("dispatch", "Hi", "-m", tiny, "--image", str(tmp_path))
    assert "is a folder" in folder.stderr


def test_auto_is_the_base_model_that_the_variable_names(run, run_json, tiny, monkeypatch):
    monkeypatch.setenv("T2AGENT_MODEL", tiny)
    listed = run_json("experts", "list")
    assert listed["model"] == tiny
    assert run_json("experts", "list", "-m", "auto") == listed
    assert run_json("dispatch", "Hi")["scores"] == {}  # not t2-nano's experts
    monkeypatch.setenv("T2AGENT_MODEL", "auto")
    result = run("dispatch", "Hi")
    assert result.exit_code == 2
    assert "T2AGENT_MODEL is 'auto'" in result.stderr
