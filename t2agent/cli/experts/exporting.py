"""``t2agent experts export``: an expert or a mixture for other programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2agent.cli.command import Report, command
from t2agent.cli.options import Model, Targets
from t2agent.cli.start import load, starting
from t2agent.errors import ConfigError

if TYPE_CHECKING:
    from t2agent.exporting import LoraExport, MergedExport
    from t2agent.mixture import Mixture


def add_to(experts: typer.Typer) -> None:
    """Make the command known."""
    command(experts, "export")(export)


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
            "--out", "-o", metavar="FOLDER", help="A new folder, or that of an earlier export."
        ),
    ],
    kind: Annotated[
        Literal["lora", "merged"],
        typer.Option(
            "--format",
            "-f",
            help="A LoRA adapter for PEFT and vLLM, or a full checkpoint for transformers.",
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
    mixture: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPERT=WEIGHT|JSON|FILE.json",
            help='What to export instead of one expert; may be repeated. As JSON: {"weights": '
            '{"math": 0.7}, "layers": {"model.layers.3": {"math": 0}}}.',
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(
            help="Of the numbers that are written.",
            show_default="float32 for a LoRA, the base model's for a checkpoint",
        ),
    ] = None,
    model: Model = "t2-nano",
    targets: Targets = "all",
    as_json: bool = False,
) -> Report:
    """Write an expert, or a mixture, as a LoRA adapter or as a full checkpoint."""
    if kind == "merged" and rank is not None:
        raise typer.BadParameter("only a LoRA has a rank", param_hint="--rank")
    what = name if mixture is None else mixture_of(mixture)
    with starting(f"Loading {model}", show=not as_json):
        from t2agent.exporting import export_lora, export_merged
        from t2agent.exporting.folder import check_free

        check_free(out)
        loaded = (kind == "merged" and dtype) or "auto"
        base = load(model, targets=targets, dtype=loaded)
    if kind == "merged":
        merged = export_merged(base, what, out, name=name, progress=not as_json)
        return Report({**merged.to_dict(), "folder": str(out)}, _merged_text(merged))
    lora = export_lora(
        base, what, out, rank=rank, dtype=dtype or "float32", name=name, progress=not as_json
    )
    return Report({**lora.to_dict(), "folder": str(out)}, _lora_text(lora, rank, model))


def mixture_of(given: list[str]) -> Mixture:
    """The mixture that the values of ``--mixture`` mean.

    Each is ``EXPERT=WEIGHT``, several of them with commas or spaces between, a JSON object, or a
    file that holds one. Only one may be JSON, and then alone.

    Raises:
        ConfigError: a value is none of these.
    """
    import json

    from t2agent.mixture import Mixture

    if len(given) == 1 and (given[0].lstrip().startswith("{") or given[0].endswith(".json")):
        inline = given[0].lstrip().startswith("{")
        try:
            text = given[0] if inline else Path(given[0]).read_text(encoding="utf-8")
            return Mixture.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--mixture {given[0]:.80} is no mixture in JSON: {error}") from error
    weights: dict[str, float] = {}
    for part in re.split(r"[,\s]+", ",".join(given).strip(", \t\n")):
        expert, equals, weight = part.partition("=")
        try:
            weights[expert] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not expert:
            raise ConfigError(f"--mixture has {part!r:.80}; give EXPERT=WEIGHT, such as math=0.7")
    return Mixture(weights)


def _lora_text(report: LoraExport, asked: int | None, model: str) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{report.name} as a LoRA for {model}", title_justify="left")
    table.add_column("layer", overflow="fold")
    for column in ("directions moved", "kept", "error"):
        table.add_column(column, justify="right")
    for each in report.layers:
        table.add_row(Text(each.name), str(each.moved), str(each.kept), f"{each.error:.2e}")
    table.add_section()
    table.add_row("all", "", "", f"{report.error:.2e}")
    said = f"Rank {report.rank}"
    if report.exact:
        said += ": exact, no direction is left out."
    else:
        why = "" if asked else ", the most that is taken unless --rank says otherwise"
        said += f"{why}: an approximation; --rank {report.needed} is exact."
    wrote = f"Wrote {report.folder} ({report.size / 1e6:.1f} MB, {report.dtype})."
    return Group(table, Text(said), Text(f"{report.vllm}."), Text(wrote))


def _merged_text(report: MergedExport) -> str:
    return (
        f"Wrote {report.folder}: a checkpoint of {report.size / 1e6:.1f} MB in {report.dtype}, "
        f"{len(report.changed)} layers changed."
    )
