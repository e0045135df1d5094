"""Blends and seams: bytes outside the mask, exact rounding inside, and seams that close."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.pixels.compose import feathered, match_seam, overlay, paste_back, seam_error
from modules.pixels.masks import blur
from modules.pixels.regions import Box
from tests.pixels.samples import Pixels, gradient, masks, noise, rectangle


@given(masks(), st.integers(0, 99))
def test_an_overlay_is_exactly_rounded(mask: Pixels, seed: int) -> None:
    original, painted = (noise(mask.shape[1], mask.shape[0], seed + i) for i in (0, 1))
    result = overlay(original, painted, mask)
    assert np.array_equal(result[mask == 0], original[mask == 0])
    assert np.array_equal(result[mask == 255], painted[mask == 255])
    y, x = np.unravel_index(int(mask.argmax()), mask.shape)
    m = Fraction(int(mask[y, x]), 255)
    for channel in range(3):
        exact = int(original[y, x, channel]) * (1 - m) + int(painted[y, x, channel]) * m
        assert abs(int(result[y, x, channel]) - exact) <= Fraction(1, 2)


def test_an_overlay_of_itself_changes_nothing_at_any_grey() -> None:
    picture, mask = noise(64, 64), np.arange(4096).reshape(64, 64).astype(np.uint8)
    assert np.array_equal(overlay(picture, picture, mask), picture)


def test_tall_pictures_are_blended_whole() -> None:
    original, painted = noise(3, 1000, 1), noise(3, 1000, 2)
    assert np.array_equal(overlay(original, painted, np.full((1000, 3), 255, np.uint8)), painted)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="4x4, 4x4, 5x4"):
        overlay(noise(4, 4), noise(4, 4), np.zeros((4, 5), np.uint8))


@given(masks(), st.integers(0, 99))
def test_pasting_back_changes_nothing_outside_box_and_mask(mask: Pixels, seed: int) -> None:
    height, width = mask.shape
    rng = np.random.default_rng(seed)
    left, top = int(rng.integers(width)), int(rng.integers(height))
    box = Box(left, top, int(rng.integers(left + 1, width + 1)), int(rng.integers(top + 1, height + 1)))
    original = noise(width, height, seed)
    result = paste_back(original, noise(16, 24, 7), box, mask)
    outside = np.ones(mask.shape, bool)
    outside[box.slices] = False
    assert np.array_equal(result[outside | (mask == 0)], original[outside | (mask == 0)])


def test_a_crop_of_the_right_size_is_put_back_as_it_is() -> None:
    original, crop, box = noise(60, 50, 1), noise(20, 30, 2), Box(10, 15, 30, 45)
    result = paste_back(original, crop, box, np.full((50, 60), 255, np.uint8))
    assert np.array_equal(result[15:45, 10:30], crop)


def test_a_larger_crop_is_scaled_into_its_box() -> None:
    original, box = gradient(128, 96), Box(32, 16, 96, 80)
    crop = gradient(256, 192)[32:160, 64:192]
    result = paste_back(original, crop, box, np.full((96, 128), 255, np.uint8))
    assert np.abs(result.astype(int) - original).max() <= 3


def test_a_feather_falls_by_kings_moves() -> None:
    mask = rectangle(41, 31, 20, 15, 21, 16)
    soft = feathered(mask, 4)
    y, x = np.mgrid[0:31, 0:41]
    moves = np.maximum(abs(y - 15), abs(x - 20))
    assert np.array_equal(soft, np.rint(np.clip(255 * (1 - moves / 5), 0, 255)).astype(np.uint8))


@given(masks(), st.integers(0, 12))
def test_a_feather_contains_the_mask_and_reaches_so_far(mask: Pixels, feather: int) -> None:
    soft = feathered(mask, feather)
    assert (soft >= mask).all()
    reach = np.pad(mask, feather)
    windows = np.lib.stride_tricks.sliding_window_view(reach, (2 * feather + 1, 2 * feather + 1)).max(axis=(2, 3))
    assert not soft[windows == 0].any()


def test_a_step_of_colour_is_a_seam_and_none_is_none() -> None:
    picture, mask = gradient(100, 100), rectangle(100, 100, 30, 30, 70, 70)
    assert seam_error(picture, mask) == pytest.approx(1, abs=0.3)
    shifted = picture.astype(int) + 12 * (mask > 0)[..., None]
    assert seam_error(shifted.astype(np.uint8), mask) > 6


def test_a_rough_picture_hides_a_seam() -> None:
    """The same step of 12 levels: in noise of 85 levels from pixel to pixel nobody sees it."""
    picture, mask = noise(100, 100) // 2 + 20, rectangle(100, 100, 30, 30, 70, 70)
    shifted = (picture + 12 * (mask > 0)[..., None]).astype(np.uint8)
    assert 0.8 < seam_error(shifted, mask) < 1.3


def test_a_soft_seam_is_seen_over_its_width() -> None:
    picture, mask = np.full((120, 120, 3), 90, np.uint8), blur(rectangle(120, 120, 40, 40, 80, 80), 3, 3)
    step = overlay(picture, picture + np.uint8(40), mask)
    assert seam_error(step, mask, reach=16) > 2.5 * seam_error(step, mask, reach=1) > 0


@pytest.mark.parametrize("mask", [np.zeros((9, 9), np.uint8), np.full((9, 9), 255, np.uint8)])
def test_without_an_edge_there_is_no_seam(mask: Pixels) -> None:
    assert seam_error(noise(9, 9), mask) == 0


def test_matching_closes_a_seam_and_keeps_what_is_inside() -> None:
    rng = np.random.default_rng(0)
    original, mask = gradient(128, 128), rectangle(128, 128, 40, 40, 90, 90)
    content = original.astype(float)
    content[60:70, 60:70] = (250, 30, 30)
    cast = np.array([14, -9, 6]) + np.linspace(-8, 8, 128)[None, :, None]
    painted = np.clip(content + cast + rng.normal(size=content.shape), 0, 255).astype(np.uint8)

    before, after = (overlay(original, p, mask) for p in (painted, match_seam(original, painted, mask)))
    assert seam_error(before, mask) > 5
    assert seam_error(after, mask) < 2
    assert np.abs(after[60:70, 60:70].astype(float) - (250, 30, 30)).mean() < 6, "the new object has its colour"


def test_matching_moves_nothing_far() -> None:
    """A wholly different picture outside is no cast that could be taken away."""
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    assert (match_seam(black, white, rectangle(40, 40, 10, 10, 30, 30)) == 255 - 48).all()


@given(masks(), st.integers(0, 99))
def test_matching_a_picture_to_itself_changes_nothing(mask: Pixels, seed: int) -> None:
    picture = noise(mask.shape[1], mask.shape[0], seed)
    assert np.array_equal(match_seam(picture, picture, mask), picture)
