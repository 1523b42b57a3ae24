"""Ten thousand damaged folders: each is refused with a typed error or does no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAY_BE_HARMLESS = {
    "flipped_bit",  # in the README
    "flipped_bit_without_pin",  # in the README, in words on the card
    "flipped_and_vouched",  # in the blanks of the header
    "truncated",  # the README
    "spliced",  # the README, or nothing new
    "odd_config",  # free fields of the card
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("arguments", [("4000",), ("100", "large")])
def test_a_damaged_folder_is_refused_or_harmless(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    script = ROOT / "tests" / "damaged_folders.py"
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    result = json.loads(run.stdout)
    assert sum(result["found"].values()) == int(arguments[0])
    assert result["more_bytes"] < 200 * 2**20
    harmless = {key.split(":")[0] for key in result["found"] if key.endswith("harmless")}
    assert harmless <= MAY_BE_HARMLESS
