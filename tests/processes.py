"""Processes that train together, as launchers start them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from typing import Any


def start(command: Sequence[str], processes: int, **options: Any) -> list[subprocess.Popen[str]]:
    """Start a command so many times, as the ranks of one world; options: of `Popen`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    ranks = [{"RANK": str(k), "LOCAL_RANK": str(k), **shared} for k in range(processes)]
    return [
        subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(rank if processes > 1 else {})},
            text=True,
            **options,
        )
        for rank in ranks
    ]
