from __future__ import annotations

import shutil
from pathlib import Path

from t2agent.experts.registry import Registry


def test_add_list_show_and_remove(run, run_json, tiny, expert_folders, t2agent_home):
    added = run_json("experts", "add", str(expert_folders["sums"]))

    assert added["model"] == tiny  # taken from the card
    assert Path(added["folder"]).is_relative_to(t2agent_home)
    listed = run_json("experts", "list", "--model", tiny)
    assert [row["name"] for row in listed["experts"]] == ["sums"]
    assert listed["experts"][0]["parameters"] == Registry(tiny).get("sums").parameters
    assert listed["problems"] == []
    shown = run_json("experts", "show", "sums", "--model", tiny)
    assert shown["description"] == "All about sums."
    assert len(shown["examples"]) == 12
    removed = run_json("experts", "remove", "sums", "--model", tiny)
    assert removed["uncovered"] is None
    assert run_json("experts", "list", "--model", tiny)["experts"] == []
    assert not Path(added["folder"]).exists()
    assert expert_folders["sums"].exists()


def test_tables_for_people(run, tiny, expert_folders):
    assert "No experts" in run("experts", "list", "--model", tiny).stdout

    run("experts", "add", str(expert_folders["sums"]))

    table = run("experts", "list", "-m", tiny).stdout
    assert "sums" in table
    assert "All about sums." in table
    assert "What is 0 plus 1?" in run("experts", "show", "sums", "-m", tiny).stdout


def test_a_taken_name_is_refused_without_replace(run, tiny, expert_folders):
    folder = str(expert_folders["sums"])
    assert run("experts", "add", folder).exit_code == 0

    again = run("experts", "add", folder)

    assert again.exit_code == 1
    assert again.stdout == ""
    assert again.stderr.startswith("error: ")
    assert again.stderr.count("\n") == 1
    assert run("experts", "add", folder, "--replace").exit_code == 0


def test_a_damaged_expert_is_listed_with_its_problem(run, run_json, tiny, expert_folders):
    for folder in expert_folders.values():
        run("experts", "add", str(folder))
    broken = Path(run_json("experts", "show", "poems", "-m", tiny)["origin"])
    (broken / "expert.safetensors").write_bytes(b"not safetensors")

    listed = run_json("experts", "list", "-m", tiny)

    assert [row["name"] for row in listed["experts"]] == ["sums"]
    assert [problem["where"] for problem in listed["problems"]] == [str(broken)]
    assert "Left out" in run("experts", "list", "-m", tiny).stdout
    assert run("experts", "show", "poems", "-m", tiny).exit_code == 1
    # A damaged expert can be removed too.
    assert run("experts", "remove", "poems", "-m", tiny).exit_code == 0
    assert run_json("experts", "list", "-m", tiny)["problems"] == []


def test_an_expert_for_another_base_model_is_refused(run, tiny_vision, expert_folders):
    result = run("experts", "add", str(expert_folders["sums"]), "--model", tiny_vision)

    assert result.exit_code == 1
    assert "base model" in result.stderr


def test_a_folder_that_is_no_expert(run, tmp_path):
    missing = run("experts", "add", str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    empty = run("experts", "add", str(tmp_path / "empty"))

    assert (missing.exit_code, empty.exit_code) == (1, 1)
    assert "no such folder" in missing.stderr
    assert "expert_config.json" in empty.stderr


def test_unknown_names(run, tiny, expert_folders):
    run("experts", "add", str(expert_folders["sums"]))

    show = run("experts", "show", "sumz", "-m", tiny)

    assert show.exit_code == 1
    assert "Did you mean 'sums'?" in show.stderr
    assert run("experts", "remove", "nothing", "-m", tiny).exit_code == 1


def test_a_shipped_expert_cannot_be_removed(run, expert_folders, tmp_path, monkeypatch):
    shutil.copytree(expert_folders["sums"], tmp_path / "shipped" / "tiny-text" / "sums")
    monkeypatch.setattr("t2agent.experts.discovery.bundled", lambda kind: tmp_path / "shipped")

    result = run("experts", "remove", "sums", "-m", "tiny-text")

    assert result.exit_code == 1
    assert "package" in result.stderr
    assert (tmp_path / "shipped" / "tiny-text" / "sums").is_dir()


def test_a_base_model_that_is_not_there(run, run_json, tiny, expert_folders, tmp_path):
    run("experts", "add", str(expert_folders["sums"]))
    gone = str(tmp_path / "gone" / Path(tiny).name)  # experts are kept under the last part
    for command in (("list",), ("show", "sums")):
        result = run("experts", *command, "-m", gone)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "there is no such folder" in result.stderr
    assert run_json("experts", "remove", "sums", "-m", gone)["name"] == "sums"
