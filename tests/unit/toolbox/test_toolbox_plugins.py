"""Tools of others: packages as a user would install them, with a dist-info, and folders."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool

from t2agent.errors import ConfigError
from t2agent.toolbox import load_tools, tool_names

Install = Callable[[str, dict[str, str]], Path]


def names(tools: list[BaseTool]) -> list[str]:
    return [tool.name for tool in tools]


READY = names(load_tools())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package with entry points on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(source: str, points: dict[str, str]) -> Path:
        (site / "their_tools.py").write_text(textwrap.dedent(source))
        info = site / "their_tools-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tools\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[t2agent.tools]", *lines, ""]))
        return site

    yield install
    sys.modules.pop("their_tools", None)


PLUGIN = """
    from langchain_core.tools import BaseTool, tool

    @tool
    def weather(city: str) -> str:
        "Tells the weather."
        return f"rain in {city}"

    @tool("calculator")
    def better(expression: str) -> str:
        "Works out more."
        return "42"

    def greet(*, greeting: str, mark: str = "!"):
        @tool
        def greet(name: str) -> str:
            "Greets."
            return f"{greeting} {name}{mark}"
        return greet

    class Shout(BaseTool):
        name: str = "shout"
        description: str = "Shouts."
        def _run(self, text: str) -> str:
            return text.upper()

    NUMBER = 3

    def broken():
        raise RuntimeError("their mistake")

    def leaving():
        raise SystemExit(3)

    def nothing():
        return None
"""
POINTS = {
    "weather": "their_tools:weather",
    "greet": "their_tools:greet",
    "shout": "their_tools:Shout",
}


# --- plugins -----------------------------------------------------------------------------------


def test_tools_makers_and_classes(install: Install) -> None:
    install(PLUGIN, POINTS)
    assert names(load_tools()) == sorted([*READY, "weather", "shout"])
    weather, greet, shout = load_tools(["weather", "greet", "shout"], greeting="Good day")
    assert weather.invoke("Rome") == "rain in Rome"
    assert greet.invoke("Ann") == "Good day Ann!"
    assert shout.invoke("a") == "A"
    assert "greet" in names(load_tools(greeting="Hi", mark="?"))
    with pytest.raises(ConfigError, match="'greet' needs greeting"):
        load_tools("greet")


def test_plugins_are_listed_and_left_alone(install: Install) -> None:
    install("raise RuntimeError('imported')", POINTS)
    assert tool_names()["weather"] == "entry point weather = their_tools:weather"
    assert names(load_tools(["calculator"])) == ["calculator"]
    with pytest.raises(ConfigError, match="Did you mean 'weather'"):
        load_tools("wether")
    assert "their_tools" not in sys.modules


def test_a_plugin_goes_before_a_bundled_tool(install: Install) -> None:
    install(PLUGIN, {"calculator": "their_tools:better"})
    (tool,) = load_tools("calculator")
    assert tool.invoke("1 + 1") == "42"
    assert names(load_tools()) == READY


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("broken", "their_tools:broken", "RuntimeError: their mistake"),
        ("broken", "their_tools:leaving", "SystemExit: 3"),
        ("broken", "their_tools:missing", "AttributeError"),
        ("broken", "no_such_module_here:x", "ModuleNotFoundError"),
        ("broken", "their_tools:NUMBER", "it is a int, neither a tool nor a function"),
        ("broken", "their_tools:nothing", "it gives a NoneType"),
        ("broken", "their_tools:weather", "its tool is named 'weather'"),
    ],
)
def test_a_broken_plugin_costs_only_itself(
    install: Install, name: str, value: str, cause: str
) -> None:
    install(PLUGIN, {name: value, "shout": "their_tools:Shout"})
    with pytest.warns(UserWarning, match="a tool was left out") as caught:
        assert names(load_tools()) == sorted([*READY, "shout"])
    (told,) = (str(one.message) for one in caught if "a tool was left out" in str(one.message))
    assert f"entry point {name} = {value}" in told
    assert cause in told
    with pytest.raises(ConfigError, match=r"Mend or remove it\.") as raised:
        load_tools(name)
    assert cause in str(raised.value)


# --- folders -----------------------------------------------------------------------------------

MINE = '''
from __future__ import annotations
from langchain_core.tools import tool
from pydantic import BaseModel

class Double(BaseModel):
    number: Whole

Whole = int

@tool(args_schema=Double)
def double(number: int) -> int:
    """Doubles."""
    return FACTOR * number

FACTOR = 2
'''


def test_a_folder_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text(MINE)
    (tmp_path / "_helper.py").write_text("raise RuntimeError")
    (tmp_path / "not-a-name.py").write_text("raise RuntimeError")
    (tmp_path / "notes.txt").write_text("x")
    assert tool_names(tool_folders=[tmp_path])["double"] == str(tmp_path / "double.py")
    (tool,) = load_tools("double", tool_folders=[tmp_path])
    assert tool.invoke({"number": 4}) == 8
    assert "double" in names(load_tools(tool_folders=str(tmp_path)))
    assert "double" not in names(load_tools())


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "double.py"
    file.write_text(MINE)
    (first,) = load_tools("double", tool_folders=[tmp_path])
    (again,) = load_tools("double", tool_folders=[tmp_path])
    assert again is first
    file.write_text(MINE.replace("FACTOR = 2", "FACTOR = 20"))
    (changed,) = load_tools("double", tool_folders=[tmp_path])
    assert changed.invoke({"number": 4}) == 80


def test_a_users_own_tool_goes_before_all_others(tmp_path: Path, install: Install) -> None:
    install(PLUGIN, {"calculator": "their_tools:better"})
    for n in (1, 2):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "calculator.py").write_text(
            "from langchain_core.tools import tool\n"
            f"@tool\ndef calculator(expression: str) -> str:\n    'Mine.'\n    return 'mine {n}'\n"
        )
    (tool,) = load_tools("calculator", tool_folders=[tmp_path / "1", tmp_path / "2"])
    assert tool.invoke("1") == "mine 1"
    assert "their_tools" not in sys.modules


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("x = 1", "neither `make` nor `bad`"),
        ("def make(:", "SyntaxError"),
        ("import no_such_module_here", "ModuleNotFoundError"),
        ("bad = 3", "it is a int"),
        ("def make(a, /): ...", "TypeError"),
    ],
)
def test_a_broken_file_costs_only_itself(tmp_path: Path, source: str, cause: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.warns(UserWarning, match="a tool was left out"):
        assert names(load_tools(tool_folders=[tmp_path])) == READY
    with pytest.raises(ConfigError) as raised:
        load_tools("bad", tool_folders=[tmp_path])
    assert cause in str(raised.value)
    assert str(tmp_path / "bad.py") in str(raised.value)


@pytest.mark.parametrize("folder", ["missing", 3, None, __file__])
def test_no_folder(folder: Any) -> None:
    with pytest.raises(ConfigError, match="no folder of tools"):
        tool_names(tool_folders=[folder])
