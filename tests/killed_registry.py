"""Registers or pulls an expert over another and is killed meanwhile; prints what was left.

Run by test_killed_registry.py as a process of its own, since it forks. Each line of its output is
what the registry has after one kill: "old", "new", "nothing", or what is wrong. The last line is
"done": the action, not killed, came to its end.

    python killed_registry.py FOLDER register|pull exchange|renames replace|first
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

import torch

from t2agent import files
from t2agent.errors import T2Error
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.pins import LOCK_FILE
from t2agent.experts.registry import Registry
from tests.folder_hub import TOKEN, folder_hub
from tests.killed_saves import die_before_event

BASE = "org/base"
REPO = "someone/math"
_LAST = 45  # operations on files at the end, each tried: these put the expert in its place
_BEFORE = 25  # of those before


def main(folder: Path, action: str, swap: str, start: str) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda _descriptor: None  # guards against power cuts, which are not played here
    if swap == "renames":  # as on a system that cannot exchange two folders
        files._renameat2 = lambda: None  # type: ignore[assignment]
    warnings.filterwarnings("error", message="an expert was left out")
    home, template = folder / "home", folder / "template"
    os.environ["T2AGENT_HOME"] = str(template)
    with folder_hub(folder / "repos") as hub:
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        expert("old").push_to_hub(REPO)
        (template / "hf").mkdir(parents=True)
        if start == "replace":
            pull(template)
        expert("new").push_to_hub(REPO)
        warm_up(folder / "elsewhere", action)
        os.environ["T2AGENT_HOME"] = str(home)
        shutil.copytree(template, home, symlinks=True)
        total = run(home, action, 10**9)
        print_left(home, "done")
        early = {k * (total - _LAST) // _BEFORE for k in range(_BEFORE)}
        for step in sorted(early | set(range(max(0, total - _LAST), total))):
            shutil.rmtree(home)
            shutil.copytree(template, home, symlinks=True)
            run(home, action, step)
            print_left(home, "")
            if step % 10 == 0 and (home / "experts" / "org--base" / LOCK_FILE).exists():
                print_restored(home)


def expert(name: str) -> Expert:
    value = {"old": 0.0, "new": 1.0}[name]
    card = ExpertCard("math", name, base=BASE, base_fingerprint="f00")
    return Expert(card, {"m": torch.full((2000,), value)})


def pull(home: Path) -> None:
    from huggingface_hub import constants

    constants.HF_HUB_CACHE = str(home / "hf")
    Registry(BASE).pull(REPO, update=True)


def act(home: Path, action: str) -> None:
    if action == "pull":
        pull(home)
    else:
        Registry(BASE).register(expert("new"), replace=True, persist=True)


def warm_up(home: Path, action: str) -> None:
    """Import what the action needs: reading that is no step of it."""
    before = os.environ["T2AGENT_HOME"]
    os.environ["T2AGENT_HOME"] = str(home)
    act(home, action)
    os.environ["T2AGENT_HOME"] = before


def run(home: Path, action: str, step: int) -> int:
    """Do it in a child that dies before its ``step``-th operation; how many it did otherwise."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            seen = die_before_event(step)
            act(home, action)
            os.write(writer, str(seen()).encode())
        except BaseException as error:
            print(f"the {action} failed by itself: {error!r}", flush=True)
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with open(reader) as pipe:
        done = pipe.read()
    if not done and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        print("neither done nor killed")
    return int(done or 0)


def print_left(home: Path, suffix: str) -> None:
    try:
        registry = Registry(BASE)
        names = registry.names()
        left = "nothing"
        if names:
            found = registry.get("math")
            left = found.card.description
            if found.z["m"].unique().tolist() != expert(left).z["m"].unique().tolist():
                left = f"half: {left} holds {found.z['m'].unique().tolist()}"
        if registry.problems:
            left = f"problems: {registry.problems}"
        registry.pins()
    except (T2Error, Warning) as error:
        left = f"{type(error).__name__}: {error}"
    print(f"{left} {suffix}".strip(), flush=True)


def print_restored(home: Path) -> None:
    """What is pinned can be had, whatever was interrupted."""
    registry = Registry(BASE)
    for name, pin in registry.pins().items():
        found = registry.restore()[name]
        if not isinstance(found, Expert) or registry.pin(name) != pin:
            print(f"not restored: {found}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
