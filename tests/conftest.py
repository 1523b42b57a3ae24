"""Settings for all tests: offline, quiet, repeatable, away from the user's own folder."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports these libraries: they read the environment once.
_SESSION_HOME = tempfile.TemporaryDirectory(prefix="t2agent-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"  # the tests' Hub takes files by plain HTTP
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Where the user's models are; pytest's workers find T2AGENT_HOME changed already.
_HOME = os.environ.get("T2AGENT_HOME") or Path.home() / ".local" / "share" / "t2agent"
_INSTALLED = Path(os.environ.setdefault("T2AGENT_TESTS_MODELS", str(Path(_HOME, "models"))))
os.environ["T2AGENT_HOME"] = _SESSION_HOME.name
os.environ["T2AGENT_MODEL"] = "t2-nano"  # small and fast, and there on every machine
os.environ["MPLBACKEND"] = "agg"
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Importing leaves millions of objects and hardly any garbage, which the collector walks over again
# and again: a seventh of the time of tests that train.
gc.disable()

import pytest
import torch
from huggingface_hub import constants
from hypothesis import settings

from tests.folder_hub import TOKEN, FolderHub, folder_hub
from tests.imported import Imported, imported

torch.set_num_threads(min(2, int(os.environ["OMP_NUM_THREADS"] or 2)))
# The same examples in every run, and no deadline: a busy machine must not fail a test.
settings.register_profile("t2agent", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("t2agent")
_modules = 0  # how many were imported when they were last frozen


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported stays: the collector passes it over
    gc.enable()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # libraries complain of what outlives them


@pytest.fixture(scope="module", autouse=True)
def imports_are_frozen() -> None:
    """Whatever the tests before have imported late, likewise."""
    global _modules
    if len(sys.modules) > _modules + 100:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def t2agent_home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a user folder of its own, but all share the cache of bases."""
    # Not one of pytest's folders: it would look through thousands of them for every other.
    home = Path(tempfile.mkdtemp(prefix="home-", dir=_SESSION_HOME.name))
    shared_cache = Path(_SESSION_HOME.name) / "cache"
    shared_cache.mkdir(exist_ok=True)
    (home / "cache").symlink_to(shared_cache, target_is_directory=True)
    monkeypatch.setenv("T2AGENT_HOME", str(home))
    return home


@pytest.fixture
def smollm2(t2agent_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The real base model, which the user has installed and the default is; skips without it."""
    if not (_INSTALLED / "smollm2").is_dir():
        pytest.skip("smollm2 is not installed: t2agent models add smollm2")
    (t2agent_home / "models").symlink_to(_INSTALLED, target_is_directory=True)
    monkeypatch.setenv("T2AGENT_MODEL", "smollm2")
    return "smollm2"


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Random numbers start the same in every test, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FolderHub]:
    """An empty Hub of this test, the only one that can be reached; its user is logged in."""
    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with folder_hub(folder / "repos") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture(scope="session")
def libraries() -> Iterator[Imported]:
    """Where programs run that need not import the libraries first."""
    with imported() as process:
        yield process


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data sets that lie beside the repository; tests that need them are skipped without."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not beside the repository")
    return folder
