"""Finding tools: in folders that the user names, in entry points, and among the bundled ones.

A tool's name is its file's or entry point's name, so that all can be listed without running
anybody's code. Where tools share a name, the first of these is used: folders, entry points of the
group `t2agent.tools`, bundled.

A file ``weather.py`` holds either the tool itself, as ``weather``, or a function ``make`` that
returns it. An entry point is the tool or such a function. The keyword arguments of ``make`` are
the tool's options, which `load_tools` passes on; those without a default are needed.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2agent.errors import ConfigError
from t2agent.paths import bundled

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

ENTRY_POINT_GROUP = "t2agent.tools"
_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class _Source:
    """A tool that was found; ``read`` runs the code that has it and gives it or its maker."""

    name: str
    where: str
    read: Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Maker:
    """A tool, or what makes it. ``options`` are those that it takes: name -> whether needed."""

    source: _Source
    given: Any
    options: Mapping[str, bool]


def load_tools(
    names: str | Iterable[str] | None = None,
    *,
    tool_folders: Iterable[Path | str] = (),
    defaults: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[BaseTool]:
    """The tools of some names, or all that can be made with the options.

        load_tools()                                # all that need no option
        load_tools(["calculator", "weekday"])
        load_tools(folder="notes")                  # those, and search_files
        load_tools(["ask_expert"], chat=ChatT2())

    Args:
        names: in the order wanted; None for all. A plugin that is not named is not imported, and
            with None a broken one is left out with a warning.
        tool_folders: folders with the user's own tools, a file each. Their code is run.
        defaults: options for the tools that take them, where ``options`` has no other; one that
            no tool takes is no mistake.
        options: what tools are made with; each goes to all tools that take it. Of the bundled:
            ``folder`` (path), which search_files searches;
            ``chat`` (ChatT2), whose experts list_experts shows, and ask_expert and use_expert ask
            and use;
            ``now`` (function that gives an aware datetime), the clock of current_time, weekday,
            add_days and days_between;
            ``allow_image_urls`` (bool or hosts, False) and ``allow_image_files`` (bool, False):
            whether crop_image, zoom_image and measure_colour may read an image from where a
            message says, as of `t2agent.images.ImagePolicy`.

    Raises:
        ConfigError: a name or an option is unknown, an option is missing or of no use, or a tool
            that was named is broken.
    """
    sources = _sources(tool_folders)
    every = names is None
    wanted = sorted(sources) if names is None else [names] if isinstance(names, str) else [*names]
    _check_names(wanted, sources)
    makers, tools = [], []
    for name in dict.fromkeys(wanted):
        with _left_out(every):
            makers.append(_maker(sources[name]))
    known = sorted({key for maker in makers for key in maker.options})
    for key in options:
        if key not in known:
            raise ConfigError(
                f"no tool that was asked for takes the option {key!r}.{nearest(key, known)} "
                f"Options are {', '.join(known) or 'none'}."
            )
    options = {key: value for key, value in (defaults or {}).items() if key in known} | options
    for maker in makers:
        name = maker.source.name
        missing = [key for key, needed in maker.options.items() if needed and key not in options]
        if missing and not every:
            raise ConfigError(
                f"the tool {name!r} needs {' and '.join(missing)}: give "
                f"load_tools([{name!r}], {missing[0]}=...)"
            )
        if not missing:
            # What is broken by itself, and not by an option, is left out.
            with _left_out(every and not maker.options.keys() & options.keys()):
                tools.append(_made(maker, options))
    return tools


@contextmanager
def _left_out(may_be: bool) -> Iterator[None]:
    """Warn of a broken tool instead of raising its ConfigError, where it may be left out."""
    try:
        yield
    except ConfigError as error:
        if not may_be:
            raise
        warnings.warn(f"a tool was left out: {error}", stacklevel=4)


def tool_names(*, tool_folders: Iterable[Path | str] = ()) -> dict[str, str]:
    """The names of all tools -> where each is from, sorted. No tool's code is run.

    Raises:
        ConfigError: a folder does not exist.
    """
    return {name: source.where for name, source in sorted(_sources(tool_folders).items())}


def check_names(names: Iterable[str], *, tool_folders: Iterable[Path | str] = ()) -> None:
    """Whether there are tools of these names. No tool's code is run.

    Raises:
        ConfigError: there is none of a name, or a folder does not exist.
    """
    _check_names(names, _sources(tool_folders))


def _check_names(names: Iterable[str], sources: Mapping[str, _Source]) -> None:
    for name in names:
        if not isinstance(name, str) or name not in sources:
            raise ConfigError(
                f"there is no tool {name!r:.80}.{nearest(name, sources)} Known are "
                f"{', '.join(sorted(sources))}."
            )


def _sources(tool_folders: Iterable[Path | str]) -> dict[str, _Source]:
    """All tools by name, the first of each: those that others hide are left out."""
    folders = [tool_folders] if isinstance(tool_folders, str | Path) else list(tool_folders)
    found = [source for folder in folders for source in _in_folder(_folder(folder))]
    found += [
        _Source(point.name, f"entry point {point.name} = {point.value}", point.load)
        for point in metadata.entry_points(group=ENTRY_POINT_GROUP)
    ]
    found += _in_folder(bundled("tools"))
    return {source.name: source for source in reversed(found)}


def _folder(given: object) -> Path:
    folder = Path(given).expanduser() if isinstance(given, str | Path) else None
    if folder is None or not folder.is_dir():
        raise ConfigError(f"{given!r:.200} is no folder of tools: give one that exists")
    return folder.resolve()


def _in_folder(folder: Path) -> list[_Source]:
    return [
        _Source(file.stem, str(file), _reader(file))
        for file in sorted(folder.glob("*.py"))
        if file.stem.isidentifier() and not file.stem.startswith("_")
    ]


def _reader(file: Path) -> Callable[[], object]:
    return lambda: _in_file(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _in_file(file: Path, changed: int) -> object:  # noqa: ARG001 - a changed file is run again
    """The tool in a file, or what makes it."""
    # A name that no package has: tools are found by their place and are in nobody's way.
    name = f"t2agent_tool.{file.parent.as_posix().replace('.', '_')}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pydantic looks for the types of a tool's arguments
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    given: object = getattr(module, "make", None) or getattr(module, file.stem, None)
    if given is None:
        raise AttributeError(f"it has neither `make` nor `{file.stem}`")
    return given


def _maker(source: _Source) -> _Maker:
    """What the source has, once its code has run. Raises ConfigError for whatever went wrong."""
    from langchain_core.tools import BaseTool

    try:
        given = source.read()
        if isinstance(given, BaseTool | type):  # a class's fields are no options
            return _Maker(source, given, {})
        if not callable(given):
            raise TypeError(f"it is a {type(given).__name__}, neither a tool nor a function")
        parameters = inspect.signature(given).parameters.values()
    except (Exception, SystemExit) as error:
        raise _broken(source, error) from error
    return _Maker(
        source, given, {p.name: p.default is p.empty for p in parameters if p.kind in _KEYWORDS}
    )


def _made(maker: _Maker, options: Mapping[str, Any]) -> BaseTool:
    from langchain_core.tools import BaseTool

    tool, source = maker.given, maker.source
    if not isinstance(tool, BaseTool):
        try:
            tool = tool(**{key: options[key] for key in maker.options if key in options})
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            raise _broken(source, error) from error
    if not isinstance(tool, BaseTool):
        kind = type(tool).__name__
        raise _broken(source, TypeError(f"it gives a {kind}; make a tool with LangChain's @tool"))
    if tool.name != source.name:
        raise _broken(source, ValueError(f"its tool is named {tool.name!r}; both must be the same"))
    return tool


def _broken(source: _Source, error: BaseException) -> ConfigError:
    return ConfigError(
        f"the tool {source.name!r} ({source.where}) cannot be used: {type(error).__name__}: "
        f"{error}. Mend or remove it."
    )


_LONGEST = 60  # difflib's work grows with the square of the length


def nearest(name: object, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` where one of the known names is like this one, else nothing."""
    close = difflib.get_close_matches(str(name)[:_LONGEST], list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
