"""Damages an expert's folder in thousands of ways and loads it; prints what came of it.

Run by test_damaged_folders.py as a process of its own, whose memory is limited. The last line of
its output is JSON: how often each kind of damage was refused and how often it was harmless, and how
much more memory the process took at its peak than before. Whatever is neither ends it.

    python damaged_folders.py FOLDER CASES
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from t2agent.errors import ExpertFormatError
from t2agent.experts import folder as expert_folder
from t2agent.experts.expert import Expert, ExpertCard
from t2agent.experts.folder import CONFIG_FILE, README_FILE, VECTORS_FILE
from t2agent.experts.pins import PIN_FILE, Pin
from t2agent.experts.registry import Registry

BASE = "org/base"
NAMES = (CONFIG_FILE, VECTORS_FILE, PIN_FILE, README_FILE)
_REGISTRY_EVERY = 20
_MORE_BYTES = 400 * 2**20  # of address space: far above what is allowed, so that the peak tells
_SECONDS = 10  # for one case
_LONGEST_MESSAGE = 2000

Folder = dict[str, bytes]
Damage = Callable[[random.Random, Path, Folder], None]


def main(folder: Path, cases: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    (folder / "outside").mkdir(parents=True)
    target, good = folder / "experts" / "org--base" / "math", good_files()
    os.environ["T2AGENT_HOME"] = str(folder)
    for name, content in good.items():
        (folder / "outside" / name).write_bytes(content)
    write(target, good)
    wanted = Expert.load(target)
    assert Registry(BASE).names() == ["math"]
    before = peak()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MORE_BYTES, resource.RLIM_INFINITY))
    found: Counter[str] = Counter()
    faulthandler.register(signal.SIGALRM, chain=True)  # says where it is, and ends
    for case in range(cases):
        signal.alarm(_SECONDS)
        rng = random.Random(case)
        damage = DAMAGES[case % len(DAMAGES)]
        write(target, good)
        damage(rng, target, dict(good))
        try:
            loaded = Expert.load(target)
        except ExpertFormatError as error:
            if len(str(error)) > _LONGEST_MESSAGE:
                raise AssertionError(f"case {case}: {str(error)[:300]}") from None
            found[f"{damage.__name__}: refused"] += 1
        else:
            # Words on the card may have changed; what answers are computed from may not.
            assert loaded.z.keys() == wanted.z.keys(), case
            assert all(torch.equal(loaded.z[m], wanted.z[m]) for m in wanted.z), case
            found[f"{damage.__name__}: harmless"] += 1
        if case % _REGISTRY_EVERY == 0:
            registry = Registry(BASE)
            for name in registry:
                registry.get(name)
            assert len(registry) + len(registry.problems) == 1, case
    signal.alarm(0)
    print(json.dumps({"found": found, "more_bytes": peak() - before}))


def good_files() -> Folder:
    card = ExpertCard("math", "Sums", ("2 + 2",), base=BASE, training={"steps": 3})
    expert = Expert(card, {"a.q": torch.arange(64.0), "a.up": torch.ones(30)})
    files = expert_folder.contents(card, expert.z)
    pin = Pin("someone/math", "a" * 40, **expert_folder.hashes(files))
    return {**files, PIN_FILE: pin.to_bytes()}


def write(target: Path, files: Folder) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    target.mkdir(parents=True, exist_ok=True)
    # Emptied and not removed: that would take a third of the time.
    for path in target.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name, content in files.items():
        (target / name).write_bytes(content)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def vouched(target: Path, files: Folder, **changed: Any) -> None:
    """Write the files with a config (and no pin) that vouches for them."""
    config = json.loads(files[CONFIG_FILE])
    config |= {"sha256": hashlib.sha256(files[VECTORS_FILE]).hexdigest(), **changed}
    write(target, {**files, CONFIG_FILE: json.dumps(config).encode()})
    (target / PIN_FILE).unlink()


# -- what can happen to a folder -------------------------------------------------------------


def flipped_bit(rng: random.Random, target: Path, files: Folder) -> None:
    name = rng.choice(NAMES)
    data = bytearray(files[name])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    (target / name).write_bytes(data)


def flipped_bit_without_pin(rng: random.Random, target: Path, files: Folder) -> None:
    flipped_bit(rng, target, files)
    (target / PIN_FILE).unlink(missing_ok=True)


def flipped_and_vouched(rng: random.Random, target: Path, files: Folder) -> None:
    """In the header: one in the numbers would be another expert, and a sound one."""
    data = bytearray(files[VECTORS_FILE])
    (length,) = struct.unpack("<Q", data[:8])
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(8 + length)] ^= 1 << rng.randrange(8)
    vouched(target, {**files, VECTORS_FILE: bytes(data)})


def truncated(rng: random.Random, target: Path, files: Folder) -> None:
    name = rng.choice(NAMES)
    (target / name).write_bytes(files[name][: rng.randrange(len(files[name]))])


def spliced(rng: random.Random, target: Path, files: Folder) -> None:
    name, other = rng.choice(NAMES), rng.choice(NAMES)
    data, at = files[name], rng.randrange(len(files[name]))
    more = files[other][rng.randrange(len(files[other])) :]
    (target / name).write_bytes(data[:at] + more + data[at + rng.randrange(20) :])


def grown(rng: random.Random, target: Path, files: Folder) -> None:
    vouched(
        target, {**files, VECTORS_FILE: files[VECTORS_FILE] + rng.randbytes(rng.randint(1, 99))}
    )


def huge(rng: random.Random, target: Path, files: Folder) -> None:
    """Sparse, and claimed to be so large."""
    name = rng.choice(NAMES[:3])
    size = rng.choice([2**23 - 1, 2**29, 2**40])
    if rng.random() < 0.5:
        vouched(target, files, lengths={"a.q": rng.choice([2**27, 2**26, 2**31])})
    with (target / name).open("ab") as file:
        file.truncate(size)


def huge_header(rng: random.Random, target: Path, files: Folder) -> None:
    length = rng.choice([2**62, 2**64 - 1, 10**8, 2**31, len(files[VECTORS_FILE])])
    data = struct.pack("<Q", length) + files[VECTORS_FILE][8:]
    vouched(target, {**files, VECTORS_FILE: data})


def wrong_tensors(rng: random.Random, target: Path, files: Folder) -> None:
    entry: dict[str, Any] = {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}
    key, value = rng.choice(
        [
            ("dtype", rng.choice(["F16", "BF16", "F64", "I32", "F8_E4M3", "X", None, 3, ["F32"]])),
            ("shape", rng.choice([[], [0], [-64], [64, 1], [2**62], [1e308], "64", None, [64.0]])),
            ("data_offsets", rng.choice([[256, 0], [0, 2**63], [-1, 255], [0], None, [0, 1e308]])),
            ("more", {}),
        ]
    )
    entry[key] = value
    if key == "more":
        entry = rng.choice([{}, [], None, 3, "F32"])  # type: ignore[assignment]
    header = json.dumps({"a.q": entry}).encode()
    body = struct.pack("<64f", *range(64))
    data = struct.pack("<Q", len(header)) + header + body
    vouched(target, {**files, VECTORS_FILE: data}, lengths={"a.q": 64})


def not_finite(rng: random.Random, target: Path, files: Folder) -> None:
    value = rng.choice([float("nan"), float("inf"), float("-inf")])
    at = len(files[VECTORS_FILE]) - 4 * rng.randint(1, 94)
    data = files[VECTORS_FILE]
    data = data[:at] + struct.pack("<f", value) + data[at + 4 :]
    vouched(target, {**files, VECTORS_FILE: data})


def twice(rng: random.Random, target: Path, files: Folder) -> None:
    """A key that stands there twice, in the header or in the config."""
    (length,) = struct.unpack("<Q", files[VECTORS_FILE][:8])
    header, body = files[VECTORS_FILE][8 : 8 + length], files[VECTORS_FILE][8 + length :]
    if rng.random() < 0.5:
        header = header.replace(b'"a.up"', b'"a.q"')
        vouched(target, {**files, VECTORS_FILE: struct.pack("<Q", len(header)) + header + body})
    else:
        config = files[CONFIG_FILE].replace(b'"a.up"', b'"a.q"')
        (target / CONFIG_FILE).write_bytes(config)
        (target / PIN_FILE).unlink()


def odd_config(rng: random.Random, target: Path, files: Folder) -> None:
    odd: list[Any] = [None, True, -1, 1e308, 10**400, "x", "\ud800", [], {}, [[]] * 999, "y" * 9999]
    key = rng.choice(["format_version", "sha256", "lengths", "card", "name", "examples", "module"])
    value, config = rng.choice(odd), json.loads(files[CONFIG_FILE])
    if key == "module":
        config["lengths"] = {rng.choice(["a.q", "ключ", "a\0b", "\ud800", ""]): value}
    elif key in config:
        config[key] = value
    else:
        config["card"][key] = value
    if key != "card" and rng.random() < 0.2:
        config["card"]["training"] = {"x": value}
    (target / CONFIG_FILE).write_text(json.dumps(config))
    (target / PIN_FILE).unlink()


def deep_or_wide(rng: random.Random, target: Path, files: Folder) -> None:
    # Close to what may be read, of what takes most memory for its length.
    unit = rng.choice(["[", '{"a":', "[],", "{},", '{"a":1},', "0.1,", '"ab",', "1" * 4000 + ","])
    text = unit * (rng.choice([10**4, 8 * 10**6]) // len(unit))
    start = rng.choice(["", "[", '{"format_version": 1, "lengths": '])
    name = rng.choice([CONFIG_FILE, PIN_FILE])
    (target / name).write_text(start + text)
    if name == CONFIG_FILE:
        (target / PIN_FILE).unlink()


def many_names(rng: random.Random, target: Path, files: Folder) -> None:
    count = rng.choice([1000, 90_000, 290_000])
    lengths = {f"{k:x}": 1 for k in range(count)}
    vouched(target, files, lengths=lengths)


def link_outside(rng: random.Random, target: Path, files: Folder) -> None:
    name = rng.choice(NAMES[:3])
    (target / name).unlink()
    outside = target.parents[2] / "outside" / name
    there = [outside, "../../../outside/" + name, "/dev/zero", "/dev/null", "/etc/passwd", name]
    (target / name).symlink_to(rng.choice([*there, "nowhere", "..", "/proc/self/environ"]))


def no_file(rng: random.Random, target: Path, files: Folder) -> None:
    name = rng.choice(NAMES[:3])
    (target / name).unlink()
    kind = rng.choice(["missing", "folder", "pipe", "socket"])
    if kind == "missing" and name == PIN_FILE:
        kind = "folder"
    if kind == "pipe":
        os.mkfifo(target / name)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            here = os.getcwd()
            os.chdir(target)  # the path of a socket must be short
            one.bind(name)
            os.chdir(here)
    elif kind != "missing":
        (target / name).mkdir()


def no_folder(rng: random.Random, target: Path, files: Folder) -> None:
    shutil.rmtree(target)
    target.mkdir()
    if rng.random() < 0.5:
        (target / rng.choice(NAMES)).write_bytes(rng.randbytes(rng.randrange(99)))


DAMAGES: tuple[Damage, ...] = (
    flipped_bit, flipped_bit_without_pin, flipped_and_vouched, truncated, spliced, grown, huge,
    huge_header, wrong_tensors, not_finite, twice, odd_config, link_outside, no_file, no_folder,
    flipped_bit, flipped_bit_without_pin, flipped_and_vouched, truncated, spliced,
)  # fmt: skip
LARGE: tuple[Damage, ...] = (deep_or_wide, many_names)

if __name__ == "__main__":
    if sys.argv[3:] == ["large"]:
        DAMAGES = LARGE
    main(Path(sys.argv[1]), int(sys.argv[2]))
