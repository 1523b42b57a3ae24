"""A picture of what experts change: heat maps of layers and modules, and profiles by rank."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2agent.experts.compare import Comparison, ModuleChange

_PER_LAYER = 0.18  # inches
_PER_KIND = 0.28
_MOST_NUMBERED = 40  # layers that each have their number on the axis


def draw(found: Comparison, path: Path) -> None:
    """Write a PNG: for each expert the rms of z - 1 by layer and kind of module, for two also the
    cosine, and below the mean |z - 1| by relative rank of the direction."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from t2agent.files import write_bytes

    a, b = found.names
    largest = max([0.0, *(max(module.a, module.b) for module in found.modules)]) or 1.0
    maps: list[tuple[str, Callable[[ModuleChange], float | None], dict[str, Any]]] = [
        (f"{a}: rms of z - 1", lambda m: m.a, {"vmin": 0, "vmax": largest})
    ]
    if b is not None:
        maps += [
            (f"{b}: rms of z - 1", lambda m: m.b, {"vmin": 0, "vmax": largest}),
            ("cosine of the two", lambda m: m.cosine, {"vmin": -1, "vmax": 1, "cmap": "RdBu"}),
        ]
    one_stack = len({module.place.stack for module in found.modules}) == 1
    names = {module.module: _row(module, one_stack) for module in found.modules}
    rows = sorted(set(names.values()))
    columns = sorted({_column(module) for module in found.modules})
    height = max(1.4, 0.7 + _PER_KIND * len(rows))
    width = min(40.0, max(7.0, 3.0 + _PER_LAYER * len(columns)))
    figure = Figure(figsize=(width, height * len(maps) + 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [height] * len(maps) + [2.6]
    axes = figure.subplots(len(ratios), height_ratios=ratios, squeeze=False)[:, 0]
    for place, (title, value, options) in zip(axes, maps, strict=False):
        grid = [[float("nan")] * len(columns) for _ in rows]
        for module in found.modules:
            shown = value(module)
            if shown is not None:
                grid[rows.index(names[module.module])][columns.index(_column(module))] = shown
        image = place.imshow(grid, aspect="auto", interpolation="nearest", **options)
        figure.colorbar(image, ax=place, pad=0.01)
        place.set_title(title, fontsize=9, loc="left")
        place.set_yticks(range(len(rows)), rows, fontsize=7)
        if len(columns) <= _MOST_NUMBERED:
            labels = ["-" if column < 0 else str(column) for column in columns]
            place.set_xticks(range(len(columns)), labels, fontsize=7)
        place.set_xlabel("layer", fontsize=8)
    below = axes[-1]
    for name, profile in zip(found.names, found.profiles, strict=True):
        if name is not None:
            parts = len(profile)
            below.plot([(k + 0.5) / parts for k in range(parts)], profile, label=name)
    below.set(xlabel="relative rank of the direction (0: largest singular value)",
              ylabel="mean |z - 1|", xlim=(0, 1))  # fmt: skip
    below.set_ylim(bottom=0)
    below.legend(frameon=False)
    image_file = io.BytesIO()
    figure.savefig(image_file, format="png", dpi=120)
    write_bytes(path, image_file.getvalue())


def _row(module: ModuleChange, one_stack: bool) -> str:
    stack, _, kind = module.place
    return kind if one_stack else f"{stack} {kind}".strip()


def _column(module: ModuleChange) -> int:
    """The layer; -1 for what is outside the layers."""
    layer = module.place.layer
    return -1 if layer is None else layer
