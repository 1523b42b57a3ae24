"""Experts on a Hub that is a real server on this machine, through huggingface_hub's own client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, constants

from t2agent.errors import (
    ConfigError,
    ExpertFormatError,
    ExpertNotFoundError,
    HubError,
    T2Error,
)
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import CONFIG_FILE, README_FILE, VECTORS_FILE
from tests.folder_hub import FolderHub

ROOT = Path(__file__).resolve().parents[3]
REPO = "someone/math"
CARD = ExpertCard("math", "Sums", base="org/base", base_fingerprint="f00", scores={"val": 0.9})


def expert(value: float = 2.0, card: ExpertCard = CARD) -> Expert:
    return Expert(card, {"a.q": torch.full((5,), value), "a.up": torch.ones(3)})


def value_of(loaded: Expert) -> float:
    return loaded.z["a.q"][0].item()


def asked(hub: FolderHub) -> list[str]:
    """The requests since the last time that this was called."""
    requests = [f"{method} {path}" for method, path in hub.requests]
    hub.requests.clear()
    return requests


def test_an_expert_goes_to_the_hub_and_comes_back(hub: FolderHub) -> None:
    pushed = expert().push_to_hub(REPO)
    assert str(pushed) == f"{REPO}@{hub.find(REPO, 'main')}"
    assert pushed.url == f"{hub.url}/{REPO}/commit/{pushed.commit}"
    loaded = Expert.from_pretrained(REPO)
    assert loaded.card == CARD
    assert loaded.digest() == expert().digest()
    assert Expert.from_pretrained(str(pushed)).card == CARD
    assert Expert.from_pretrained(f"hf://{REPO}", endpoint=hub.url + "/").card == CARD


def test_a_push_is_one_commit_of_three_files(hub: FolderHub) -> None:
    expert().push_to_hub(REPO, commit_message="First")
    assert hub.files(REPO).keys() == {".gitattributes", VECTORS_FILE, CONFIG_FILE, README_FILE}
    assert sum("/commit/" in one for one in asked(hub)) == 1
    data = ModelCard(hub.files(REPO)[README_FILE].decode()).data
    assert (data.base_model, data.library_name) == ("org/base", "t2agent")
    assert [one.metric_value for one in data.eval_results] == [0.9]


def test_pushing_again_replaces_and_keeps_what_is_not_ours(hub: FolderHub) -> None:
    first = expert().push_to_hub(REPO)
    hub.commit(REPO, "main", {"notes.md": b"mine"})
    second = expert(3.0).push_to_hub(REPO)
    assert hub.files(REPO)["notes.md"] == b"mine"
    assert value_of(Expert.from_pretrained(REPO)) == 3.0
    assert value_of(Expert.from_pretrained(REPO, revision=first.commit)) == 2.0
    assert expert(3.0).push_to_hub(REPO) == second  # nothing changed: no commit


def test_a_branch_and_a_folder(hub: FolderHub) -> None:
    expert(1.0).push_to_hub(REPO)
    expert(2.0).push_to_hub(f"{REPO}@next/2")
    expert(3.0).push_to_hub(REPO, revision="next/2", subfolder="more/sums")
    assert value_of(Expert.from_pretrained(REPO)) == 1.0
    assert value_of(Expert.from_pretrained(f"{REPO}@next/2")) == 2.0
    inside = Expert.from_pretrained(REPO, revision="next/2", subfolder="more/sums")
    assert value_of(inside) == 3.0
    with pytest.raises(ExpertNotFoundError, match="subfolder"):
        Expert.from_pretrained(REPO, subfolder="nowhere")


def test_a_private_repository_is_made_and_never_a_public_one_used(hub: FolderHub) -> None:
    expert().push_to_hub(REPO, private=True)
    assert hub.settings(REPO)["private"]  # type: ignore[index]
    expert(3.0).push_to_hub(REPO, private=True)
    expert().push_to_hub("someone/public")
    before = hub.find("someone/public", "main")
    with pytest.raises(ConfigError, match="is public"):
        expert(3.0).push_to_hub("someone/public", private=True)
    assert hub.find("someone/public", "main") == before
    with pytest.raises(ExpertNotFoundError, match="log in"):
        Expert.from_pretrained(REPO, token=False)


def test_a_path_of_this_machine_is_not_told(hub: FolderHub) -> None:
    card = ExpertCard("math", base="/data/secret/models/tiny")
    expert(card=card).push_to_hub(REPO)
    assert Expert.from_pretrained(REPO).card.base == "tiny"
    assert not any(b"secret" in content for content in hub.files(REPO).values())


@pytest.mark.parametrize("form", ["path", "string", "name in the working folder"])
def test_a_folder_is_loaded_from_there(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert().save(tmp_path / "someone" / "math")
    monkeypatch.chdir(tmp_path)
    given: Any = {"path": tmp_path / "someone", "string": str(tmp_path / "someone")}
    place = given.get(form, "someone")
    assert Expert.from_pretrained(place, subfolder="math").card == CARD
    with pytest.raises(ConfigError, match="revision"):
        Expert.from_pretrained(place, revision="main")


# -- offline and the cache -------------------------------------------------------------------


def test_what_was_loaded_once_is_there_without_the_hub(
    hub: FolderHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = expert().push_to_hub(REPO)
    expert(3.0).push_to_hub(REPO)
    assert value_of(Expert.from_pretrained(REPO)) == 3.0
    for way in ("local_files_only", "out of service", "offline", "gone"):
        if way == "out of service":
            hub.status = 503
        elif way == "offline":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        elif way == "gone":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        only = way == "local_files_only"
        assert value_of(Expert.from_pretrained(REPO, local_files_only=only)) == 3.0
        with pytest.raises(HubError, match=f"{first.commit}|refused") as caught:
            Expert.from_pretrained(str(first), local_files_only=only)
        assert "cache" in str(caught.value) or way == "out of service"
        assert "\n" not in str(caught.value)


def test_a_commit_that_is_cached_needs_no_request(hub: FolderHub) -> None:
    pushed = expert().push_to_hub(REPO)
    Expert.from_pretrained(str(pushed))
    asked(hub)
    Expert.from_pretrained(str(pushed))
    assert asked(hub) == []


def test_a_damaged_file_of_the_cache_is_fetched_again(
    hub: FolderHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = expert().push_to_hub(REPO)
    Expert.from_pretrained(REPO)
    for name in (VECTORS_FILE, CONFIG_FILE):
        [cached] = Path(constants.HF_HUB_CACHE).glob(f"*/snapshots/*/{name}")
        blob = cached.resolve()
        for address in (REPO, str(pushed)):
            blob.write_bytes(blob.read_bytes()[:-1] + b"?")
            assert Expert.from_pretrained(address).card == CARD
        blob.write_bytes(b"?")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match=r"damaged in the cache.*offline.*with the network"):
            Expert.from_pretrained(REPO)
        with pytest.raises(HubError, match=r"damaged.*offline.*without HF_HUB_OFFLINE and local"):
            Expert.from_pretrained(REPO, local_files_only=True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        working, hub.status = hub.status, 503
        with pytest.raises(HubError, match=r"damaged in the cache.*503.*with the network"):
            Expert.from_pretrained(str(pushed))
        hub.status = working
        assert Expert.from_pretrained(REPO).card == CARD


def test_offline_in_a_process_of_its_own(hub: FolderHub, tmp_path: Path) -> None:
    """As users set it, before anything is imported; and one line instead of a traceback."""
    expert().push_to_hub(REPO)
    Expert.from_pretrained(REPO)
    code = f"from t2agent import Expert; print(Expert.from_pretrained({REPO!r}).name)"
    for cache, text in ((constants.HF_HUB_CACHE, "math"), (str(tmp_path), "HF_HUB_OFFLINE")):
        environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": cache, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert text in (run.stdout or run.stderr.splitlines()[-1])


# -- what the Hub refuses, and what it holds that is no expert -------------------------------


@pytest.mark.parametrize(
    ("address", "error", "match"),
    [
        ("someone/nothing", ExpertNotFoundError, "no repository 'someone/nothing'"),
        (f"{REPO}@nope", ExpertNotFoundError, "no revision 'nope'"),
        (f"{REPO}@{'0' * 40}", ExpertNotFoundError, "no revision '0000"),
        ("someone/empty", ExpertNotFoundError, "no expert_config.json"),
        ("someone/gated", HubError, "accept its terms"),
        ("", ConfigError, "'user/name'"),
        ("a b/c", ConfigError, "'user/name'"),
        ("someone--else/x", ConfigError, "'user/name'"),
        ("someone/math@", ConfigError, "revision"),
        ("someone/math@../../x", ConfigError, "revision"),
        ("someone/math@a..b", ConfigError, "revision"),
        ("someone/math@-x", ConfigError, "revision"),
        ("someone/math@a\nb", ConfigError, "revision"),
        ("http://x/someone/math", T2Error, "no such folder"),
        (None, ConfigError, "string|path"),
    ],
)
def test_what_cannot_be_loaded(
    hub: FolderHub, address: Any, error: type[T2Error], match: str
) -> None:
    expert().push_to_hub(REPO)
    hub.create("someone/empty")
    hub.create("someone/gated")
    hub.change("someone/gated", gated=True)
    with pytest.raises(error, match=match) as caught:
        Expert.from_pretrained(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("subfolder", ["../math", "/math", "a/../..", "a//b", "a\\b", ".git", 3])
def test_a_folder_that_leads_elsewhere_is_refused(hub: FolderHub, subfolder: Any) -> None:
    with pytest.raises(ConfigError, match="folder inside a repository"):
        Expert.from_pretrained(REPO, subfolder=subfolder)
    assert asked(hub) == []


def test_two_revisions_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        Expert.from_pretrained(f"{REPO}@a", revision="b")


@pytest.mark.parametrize(
    ("status", "match"),
    [(500, "status 500"), (418, "status 418"), (403, "log in"), (429, "status 429")],
)
def test_a_hub_in_trouble(hub: FolderHub, status: int, match: str) -> None:
    expert().push_to_hub(REPO)
    hub.status = status
    with pytest.raises(HubError, match=f"(?i){match}"):
        Expert.from_pretrained(REPO)
    with pytest.raises(HubError, match=f"(?i){match}"):
        expert().push_to_hub(REPO)


@pytest.mark.parametrize("endpoint", ["localhost:80", "file:///etc", "nonsense"])
def test_what_is_no_hub(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="no Hub"):
        Expert.from_pretrained(REPO, endpoint=endpoint)


@pytest.mark.parametrize(
    ("repo", "token", "match"),
    [
        ("else/math", None, "status 403"),
        (REPO, "hf_wrong", "status 401"),
        (REPO, False, "log in"),
    ],
)
def test_who_may_not_push(hub: FolderHub, repo: str, token: Any, match: str) -> None:
    with pytest.raises(T2Error, match=f"(?i){match}"):
        expert().push_to_hub(repo, token=token)
    assert hub.settings(repo) is None


def test_offline_nothing_is_pushed(hub: FolderHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        expert().push_to_hub(REPO)


def test_what_is_pushed_is_whole(hub: FolderHub) -> None:
    broken = Expert(CARD, {"m": torch.tensor([float("nan")])})
    with pytest.raises(ExpertFormatError, match="NaN"):
        broken.push_to_hub(REPO)
    with pytest.raises(ConfigError, match="goes to a branch"):
        expert().push_to_hub(f"{REPO}@{'a' * 40}")
    assert asked(hub) == []


@pytest.mark.parametrize("name", [CONFIG_FILE, VECTORS_FILE])
def test_a_huge_file_is_not_downloaded(hub: FolderHub, name: str) -> None:
    pushed = expert().push_to_hub(REPO)
    with (hub.root / REPO / "commits" / pushed.commit / name).open("r+b") as file:
        file.truncate(2**40)  # sparse
    asked(hub)
    with pytest.raises(ExpertFormatError, match=f"{name} has 1,099,511,627,776 bytes"):
        Expert.from_pretrained(REPO)
    assert not any(one.startswith("GET") and name in one for one in asked(hub))


def test_a_huge_readme_is_left_out(hub: FolderHub) -> None:
    pushed = expert().push_to_hub(REPO)
    with (hub.root / REPO / "commits" / pushed.commit / README_FILE).open("r+b") as file:
        file.truncate(2**40)
    assert Expert.from_pretrained(REPO).card == CARD


def test_a_damaged_expert_is_named_by_its_address(hub: FolderHub) -> None:
    expert().push_to_hub(REPO)
    config = json.loads(hub.files(REPO)[CONFIG_FILE])
    for files in (
        {VECTORS_FILE: expert(3.0).digest().encode() * 9},
        {CONFIG_FILE: b"{"},
        {CONFIG_FILE: json.dumps({**config, "lengths": {"a.q": 10**9}}).encode()},
    ):
        hub.commit(REPO, "main", files)
        with pytest.raises(ExpertFormatError, match=f"^{REPO}"):
            Expert.from_pretrained(REPO)
