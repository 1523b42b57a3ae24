from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from t2agent import paths as bundle

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_has_them_beside_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path / "t2agent")
    (tmp_path / "experts").mkdir()
    inside = tmp_path / "t2agent" / "_bundle" / "experts"
    # Without pyproject.toml, a folder `experts` beside the package belongs to someone else.
    assert bundle.bundled("experts") == inside
    (tmp_path / "pyproject.toml").touch()
    assert bundle.bundled("experts") == tmp_path / "experts"
    inside.mkdir(parents=True)
    assert bundle.bundled("experts") == inside


def test_this_checkout() -> None:
    assert bundle.bundled("experts") == ROOT / "experts"
    assert bundle.bundled("tools") == ROOT / "tools"


def test_a_wheel_holds_tools_and_experts_inside_the_package(tmp_path: Path) -> None:
    """A wheel of a small tree, built with this project's own build settings."""
    pytest.importorskip("hatchling")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    tree = tmp_path / "tree"
    tools = [file.name for file in (ROOT / "tools").iterdir() if file.is_file()]
    assert "calculator.py" in tools
    data = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "t2agent").rglob("*")
        if file.is_file()
        and file.suffix not in (".py", ".pyc")
        and not file.name.startswith(".")
        and "_bundle" not in file.parts
    ]
    assert {
        "t2agent/cli/experts/scaffold/template/gitignore.template",
        "t2agent/nano/chat_template.jinja",
        "t2agent/nano/domains/known_tools.json",
    } <= set(data)
    for name, text in {
        **{f"tools/{name}": (ROOT / "tools" / name).read_text() for name in tools},
        "t2agent/__init__.py": "",
        **{f"t2agent/{n}.py": (ROOT / f"t2agent/{n}.py").read_text() for n in ("paths", "errors")},
        **{name: (ROOT / name).read_text() for name in data},
        "experts/some-base/math/expert_config.json": "{}",
        "experts/some-base/.math.0.new/expert_config.json": "{}",
        "experts/some-base/math/metrics.jsonl": "",
        "experts/recipes/math.py": "",
        "tests/test_it.py": "",
        "LICENSE": "",
        "README.md": "",
        "pyproject.toml": (ROOT / "pyproject.toml").read_text(),
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    build = "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    held = {str(f.relative_to(site)) for f in site.rglob("*") if f.is_file()}
    assert {name for name in held if ".dist-info" not in name} == {
        "t2agent/__init__.py",
        "t2agent/paths.py",
        "t2agent/errors.py",
        *data,
        *(f"t2agent/_bundle/tools/{name}" for name in tools),
        "t2agent/_bundle/experts/some-base/math/expert_config.json",
    }
    assert settings["dev-mode-dirs"] == ["."]
    find = "from t2agent.paths import bundled; print(bundled('tools')); print(bundled('experts'))"
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {find}"],
        check=True,
        capture_output=True,
        text=True,
    )
    bundled_in = site.resolve() / "t2agent" / "_bundle"
    assert found.stdout.splitlines() == [str(bundled_in / "tools"), str(bundled_in / "experts")]
