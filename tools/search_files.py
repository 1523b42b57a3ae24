"""search_files: lines with some words, in the text files of one folder that the user named.

It never leaves the folder: links are not followed, hidden files are not read, and the model
gives words, no paths. Whatever it does is bounded, and the answer says what was left out.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.errors import ConfigError
from t2agent.toolbox.content import Arguments, Text, content_tool, shown

_MAX_QUERY = 200
_MAX_FILES = 5000
_MAX_BYTES = 2**20
_MAX_HITS = 20
_SECONDS = 2.0
_BEFORE, _AFTER = 60, 140  # characters of a line around the first word
_SNIFFED = 8192
# A link that took a file's place is not followed, and a pipe does not make us wait.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class SearchFilesArguments(Arguments):
    """What search_files takes."""

    query: Annotated[Text, Field(description="a word or a phrase")]


@dataclass(slots=True)
class _Search:
    """One search: what is looked for, what was found, and what was left out."""

    words: list[str]
    phrase: str
    until: float
    files: int = 0
    large: int = 0
    stopped: str = ""
    whole: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def over(self) -> bool:
        """Whether to stop, and then why."""
        if len(self.whole) >= _MAX_HITS:
            self.stopped = f"only the first {_MAX_HITS} lines are shown"
        elif self.files >= _MAX_FILES:
            self.stopped = f"only the first {_MAX_FILES:,} files were searched"
        elif time.monotonic() > self.until:
            self.stopped = f"the search was stopped after {_SECONDS:.0f} seconds"
        return bool(self.stopped)


def make(folder: Path | str) -> BaseTool:
    """The tool.

    Args:
        folder: the one that is searched, with the folders in it.

    Raises:
        ConfigError: there is no such folder.
    """
    if not isinstance(folder, str | Path) or not os.path.isdir(os.path.expanduser(folder)):
        raise ConfigError(f"search_files got {folder!r:.200} as folder: give one that exists")
    root = Path(folder).expanduser().resolve()

    def search_files(query: str) -> str:
        phrase = " ".join(query.split()).casefold()
        if not phrase:
            raise ToolException("the query is empty: give a word or a phrase")
        if len(phrase) > _MAX_QUERY:
            raise ToolException(
                f"the query has {len(phrase):,} characters, and {_MAX_QUERY} are the most: "
                "give fewer words"
            )
        search = _Search(phrase.split(), phrase, time.monotonic() + _SECONDS)
        for path in _files(root, search):
            _search_file(path, path.relative_to(root).as_posix(), search)
        return _told(search, query)

    return content_tool(
        "search_files",
        "Searches the files of the folder for a text.",
        SearchFilesArguments,
        search_files,
    )


def _files(root: Path, search: _Search) -> Iterator[Path]:
    """The files that may be read, by name; hidden ones and links are none of them."""
    # os.walk does not follow links to folders.
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if search.over():
                return
            path = Path(place, name)
            if not name.startswith(".") and not path.is_symlink():
                yield path
        if search.over():
            return


def _search_file(path: Path, shown_as: str, search: _Search) -> None:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:  # a link, or not ours to read
        return
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_size > _MAX_BYTES:
            search.large += 1
            return
        try:
            data = file.read(_MAX_BYTES)
        except OSError:
            return
    if b"\0" in data[:_SNIFFED]:
        return
    search.files += 1
    text = data.decode("utf-8", "replace")
    # One look at the whole file is much cheaper than one at each line.
    folded = text.casefold()
    if not all(word in folded for word in search.words):
        return
    for number, line in enumerate(text.split("\n"), 1):
        folded = line.casefold()
        if not all(word in folded for word in search.words):
            continue
        if len(search.whole) >= _MAX_HITS:
            return
        hits = search.whole if search.phrase in " ".join(folded.split()) else search.parts
        if len(hits) < _MAX_HITS:
            hits.append(_printable(f"{shown_as}:{number}: {_around(line, search.words[0])}"))


def _around(line: str, word: str) -> str:
    """The line, and of a long one what stands around the word."""
    line = line.strip()
    at = max(0, line.casefold().find(word) - _BEFORE)
    piece = line[at : at + _BEFORE + _AFTER]
    return ("..." if at else "") + piece + ("..." if at + len(piece) < len(line) else "")


def _printable(text: str) -> str:
    """On one line, without control characters: a file's name may hold them, too."""
    return "".join(c if c.isprintable() else " " for c in text)


def _told(search: _Search, query: str) -> str:
    lines = (search.whole + search.parts)[:_MAX_HITS]
    if not lines:
        lines = [f"No line has {shown(query)} (files searched: {search.files:,})."]
    left_out = []
    if search.stopped:
        left_out.append(search.stopped)
    elif len(search.whole) + len(search.parts) > _MAX_HITS or len(search.parts) == _MAX_HITS:
        left_out.append(f"only {_MAX_HITS} lines are shown")
    if search.large:
        left_out.append(f"files of more than 1 MiB that were left out: {search.large}")
    return "\n".join(lines) + (f"\n({'; '.join(left_out)})" if left_out else "")
