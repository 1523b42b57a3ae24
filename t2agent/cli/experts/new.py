"""``t2agent experts new``: a Python package around an expert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2agent.cli.command import Report
from t2agent.cli.options import Description, Model, Reward
from t2agent.cli.start import load
from t2agent.models.installed import AUTO


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The expert's name.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="The package's; by default ./NAME."),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--from-examples",
            metavar="FILE.jsonl",
            help='What it is trained for, {"prompt": ..., "answer": ...} a line and maybe '
            '"image": "file.png"; without it, sums to be replaced by your own.',
        ),
    ] = None,
    reward: Reward = "auto",
    description: Description = "",
    license_name: Annotated[
        str, typer.Option("--license", help="Of the package and the expert, such as Apache-2.0.")
    ] = "",
    model: Model = AUTO,
    as_json: bool = False,
) -> Report:
    """Write a Python package with an expert, its task, training script and test."""
    from t2agent.cli.experts.scaffold import check_target, write_package
    from t2agent.experts.card import check_name
    from t2agent.paths import is_path
    from t2agent.tasks.examples import read_examples

    # Whatever can be wrong is found before the base model is loaded.
    check_name(name)
    folder = Path(name) if out is None else out
    check_target(folder)
    own = None if examples is None else read_examples(examples)
    # The package is used from other folders than this one.
    base = str(Path(model).expanduser().absolute()) if is_path(model) else model
    package = write_package(
        folder,
        name,
        load(base, show=not as_json),
        examples=own,
        reward=reward,
        description=description,
        license=license_name,
    )
    data = {
        "name": name,
        "model": base,
        "folder": str(package.folder),
        "distribution": package.distribution,
        "module": package.module,
    }
    text = (
        f"Written: {package.folder} (package {package.distribution}, module {package.module})\n"
        f"  pip install -e {package.folder}\n"
        f"  python -m {package.module}.train\n"
        f"Until it is trained, {name} answers as the base model does."
    )
    return Report(data, text)
