"""Extending a picture: all sides at once, the old pixels where they were, the mask on what is new and a little more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.pixels.outpaint import extend
from tests.pixels.samples import noise, rectangle, stripes


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.tuples(*[st.integers(0, 30)] * 4),
    st.sampled_from(["original", "fill", "blurred", "tile", "patches", "latent noise"]),
    st.integers(0, 20),
)
@settings(max_examples=60)
def test_the_old_pixels_stay(width: int, height: int, sides: tuple[int, ...], content: str, overlap: int) -> None:
    picture = noise(width, height)
    left, right, up, down = sides
    larger = extend(picture, None, left, right, up, down, content, overlap)
    assert larger.picture.shape == (height + up + down, width + left + right, 3)
    assert larger.mask.shape == larger.picture.shape[:2]
    assert larger.box == (left, up, left + width, up + height)
    assert np.array_equal(larger.picture[larger.box.slices], picture)
    new = np.ones(larger.mask.shape, bool)
    new[larger.box.slices] = False
    assert (larger.mask[new] == 255).all()
    assert set(np.unique(larger.mask)) <= {0, 255}


def test_the_mask_overlaps_only_where_it_was_extended() -> None:
    larger = extend(noise(40, 30), None, left=10, down=5, overlap=4)
    expected = np.full((35, 50), 255, np.uint8)
    expected[: 30 - 4, 10 + 4 :] = 0
    assert np.array_equal(larger.mask, expected)


def test_the_users_mask_comes_along() -> None:
    mask = rectangle(40, 30, 20, 10, 25, 15)
    mask[12, 22] = 77
    larger = extend(noise(40, 30), mask, right=8, overlap=0)
    assert np.array_equal(larger.mask[:, :40], mask)
    assert (larger.mask[:, 40:] == 255).all()


def test_nothing_to_extend_is_nothing_new() -> None:
    picture = noise(9, 7)
    larger = extend(picture)
    assert np.array_equal(larger.picture, picture)
    assert not larger.mask.any()


def test_the_new_area_is_filled_as_asked() -> None:
    picture = stripes(96, 64)
    patched = extend(picture, None, right=32, content="patches").picture
    assert np.abs(patched[:, 96:].astype(int) - stripes(128, 64)[:, 96:]).mean() < 12
    flat = extend(np.full((20, 20, 3), 77, np.uint8), None, 9, 9, 9, 9)
    assert (flat.picture == 77).all()


def test_inwards_is_refused() -> None:
    with pytest.raises(ValueError, match="outwards"):
        extend(noise(5, 5), None, left=-1)
    with pytest.raises(ValueError, match="5x5, 4x5"):
        extend(noise(5, 5), np.zeros((5, 4), np.uint8), left=1)
