from __future__ import annotations

from PIL import Image


def test_scores_and_mixture(run, run_json, tiny, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder))

    decision = run_json("dispatch", "What is 4 plus 9?", "-m", tiny)

    assert decision["strategy"] == "embedding"
    assert decision["scores"]["sums"] > decision["scores"]["poems"]
    assert set(decision["mixture"]["weights"]) == {"sums"}
    assert decision["in_scope"] is True
    assert 0 < decision["seconds"] < 60
    table = run("dispatch", "What is 4 plus 9?", "-m", tiny).stdout
    assert "sums" in table
    assert "in scope" in table


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
    no_image = run("dispatch", "Hi", "-m", tiny, "--image", str(tmp_path / "none.png"))
    assert no_image.exit_code == 1
    assert "no image file" in no_image.stderr
