from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from t2agent.experts.registry import Registry

REPO = "someone/sums"


@pytest.fixture
def pushed(hub, run_json, tiny, expert_folders):
    run_json("experts", "add", str(expert_folders["sums"]))
    return run_json("experts", "push", "sums", REPO, "-m", tiny)


def test_push_pull_show_and_restore(hub, run, run_json, tiny, pushed):
    assert pushed["commit"] == hub.find(REPO, "main")
    run_json("experts", "remove", "sums", "-m", tiny)

    pulled = run_json("experts", "pull", REPO)

    assert pulled["model"] == "tiny-text"  # of the card, which tells no path
    assert pulled["commit"] == pushed["commit"]
    assert run_json("experts", "show", "sums", "-m", tiny)["pin"]["commit"] == pushed["commit"]
    assert REPO in run("experts", "show", "sums", "-m", tiny).stdout
    shutil.rmtree(pulled["folder"])
    restored = run_json("experts", "pull")
    assert restored["experts"] == [pulled]
    assert run_json("experts", "pull", "-m", tiny)["experts"][0]["folder"] == pulled["folder"]
    assert Registry(tiny).names() == ["sums"]
    assert "/tiny-text" not in (Path(pulled["folder"]).parent / "experts.lock.json").read_text()


def test_options(hub, run, run_json, tiny, pushed, expert_folders):
    run_json(
        "experts",
        "push",
        "sums",
        f"{REPO}@next",
        "-m",
        tiny,
        "--subfolder",
        "in",
        "--message",
        "Hi",
    )
    run_json("experts", "push", "sums", "someone/secret", "-m", tiny, "--private")
    assert hub.settings("someone/secret")["private"]

    more = ("--subfolder", "in", "--name", "other", "--model", tiny)
    other = run_json("experts", "pull", REPO, "--revision", "next", *more)

    assert (other["name"], other["revision"]) == ("other", "next")
    run_json("experts", "push", "other", f"{REPO}@next", "-m", tiny, "--subfolder", "in")
    again = run_json("experts", "pull", REPO, *more)
    newer = run_json("experts", "pull", REPO, *more, "--update")
    assert again["commit"] == other["commit"]
    assert newer["commit"] == hub.find(REPO, "next")
    taken = run("experts", "pull", REPO, "-m", tiny)
    assert taken.exit_code == 1
    assert "replace" in taken.stderr
    assert run("experts", "pull", REPO, "-m", tiny, "--replace").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("pull", "someone/nothing"), "no repository"),
        (("pull", f"{REPO}@nope"), "no revision"),
        (("pull", "not a name"), "user/name"),
        (("pull", REPO, "--token", "hf_wrong"), "401"),
        (("pull", REPO, "--endpoint", "http://127.0.0.1:9"), "cannot be reached"),
        (("push", "nothing", REPO), "no expert 'nothing'"),
    ],
)
def test_an_error_is_one_line(run, pushed, tiny, arguments, text):
    result = run("experts", *arguments, "-m", tiny)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert text in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert "hf_" not in result.stderr


def test_what_needs_a_repository(run):
    assert run("experts", "pull", "--update").exit_code == 2
    assert run("experts", "pull", "--name", "x").exit_code == 2
    assert "No experts are pinned" in run("experts", "pull").stdout


def test_offline(run, run_json, tiny, pushed, monkeypatch):
    pulled = run_json("experts", "pull", REPO, "-m", tiny, "--name", "mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert run_json("experts", "pull", REPO) == {**pulled, "model": "tiny-text"}
    shutil.rmtree(pulled["folder"])
    assert run_json("experts", "pull", REPO, "-m", tiny) == pulled  # from the cache of downloads
    shutil.rmtree(pulled["folder"])
    shutil.rmtree(constants.HF_HUB_CACHE)
    failed = run_json("experts", "pull", exit_code=1)
    assert "HF_HUB_OFFLINE" in failed["experts"][0]["problem"]
    assert "HF_HUB_OFFLINE" in run("experts", "push", "sums", REPO, "-m", tiny).stderr
