"""Finding the bundled tools, by name and with options."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from t2agent.errors import ConfigError
from t2agent.experts.registry import Registry
from t2agent.nano.domains.known_tools import SHIPPED
from t2agent.toolbox import check_names, load_tools, tool_names

ROOT = Path(__file__).resolve().parents[3]
READY = [
    "add_days", "arrange_list", "calculator", "change_case", "convert_units", "count_characters",
    "count_items", "count_words", "crop_image", "current_time", "days_between", "describe_numbers",
    "find_in_text", "measure_colour", "replace_text", "reverse_text", "sort_numbers", "weekday",
    "zoom_image",
]  # fmt: skip
NEEDY = ["ask_expert", "list_experts", "search_files", "use_expert"]


def names(tools: list[BaseTool]) -> list[str]:
    return [tool.name for tool in tools]


# --- bundled tools -----------------------------------------------------------------------------


def test_all_that_need_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(load_tools()) == READY


def test_what_an_option_makes_possible_is_there_too(tmp_path: Path) -> None:
    assert names(load_tools(folder=tmp_path)) == sorted([*READY, "search_files"])


def test_named_ones_in_their_order() -> None:
    assert names(load_tools(["weekday", "calculator", "weekday"])) == ["weekday", "calculator"]
    assert names(load_tools("calculator")) == ["calculator"]
    assert load_tools([]) == []


def test_all_are_listed() -> None:
    listed = tool_names()
    assert list(listed) == sorted([*READY, *NEEDY])
    assert Path(listed["calculator"]) == ROOT / "tools" / "calculator.py"


def test_each_is_what_a_small_model_can_call() -> None:
    for tool in load_tools(folder=ROOT / "docs"):
        described = convert_to_openai_tool(tool)["function"]
        assert described["name"].isidentifier()
        assert described["description"].endswith(".")
        assert "\n" not in described["description"]
        assert len(described["description"]) < 80
        for schema in described["parameters"]["properties"].values():
            assert schema["type"] in ("string", "number", "integer", "array")


@pytest.mark.parametrize("spec", SHIPPED, ids=lambda spec: spec.name)
def test_they_are_those_that_t2_nano_has_learnt(spec: Any, tmp_path: Path) -> None:
    class Chat:
        registry = Registry("org/base")

        def invoke(self) -> None: ...

    options = {"search_files": {"folder": tmp_path}, "ask_expert": {"chat": Chat()}}
    (tool,) = load_tools(spec.name, **options.get(spec.name, {}))
    assert tool.description == spec.description
    assert list(tool.args) == list(spec.parameters)
    if spec.result is not None:
        rng = random.Random(0)
        for _ in range(20):
            drawn = spec.draw(rng)
            assert tool.invoke(drawn) == str(spec.result(drawn))


def test_defaults_are_for_those_that_take_them(tmp_path: Path) -> None:
    defaults = {"folder": tmp_path, "chat": Registry("org/base")}
    assert names(load_tools(["weekday", "search_files"], defaults=defaults)) == [
        "weekday",
        "search_files",
    ]
    assert names(load_tools("weekday", defaults=defaults)) == ["weekday"]
    assert "search_files" in names(load_tools(defaults={"folder": tmp_path}))
    # An option goes before a default.
    with pytest.raises(ConfigError, match="got '/nowhere' as folder"):
        load_tools("search_files", defaults=defaults, folder="/nowhere")


def test_names_are_checked_without_making_a_tool() -> None:
    check_names(["search_files", "weekday"])
    with pytest.raises(ConfigError, match="Did you mean 'calculator'"):
        check_names(["weekday", "calculatr"])


# --- names and options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("calculater", r"no tool 'calculater'\. Did you mean 'calculator'\? Known are add_days, "),
        (["weekday", "zzz"], r"no tool 'zzz'\. Known are"),
        ([3], "no tool 3"),
        ([["calculator"]], "no tool"),
        (["../calculator"], "no tool"),
        ("", "no tool ''"),
    ],
)
def test_an_unknown_name(given: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_tools(given)


def test_an_option_that_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"'search_files' needs folder.*folder=\.\.\."):
        load_tools(["calculator", "search_files"])


@pytest.mark.parametrize("given", [None, ["search_files", "calculator"]])
def test_an_option_that_is_unknown(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"option 'foldr'\. Did you mean 'folder'\?"):
        load_tools(given, folder=tmp_path, foldr=tmp_path)


def test_an_option_that_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"option 'folder'.*Options are now\."):
        load_tools(["weekday"], folder=tmp_path)
    with pytest.raises(ConfigError, match="Options are none"):
        load_tools(["calculator"], folder=tmp_path)


def test_an_unusable_option_is_the_users_affair() -> None:
    with pytest.raises(ConfigError, match="give one that exists"):
        load_tools(folder="/no/such/folder")


# --- installed ---------------------------------------------------------------------------------


def test_as_a_wheel_installs_it(tmp_path: Path) -> None:
    site = tmp_path / "site"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "t2agent", site / "t2agent", ignore=ignore)
    shutil.copytree(ROOT / "tools", site / "t2agent" / "_bundle" / "tools", ignore=ignore)
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import t2agent.toolbox as toolbox
print(toolbox.__file__)
print(len(toolbox.tool_names()), "langchain_core" in sys.modules)
(tool,) = toolbox.load_tools("calculator")
print(tool.invoke("6 * 7"), "tools" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    file, listed, called = done.stdout.splitlines()
    assert Path(file) == site / "t2agent" / "toolbox" / "__init__.py"
    assert listed == f"{len(READY) + len(NEEDY)} False"
    assert called == "42 False False"
