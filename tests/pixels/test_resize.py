"""The three ways to another size, on pictures whose result is plain to see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modules.pixels.resize import resize
from tests.pixels.samples import gradient, noise

MODES = ["Just resize", "Crop and resize", "Resize and fill"]


@pytest.mark.parametrize("mode", MODES)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_size_becomes_any_size(mode: str, width: int, height: int, old_width: int, old_height: int, grey: bool) -> None:
    pixels = noise(old_width, old_height)
    pixels = pixels[..., 0] if grey else pixels
    result = resize(pixels, width, height, mode)
    assert result.shape == (height, width, 3)[: pixels.ndim]
    assert result.dtype == np.uint8


@pytest.mark.parametrize("mode", MODES)
@given(st.integers(1, 40), st.integers(1, 40))
def test_the_same_size_changes_nothing(mode: str, width: int, height: int) -> None:
    pixels = noise(width, height)
    assert np.array_equal(resize(pixels, width, height, mode), pixels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(7, 50), (64, 64), (33, 20)])
def test_one_colour_stays_that_colour(mode: str, size: tuple[int, int]) -> None:
    assert (resize(np.full((30, 41, 3), (3, 200, 77), np.uint8), *size, mode) == (3, 200, 77)).all()


def test_just_resize_stretches_by_lanczos() -> None:
    picture = noise(50, 30)
    expected = np.asarray(Image.fromarray(picture).resize((24, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(resize(picture, 24, 64), expected)


def test_crop_and_resize_cuts_the_sides_evenly() -> None:
    """A picture of 40x20 for 10x10: scaled by a half to 20x10, columns 5 to 14 remain."""
    picture = gradient(40, 20)
    half = np.asarray(Image.fromarray(picture).resize((20, 10), Image.Resampling.LANCZOS))
    assert np.array_equal(resize(picture, 10, 10, "Crop and resize"), half[:, 5:15])
    upright = resize(picture.swapaxes(0, 1).copy(), 10, 10, "Crop and resize").swapaxes(0, 1)
    assert np.abs(upright.astype(int) - half[:, 5:15]).max() <= 1, "and likewise above and below"


def test_resize_and_fill_keeps_the_whole_and_stretches_the_edges() -> None:
    """A picture of 20x10 for 20x31: itself in rows 11 to 20 (31 // 2 - 10 // 2 = 10 above), its edges over the bars."""
    picture = noise(20, 10)
    result = resize(picture, 20, 31, "Resize and fill")
    assert np.array_equal(result[10:20], picture)
    for bar, edge, next_to_it in ((result[:10], picture[0], picture[1]), (result[20:], picture[-1], picture[-2])):
        colour = np.clip(1.125 * edge - 0.125 * next_to_it, 0, 255)
        assert np.abs(bar - colour).max() <= 1, "Pillow's bicubic filter at an edge"
        assert (bar == bar[0]).all()


def test_resize_and_fill_on_the_sides() -> None:
    picture = noise(10, 20)
    upright = resize(picture.swapaxes(0, 1).copy(), 20, 31, "Resize and fill")
    assert np.array_equal(resize(picture, 31, 20, "Resize and fill"), upright.swapaxes(0, 1))


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="latent upscale"):
        resize(noise(4, 4), 8, 8, "Just resize (latent upscale)")
    with pytest.raises(ValueError, match="0x8"):
        resize(noise(4, 4), 0, 8)
