"""``t2agent decompose``: fill the cache of bases before the first use of a base model."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from t2agent.cli.command import Report
from t2agent.cli.options import Targets, named_model
from t2agent.cli.start import load


def decompose(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            callback=named_model,
            help="smollm2, t2-nano, a name on the Hub, a GGUF file, or a folder.",
        ),
    ],
    targets: Targets = "all",
    as_json: bool = False,
) -> Report:
    """Decompose the weights of a base model once; later uses read the cache."""
    base = load(model, targets=targets, show=not as_json)
    begin = time.perf_counter()
    base.decompose(progress=not as_json)
    seconds = time.perf_counter() - begin
    stored = sum(
        tensor.numel() * tensor.element_size()
        for basis in base.bases.values()
        for tensor in (basis.q, basis.s)
    )
    data = {
        "model": model,
        "layers": len(base.bases),
        "parameters_of_an_expert": sum(base.shapes.values()),
        "bytes": stored,
        "seconds": round(seconds, 3),
        "fingerprint": base.fingerprint,
    }
    text = (
        f"{model}: {len(base.bases)} layers, {stored / 1e6:.1f} MB of bases, {seconds:.1f} s; "
        f"an expert has {data['parameters_of_an_expert']:,} parameters"
    )
    return Report(data, text)
