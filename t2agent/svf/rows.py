"""Which row of the batch each position of a layer's activations belongs to.

A layer sees (batch, tokens, d), or both flattened into one (OPT's MLP), or the pictures of all
rows one after another (vision towers), whole or as a flat run of patches. generate() repeats
every row for beams and return sequences, each row's copies side by side. In all of these a row's
positions lie together, so a layout is a number of positions per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from t2agent.errors import ConfigError

# Model types whose layers see (tokens, batch, d).
TOKENS_FIRST = frozenset({"fsmt", "led", "longformer", "xlnet"})


@dataclass(frozen=True, slots=True)
class Layout:
    """One forward pass of the whole model.

    batch, tokens: shape of the tokens that went in.
    pictures: each row's share of the pictures: placeholder tokens, or 1 where all rows are padded
        to the same number; None where they cannot be counted.
    attended: whether layers of the language part read the pictures by cross-attention.
    running: False once the pass has ended. generate() calls encoders by themselves then, and
        gradient checkpointing runs layers again.
    """

    batch: int
    tokens: int
    pictures: tuple[int, ...] | None = None
    attended: bool = False
    running: bool = True

    def check(self, rows: int, *, repeated: bool) -> None:
        """Raise ConfigError unless the batch is `rows` rows.

        repeated: whether each may stand there several times. Only generate() repeats rows (for
        beams and return sequences), so only inside it; elsewhere ten rows for two mixtures are a
        mistake, and which of them would get which mixture a guess.
        """
        if self.batch % rows if repeated else self.batch != rows:
            raise ConfigError(
                f"{rows} mixtures were given, but the batch has {self.batch} rows: give one "
                "mixture for all, or one for each row (generate() repeats them for beams itself)"
            )


def layout(
    config: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, pictures: bool = True
) -> Layout | None:
    """The layout of a call of the model; None where it was called without tokens.

    pictures: whether to count the pictures' tokens.
    """
    # generate() calls its tokens `inputs`.
    ids = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
    tokens = ids if isinstance(ids, Tensor) else kwargs.get("inputs_embeds")
    if not isinstance(tokens, Tensor) or tokens.dim() < 2:
        return None
    batch, length = tokens.shape[:2]
    counted = None
    still = kwargs.get("pixel_values")
    # Mllama: (rows, pictures, tiles, channels, height, width).
    attended = isinstance(still, Tensor) and still.dim() == 6
    if pictures and isinstance(ids, Tensor):
        counted = (1,) * batch if attended else _pictures(config, ids, kwargs)
    return Layout(batch, length, counted, attended)


def _pictures(config: Any, ids: Tensor, kwargs: Mapping[str, Any]) -> tuple[int, ...] | None:
    # generate() sees to the pictures first and hands over what came out.
    encoded = kwargs.get("mm_encoder_outputs") or {}
    still = kwargs.get("pixel_values", encoded.get("image"))
    moving = kwargs.get("pixel_values_videos", encoded.get("video"))
    if (still is None) == (moving is None):
        return None  # nothing to see, or both at once, which one count cannot tell apart
    names = ("image_token_id", "image_token_index")
    if still is None:
        names = ("video_token_id", "video_token_index")
    token = next((v for n in names if (v := getattr(config, n, None)) is not None), None)
    if token is None:
        return None
    counts = tuple(int(count) for count in (ids == token).sum(1).tolist())
    tiled = isinstance(still, Tensor) and still.dim() == 5
    if tiled and kwargs.get("image_sizes") is not None:
        # LLaVA-NeXT: tokens of padding are dropped, so tokens do not tell how many tiles there
        # were unless all rows have the same number.
        return counts if len(set(counts)) == 1 else None
    return counts


class RowIndex:
    """Maps positions to the mixtures of one batch; `groups[row]` numbers the mixture of a row."""

    def __init__(self, groups: tuple[int, ...]) -> None:
        self.groups = torch.tensor(groups).unsqueeze(1)
        self._rows = len(groups)

    def find(self, name: str, shape: torch.Size, where: Layout | None, vision: bool) -> Tensor:
        """The mixture of each position of a layer's activations, as an index on the CPU.

        name, shape: of the layer and its activations (..., d). vision: whether the layer comes
        before the language part. With the activations viewed as (rows, positions, d), the result
        is `groups`, (rows, 1), where all rows have equally many positions; otherwise it is
        (1, positions). Raises ConfigError where the rows cannot be told apart.
        """
        runs = self._vision(shape, where) if vision else self._language(shape, where)
        if runs is None:
            raise ConfigError(
                f"{name} was given activations of shape {tuple(shape)}, in which the {self._rows} "
                "rows of the batch cannot be told apart: run the rows one at a time, or with one "
                "mixture"
            )
        if len(set(runs)) == 1:
            return self.groups
        return self.groups.flatten().repeat_interleave(torch.tensor(runs)).unsqueeze(0)

    def _language(self, shape: torch.Size, where: Layout | None) -> Sequence[int] | None:
        """Rows lie along the first dimension, all equally long."""
        lead = shape[0]
        if len(shape) > 2:
            told_apart = lead % self._rows == 0 and (
                where is None
                or not where.running
                or lead == where.batch
                # the keys of cross-attention, one tile after another
                or (where.attended and lead % where.batch == 0 and shape[1] != where.batch)
            )
        else:
            told_apart = where is not None and lead == where.batch * where.tokens
        return (1,) if told_apart else None

    def _vision(self, shape: torch.Size, where: Layout | None) -> Sequence[int] | None:
        """Pictures follow one another in the order of the rows.

        An encoder makes a fixed number of tokens from each position, so a row has its share of
        positions as it has of the pictures' tokens.
        """
        if where is None or where.pictures is None or not sum(where.pictures):
            return None
        # Pixtral runs the patches of all pictures as one sequence.
        units = shape[1] if len(shape) == 3 and shape[0] == 1 else shape[0]
        positions = shape[:-1].numel() // units
        copies = where.batch // self._rows
        runs = []
        for row in range(self._rows):
            tokens = sum(where.pictures[row * copies : (row + 1) * copies])
            share, rest = divmod(tokens * units, sum(where.pictures))
            if rest:
                return None
            runs.append(share * positions)
        return runs
