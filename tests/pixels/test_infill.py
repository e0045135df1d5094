"""Masked contents: what they must continue, what they must not see, and that the rest stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from modules.pixels.infill import infill, spread
from modules.pixels.masks import blur
from tests.pixels.samples import Pixels, gradient, masks, noise, rectangle, stripes

NEW = ["fill", "blurred", "tile", "patches"]
BLIND = ["blurred", "tile", "patches"]


@pytest.mark.parametrize("content", NEW)
@given(masks(), st.integers(0, 99))
@settings(max_examples=40)
def test_outside_the_mask_every_byte_stays(content: str, mask: Pixels, seed: int) -> None:
    picture = noise(mask.shape[1], mask.shape[0], seed)
    result = infill(picture, mask, content)
    assert result.shape == picture.shape
    assert np.array_equal(result[mask == 0], picture[mask == 0])


@pytest.mark.parametrize("content", BLIND)
@given(masks())
@settings(max_examples=40)
def test_what_is_fully_masked_is_not_looked_at(content: str, mask: Pixels) -> None:
    picture, other = noise(mask.shape[1], mask.shape[0], 1), noise(mask.shape[1], mask.shape[0], 2)
    other[mask < 255] = picture[mask < 255]
    assert np.array_equal(infill(picture, mask, content, 5), infill(other, mask, content, 5))


@pytest.mark.parametrize("content", BLIND)
@pytest.mark.parametrize("mask", [rectangle(64, 48, 20, 10, 45, 30), rectangle(64, 48, 0, 0, 64, 40)])
def test_one_colour_is_continued(content: str, mask: Pixels) -> None:
    picture = np.full((48, 64, 3), (10, 200, 90), np.uint8)
    hidden = np.where(mask[..., None] > 0, 255, picture).astype(np.uint8)
    assert np.array_equal(infill(hidden, mask, content), picture)


def test_a1111s_fill_is_the_blurs_of_what_is_left() -> None:
    """Against the same sums in floating point with SciPy's Gaussian; Pillow's is three box blurs, and 8 bits a layer."""
    picture, mask = gradient(80, 60), blur(rectangle(80, 60, 25, 15, 55, 45), 3, 3)
    alpha = 1 - mask / 255
    canvas, covered = np.zeros((60, 80, 3)), np.zeros((60, 80, 1))
    for radius, times in [(256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)]:
        layer = np.dstack([picture * alpha[..., None], alpha])
        layer = ndimage.gaussian_filter(layer, (radius, radius, 0), mode="nearest")
        for _ in range(times):
            canvas = layer[..., :3] + canvas * (1 - layer[..., 3:])
            covered = layer[..., 3:] + covered * (1 - layer[..., 3:])
    difference = np.abs(infill(picture, mask, "fill") - canvas / covered)[mask > 0]
    assert difference.mean() < 2
    assert difference.max() < 10


def test_latent_contents_begin_with_a_fill_and_original_is_itself() -> None:
    picture, mask = noise(32, 32), rectangle(32, 32, 8, 8, 20, 20)
    filled = infill(picture, mask, "fill")
    assert np.array_equal(infill(picture, mask, "latent noise"), filled)
    assert np.array_equal(infill(picture, mask, "latent nothing"), filled)
    assert np.array_equal(infill(picture, mask, "original"), picture)
    with pytest.raises(ValueError, match="marble"):
        infill(picture, mask, "marble")
    with pytest.raises(ValueError, match="32x32, 5x4"):
        infill(picture, np.ones((4, 5), np.uint8), "fill")


def test_the_blurred_fill_continues_a_gradient() -> None:
    """The membrane through a linear gradient's border is the gradient."""
    picture = gradient(120, 90)
    mask = rectangle(120, 90, 40, 30, 80, 60)
    assert np.abs(infill(picture, mask, "blurred").astype(int) - picture).max() <= 6


def test_the_blurred_fill_stays_between_its_neighbours_and_has_no_steps() -> None:
    picture = np.full((100, 100, 3), 50, np.uint8)
    picture[:, 50:] = 200
    inside = infill(picture, rectangle(100, 100, 10, 10, 90, 90), "blurred")[10:90, 10:90].astype(int)
    assert 50 <= inside.min() <= inside.max() <= 200
    assert np.abs(np.diff(inside, axis=1))[10:70].max() <= 8, "150 levels over 80 pixels, the edge is gone in the middle"


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_spreading_keeps_what_is_known_and_adds_no_extremes(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(height, width, 2)).astype(np.float32)
    known = rng.random((height, width)) < 0.2
    known[rng.integers(height), rng.integers(width)] = True
    values[~known] = np.nan
    result = spread(values, known)
    assert np.array_equal(result[known], values[known])
    assert result.min() >= values[known].min() - 1e-5
    assert result.max() <= values[known].max() + 1e-5


def test_tiles_are_pieces_of_the_rest() -> None:
    picture, mask = noise(128, 128), rectangle(128, 128, 32, 32, 64, 96)
    result = infill(picture, mask, "tile", seed=3)
    tiles = {result[y : y + 32, 32:64].tobytes() for y in (32, 64)}
    grid = [(y, x) for y in range(0, 128, 32) for x in range(0, 128, 32) if not mask[y, x]]
    assert tiles <= {picture[y : y + 32, x : x + 32].tobytes() for y, x in grid}
    assert np.array_equal(result, infill(picture, mask, "tile", seed=3))
    assert not np.array_equal(result, infill(picture, mask, "tile", seed=4))


def test_patches_continue_a_texture_that_blurring_destroys() -> None:
    picture, mask = stripes(96, 96), rectangle(96, 96, 30, 30, 66, 66)
    hole = mask > 0
    patched, blurred = (infill(picture, mask, content).astype(int) for content in ("patches", "blurred"))
    assert np.abs(patched - picture)[hole].mean() < 8
    assert np.abs(blurred - picture)[hole].mean() > 40
    assert np.array_equal(patched, infill(picture, mask, "patches"))


def test_patches_continue_a_texture_beyond_the_edge() -> None:
    picture, mask = stripes(128, 64), rectangle(128, 64, 96, 0, 128, 64)
    assert np.abs(infill(picture, mask, "patches").astype(int) - picture)[mask > 0].mean() < 12


@pytest.mark.parametrize("content", NEW)
def test_a_picture_masked_all_over_becomes_one_colour(content: str) -> None:
    result = infill(noise(40, 30), np.full((30, 40), 255, np.uint8), content)
    assert (result == result[0, 0]).all()


@pytest.mark.parametrize("content", NEW)
def test_a_soft_mask_blends(content: str) -> None:
    """Half-way up the slope both count; nothing jumps where the mask begins."""
    picture = np.full((64, 64, 3), 100, np.uint8)
    picture[24:40, 24:40] = 250
    soft = blur(rectangle(64, 64, 20, 20, 44, 44), 4, 4)
    result = infill(picture, soft, content).astype(int)
    faint = (soft > 0) & (soft < 6)
    assert np.abs(result - picture)[faint].max() <= 4
    assert np.abs(result - 100)[28:36, 28:36].max() < 60, "the bright square is gone"
