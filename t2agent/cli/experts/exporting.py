"""``t2agent experts export``: an expert or a mixture for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2agent.cli.command import Report
from t2agent.cli.experts.naming import Mixing, mixture_of
from t2agent.cli.options import Model, Targets
from t2agent.cli.start import load, starting
from t2agent.models.installed import AUTO

if TYPE_CHECKING:
    from t2agent.models.exchange.records import AdapterExport, LayerError


def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The expert; with --mixture, what to call the mixture."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER|FILE.gguf",
            help="A new folder (of the format gguf a file), or that of an earlier export.",
        ),
    ],
    kind: Annotated[
        Literal["lora", "gguf", "merged"],
        typer.Option(
            "--format",
            "-f",
            help="A LoRA adapter for PEFT and vLLM, one for llama.cpp and Ollama, or a full "
            "checkpoint for transformers.",
        ),
    ] = "lora",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of the LoRA; exact where the expert moves at most that many directions.",
            show_default="the smallest that is exact, at most 64",
        ),
    ] = None,
    mixture: Mixing = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(
            help="Of the numbers that are written.",
            show_default="float32 for a LoRA, the base model's for a checkpoint",
        ),
    ] = None,
    model: Model = AUTO,
    targets: Targets = "all",
    as_json: bool = False,
) -> Report:
    """Write an expert, or a mixture, as a LoRA adapter (PEFT's or GGUF's) or a full checkpoint."""
    if kind == "merged" and rank is not None:
        raise typer.BadParameter("only a LoRA has a rank", param_hint="--rank")
    mixed = name if mixture is None else mixture_of(mixture)
    with starting(f"Loading {model}", show=not as_json):
        from t2agent.models.exchange import export_gguf, export_lora, export_merged
        from t2agent.models.exchange.gguf_export import check_file
        from t2agent.models.exchange.records import check_free

        if kind == "gguf":
            check_file(out)
        else:
            check_free(out)
        loaded = (kind == "merged" and dtype) or "auto"
        base = load(model, targets=targets, dtype=loaded, show=False)
    if kind == "merged":
        merged = export_merged(base, mixed, out, name=name, progress=not as_json)
        text = (
            f"Wrote {merged.folder}: a checkpoint of {merged.size / 1e6:.1f} MB in {merged.dtype}, "
            f"{len(merged.changed)} layers changed."
        )
        return Report({**merged.to_dict(), "folder": str(out)}, text)
    options: Any = {"rank": rank, "dtype": dtype or "float32", "name": name}
    if kind == "gguf":
        file = export_gguf(base, mixed, out, **options, progress=not as_json)
        server = (
            f"llama.cpp: llama-server -m {base.gguf or 'BASE.gguf'} --lora {out} "
            "--lora-init-without-apply --cache-ram 0 --jinja"
        )
        text = _adapter_text(file, rank, model, server, out)
        return Report({**file.to_dict(), "file": str(out)}, text)
    lora = export_lora(base, mixed, out, **options, progress=not as_json)
    text = _adapter_text(lora, rank, model, f"{lora.vllm}.", out)
    return Report({**lora.to_dict(), "folder": str(out)}, text)


def _adapter_text(
    report: AdapterExport, asked: int | None, model: str, serving: str, out: Path
) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    kinds: dict[str, list[LayerError]] = {}
    for each in report.layers:
        kinds.setdefault(each.name.rpartition(".")[2], []).append(each)
    table = Table(title=f"{report.name} as a LoRA for {model}", title_justify="left")
    table.add_column("kind of layer", overflow="fold")
    for column in ("layers", "directions moved", "kept", "largest error"):
        table.add_column(column, justify="right")
    for kind, layers in kinds.items():
        moved, kept = sum(one.moved for one in layers), sum(one.kept for one in layers)
        error = max(one.error for one in layers)
        table.add_row(Text(kind), f"{len(layers)}", f"{moved:,}", f"{kept:,}", f"{error:.2e}")
    table.add_section()
    table.add_row("error of all", "", "", "", f"{report.error:.2e}")
    said = f"Rank {report.rank}"
    if report.exact:
        said += ": exact, no direction is left out."
    else:
        why = "" if asked else ", the most that is taken unless --rank says otherwise"
        said += f"{why}: an approximation; --rank {report.needed} is exact."
    wrote = f"Wrote {out} ({report.size / 1e6:.1f} MB, {report.dtype})."
    return Group(table, Text(said), Text(serving), Text(wrote))
