"""Finding the row of each position."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from t2agent.errors import ConfigError
from t2agent.svf.rows import Layout, RowIndex, layout

INDEX = RowIndex((0, 1, 1))


def found(shape: tuple[int, ...], where: Layout | None, *, vision: bool = False) -> torch.Tensor:
    return INDEX.find("layer", torch.Size(shape), where, vision)


@pytest.mark.parametrize(
    ("shape", "where"),
    [
        ((3, 5, 8), Layout(3, 5)),
        ((6, 5, 8), Layout(6, 5)),  # two beams a row
        ((3, 1, 8), None),  # a part of the model, called by itself
        ((15, 8), Layout(3, 5)),  # flattened
        ((3, 4, 5, 8), Layout(3, 5)),
    ],
)
def test_rows_of_equal_length(shape: tuple[int, ...], where: Layout | None) -> None:
    assert found(shape, where) is INDEX.groups
    assert INDEX.groups.flatten().tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("shape", "pictures", "wanted"),
    [
        ((4, 2, 8), (8, 4, 4), [0] * 4 + [1] * 4),  # four pictures of two patches
        ((16, 8), (8, 4, 4), [0] * 8 + [1] * 8),  # a flat run of patches
        ((1, 16, 8), (8, 4, 4), [0] * 8 + [1] * 8),  # one sequence of all patches
        ((2, 2, 8), (4, 0, 4), [0] * 2 + [1] * 2),  # a row without a picture
    ],
)
def test_pictures_follow_the_rows(
    shape: tuple[int, ...], pictures: tuple[int, ...], wanted: list[int]
) -> None:
    index = found(shape, Layout(3, 9, pictures), vision=True)
    assert index.flatten().tolist() == wanted


def test_pictures_of_repeated_rows() -> None:
    index = found((8, 2, 8), Layout(6, 9, (8, 8, 4, 4, 4, 4)), vision=True)
    assert index.flatten().tolist() == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    ("shape", "where", "vision"),
    [
        ((7, 8), Layout(3, 5), False),  # some tokens only, as behind a router
        ((15, 8), None, False),
        ((4, 5, 8), Layout(3, 5), False),
        ((4, 2, 8), Layout(3, 9), True),
        ((5, 2, 8), Layout(3, 9, (8, 4, 4)), True),
        ((4, 2, 8), Layout(3, 9, (0, 0, 0)), True),
    ],
)
def test_unknown_rows_are_an_error(
    shape: tuple[int, ...], where: Layout | None, vision: bool
) -> None:
    with pytest.raises(ConfigError, match="cannot be told apart"):
        found(shape, where, vision=vision)


def test_a_batch_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ConfigError, match="3 mixtures were given, but the batch has 4 rows"):
        Layout(4, 5).check(3, repeated=True)
    with pytest.raises(ConfigError, match="3 mixtures were given, but the batch has 6 rows"):
        Layout(6, 5).check(3, repeated=False)
    Layout(6, 5).check(3, repeated=True)
    Layout(3, 5).check(3, repeated=False)


def test_layout_counts_pictures() -> None:
    config = SimpleNamespace(image_token_id=9, video_token_id=8)
    ids = torch.tensor([[9, 9, 1, 8], [9, 1, 1, 8]])
    pixels = torch.zeros(3, 3, 4, 4)
    assert layout(config, (ids,), {}) == Layout(2, 4)
    assert layout(config, (), {"input_ids": ids, "pixel_values": pixels}) == Layout(2, 4, (2, 1))
    videos = {"input_ids": ids, "pixel_values_videos": pixels}
    assert layout(config, (), videos) == Layout(2, 4, (1, 1))
    assert layout(config, (), {**videos, "pixel_values": pixels}) == Layout(2, 4)
    assert layout(config, (), {"inputs_embeds": torch.zeros(2, 5, 8)}) == Layout(2, 5)
    assert layout(config, (), {}) is None
    assert layout(SimpleNamespace(), (ids,), {"pixel_values": pixels}) == Layout(2, 4)


def test_tiles_of_different_pictures_cannot_be_counted() -> None:
    config = SimpleNamespace(image_token_index=9)
    tiles = {"pixel_values": torch.zeros(2, 5, 3, 4, 4), "image_sizes": torch.ones(2, 2)}
    uneven, even = torch.tensor([[9, 9], [9, 1]]), torch.tensor([[9, 1], [9, 1]])
    assert layout(config, (uneven,), tiles) == Layout(2, 2)
    assert layout(config, (even,), tiles) == Layout(2, 2, (1, 1))
