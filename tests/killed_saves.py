"""Saves an expert over another and is killed meanwhile, many times; prints what was left.

Run by test_expert_folder.py as a process of its own, since it forks. Each line of its output is
what can be loaded after one kill: "old", "new", "nothing" (no expert there), "done" (the save was
over before the kill), or "damaged".

    python killed_saves.py FOLDER steps|random exchange|renames replace|first
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from t2agent import files
from t2agent.errors import ExpertFormatError
from t2agent.experts.expert import Expert, ExpertCard

_RANDOM_KILLS = 60
_MORE_STEPS_THAN_A_SAVE_HAS = 400


def main(folder: Path, kills: str, swap: str, start: str) -> None:
    torch.set_num_threads(1)
    # Flushing guards against power cuts, which are not played here, and takes most of the time.
    os.fsync = lambda _descriptor: None
    if swap == "renames":  # as on a system that cannot exchange two folders
        files._renameat2 = lambda: None  # type: ignore[assignment]
    old, new = (Expert(ExpertCard(n), {"m": torch.full((2000,), v)}) for n, v in OLD_AND_NEW)
    rng = random.Random(0)
    new.save(folder)  # imports what saving needs: their reading is no step of it
    for step in range(_RANDOM_KILLS if kills == "random" else _MORE_STEPS_THAN_A_SAVE_HAS):
        shutil.rmtree(folder.parent, ignore_errors=True)
        if start == "replace":
            old.save(folder)
            (folder / "curve.png").write_bytes(b"of the old one")
        child = os.fork()
        if child == 0:
            if kills == "steps":
                die_before_event(step)
            new.save(folder)
            if kills == "random":
                while True:  # both directions, until killed
                    old.save(folder)
                    new.save(folder)
            os._exit(0)
        if kills == "random":
            time.sleep(rng.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        left = _left_in(folder)
        if os.WIFSIGNALED(status):
            print(left)
        else:
            done = os.WEXITSTATUS(status) == 0 and left == "new"
            print("done" if done else "the save failed by itself")
            return


OLD_AND_NEW = (("old", 0.0), ("new", 1.0))


def die_before_event(step: int) -> Callable[[], int]:
    """Kill this process before its n-th operation on files; what is returned counts them."""
    seen = 0

    def count(event: str, _arguments: object) -> None:
        nonlocal seen
        if event == "open" or event.startswith(("os.", "shutil.")):
            seen += 1
            if seen == step + 1:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    return lambda: seen


def _left_in(folder: Path) -> str:
    try:
        expert = Expert.load(folder)
    except ExpertFormatError as error:
        return "nothing" if "no such folder" in str(error) else f"damaged: {error}"
    values = set(expert.z["m"].tolist())
    if values != {dict(OLD_AND_NEW)[expert.name]}:
        return f"damaged: {expert.name} holds {values}"
    if expert.name == "new" and (folder / "curve.png").exists():
        return "damaged: a file of the old expert is left"
    return expert.name


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
