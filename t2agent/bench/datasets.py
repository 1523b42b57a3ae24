"""Data sets that lie beside the repository: they do not ship with t2agent."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError

_CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = _CHECKOUT.parent / "shared" / "data"
TOKENIZER = SHARED / "tokenizers" / "qwen2"
CLINC = SHARED / "clinc150.json.gz"
EXAMPLES = SHARED / "dispatch_dev.jsonl"
REQUESTS = _CHECKOUT / "tests" / "benchmarks" / "data" / "dispatch_validation.jsonl"


def read_json(path: Path | str) -> Any:
    """The content of a JSON file; a name that ends in .gz is that of a packed one.

    Raises:
        ConfigError: the file is missing, or it is no JSON.
    """
    try:
        return json.loads(_text(Path(path)))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is no JSON ({error}); give another file") from error


def read_jsonl(path: Path | str, *keys: str) -> list[dict[str, str]]:
    """The objects of a JSON-lines file, each with at least these keys.

    Raises:
        ConfigError: the file is missing, or a line is no such object.
    """
    rows = []
    # Not splitlines: a string of JSON may hold other separators of lines as they are.
    for number, ended in enumerate(io.StringIO(_text(Path(path))), 1):
        line = ended.removesuffix("\n")
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {number} is no JSON ({error})") from error
        if not isinstance(row, dict) or not row.keys() >= set(keys):
            raise ConfigError(
                f"{path}, line {number} is {line:.60}; needed is an object with {', '.join(keys)}"
            )
        rows.append(row)
    return rows


def _text(path: Path) -> str:
    try:
        packed = path.read_bytes()
        return (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); the data set does not ship with t2agent: put it "
            "there, or tell where it is (t2agent bench NAME --set SETTING=FILE)"
        ) from error
