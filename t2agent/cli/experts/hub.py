"""``t2agent experts push`` and ``pull``: the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2agent.cli.command import Report
from t2agent.cli.options import Model, ModelOrCard, Replace
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.experts.hub import HubOptions
    from t2agent.experts.registry import Registry

_Subfolder = Annotated[
    str,
    typer.Option(metavar="FOLDER", help="Folder in the repository, where it holds several."),
]
_Token = Annotated[
    str | None,
    typer.Option(help="Token for the Hub; that of `hf auth login` or $HF_TOKEN if not given."),
]
_Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="Another Hub; $HF_ENDPOINT if not given.")
]


def push(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The expert's name.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="user/name or user/name@branch.")],
    model: Model = AUTO,
    private: Annotated[
        bool, typer.Option("--private", help="Make a private repository, or use one.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch; main if not given.")
    ] = None,
    subfolder: _Subfolder = "",
    message: Annotated[str | None, typer.Option(help="The commit's message.")] = None,
    token: _Token = None,
    endpoint: _Endpoint = None,
) -> Report:
    """Put an expert on the Hub, in one commit."""
    from t2agent.experts.registry import Registry

    expert = Registry(model).get(name)
    pushed = expert.push_to_hub(
        repo,
        revision=revision,
        subfolder=subfolder,
        private=private or None,
        token=token,
        commit_message=message,
        endpoint=endpoint,
    )
    data = {"name": name, "repo": pushed.repo, "commit": pushed.commit, "url": pushed.url}
    return Report(data, f"Pushed {name}: {pushed} ({pushed.url})")


def pull(
    repo: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPO[@REVISION]]",
            help="user/name, with a branch, tag or commit; without, all that are pinned.",
        ),
    ] = None,
    model: ModelOrCard = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, a tag or a commit; main if not given.")
    ] = None,
    subfolder: _Subfolder = "",
    name: Annotated[
        str | None, typer.Option(help="What to call it here; as on its card if not given.")
    ] = None,
    replace: Replace = False,
    update: Annotated[
        bool, typer.Option("--update", help="Take the newest version of a pinned one.")
    ] = False,
    token: _Token = None,
    endpoint: _Endpoint = None,
) -> Report:
    """Take an expert from the Hub and pin its version, or bring back all that are pinned."""
    from t2agent.experts.hub import HubOptions
    from t2agent.experts.pulling import base_of
    from t2agent.experts.registry import Registry

    options = HubOptions(token=token, endpoint=endpoint)
    if repo is None:
        for option, value in (("--revision", revision), ("--subfolder", subfolder),
                              ("--name", name), ("--update", update)):  # fmt: skip
            if value:
                raise typer.BadParameter("needs a repository", param_hint=option)
        return _restored(model, replace, options)
    base = model or base_of(repo, revision, subfolder, options)
    registry = Registry(base)
    expert = registry.pull(
        repo,
        revision=revision,
        subfolder=subfolder,
        name=name,
        replace=replace,
        update=update,
        options=options,
    )
    data = {**_row(registry, expert.name), "model": base}
    text = f"Pulled {expert.name} for {base}: {data['repo']}@{data['commit']}, in {data['folder']}"
    return Report(data, text)


def _restored(model: str | None, replace: bool, options: HubOptions) -> Report:
    from t2agent.errors import T2Error
    from t2agent.experts.pulling import bases
    from t2agent.experts.registry import Registry

    rows: list[dict[str, Any]] = []
    for base in [model] if model else bases():
        registry = Registry(base)
        for name, outcome in registry.restore(replace=replace, options=options).items():
            row = {"name": name, "problem": str(outcome)}
            if not isinstance(outcome, T2Error):
                row = _row(registry, name)
            rows.append({**row, "model": base})
    lines = [
        f"{row['name']} for {row['model']}: {row.get('problem') or row['folder']}" for row in rows
    ]
    none = f"No experts are pinned for {model}." if model else "No experts are pinned."
    ok = not any("problem" in row for row in rows)
    return Report({"experts": rows}, "\n".join(lines) or none, ok)


def _row(registry: Registry, name: str) -> dict[str, Any]:
    pin = registry.pins()[name]
    return {"name": name, **pin.to_dict(), "folder": str(Path(registry.source(name)))}
