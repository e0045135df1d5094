"""Boxes: a table worked out by hand, and what must hold for any mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modules.pixels.regions import Box, bounding_box, crop_region, expand, grow_for_context, working_size
from tests.pixels.samples import Pixels, masks, rectangle


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, tuple[int, int]]:
    """A box, and the size of the picture in which it lies."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Box(left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))), (width, height)


@pytest.mark.parametrize(
    ("mask", "padding", "box"),
    [
        (rectangle(512, 512, 256, 0, 512, 256), 0, (256, 0, 512, 256)),
        (rectangle(512, 512, 256, 0, 512, 256), 32, (224, 0, 512, 288)),
        (rectangle(100, 50, 99, 49, 100, 50), 8, (91, 41, 100, 50)),
        (rectangle(100, 50, 0, 0, 100, 50), 32, (0, 0, 100, 50)),
        (rectangle(1, 1, 0, 0, 1, 1), 0, (0, 0, 1, 1)),
    ],
)
def test_crop_regions_worked_out_by_hand(mask: Pixels, padding: int, box: tuple[int, ...]) -> None:
    assert crop_region(mask, padding) == box


def test_an_empty_mask_has_no_region() -> None:
    assert crop_region(np.zeros((9, 7), np.uint8), 4) is None


def test_the_faintest_grey_counts() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[3, 4] = 1
    assert bounding_box(mask) == (4, 3, 5, 4)


@pytest.mark.parametrize(
    ("box", "output", "picture", "expanded"),
    [
        # A mask of 128x32 for a square output becomes 128x128 around its middle: 96 rows more, 48 above, 48 below.
        ((100, 100, 228, 132), (512, 512), (512, 512), (100, 52, 228, 180)),
        # 95 rows more: 47 above, 48 below.
        ((100, 100, 228, 133), (512, 512), (512, 512), (100, 53, 228, 181)),
        # The same at the upper edge: 10 - 48 = -38, moved down by 38.
        ((100, 10, 228, 42), (512, 512), (512, 512), (100, 0, 228, 128)),
        # At the lower edge: 500 + 48 = 548, moved up by 36.
        ((100, 468, 228, 500), (512, 512), (512, 512), (100, 384, 228, 512)),
        # Too tall for 2:1: 100 rows ask for 200 columns, 160 more.
        ((300, 50, 340, 150), (1024, 512), (640, 480), (220, 50, 420, 150)),
        # 2:3 for 90x60 asks for 135 rows, 75 more: 37 above, 38 below.
        ((10, 200, 100, 260), (512, 768), (512, 512), (10, 163, 100, 298)),
        # The picture is too small for the ratio: as far as it goes.
        ((0, 10, 200, 40), (512, 512), (200, 100), (0, 0, 200, 100)),
        # Already right.
        ((5, 5, 69, 69), (640, 640), (100, 100), (5, 5, 69, 69)),
    ],
)
def test_boxes_expanded_by_hand(
    box: tuple[int, int, int, int], output: tuple[int, int], picture: tuple[int, int], expanded: tuple[int, ...]
) -> None:
    assert expand(Box(*box), *output, within=picture) == expanded


@given(masks(), st.integers(0, 60))
def test_a_region_holds_the_mask_and_lies_inside(mask: Pixels, padding: int) -> None:
    box = crop_region(mask, padding)
    if box is None:
        assert not mask.any()
        return
    outside = mask.copy()
    outside[box.slices] = 0
    assert not outside.any()
    assert 0 <= box.left < box.right <= mask.shape[1]
    assert 0 <= box.top < box.bottom <= mask.shape[0]


@given(boxes(), st.integers(1, 40), st.integers(1, 40))
def test_expanding_keeps_the_box_and_stays_inside(case: tuple[Box, tuple[int, int]], columns: int, rows: int) -> None:
    box, picture = case
    grown = expand(box, 8 * columns, 8 * rows, picture)
    assert 0 <= grown.left <= box.left < box.right <= grown.right <= picture[0]
    assert 0 <= grown.top <= box.top < box.bottom <= grown.bottom <= picture[1]


@given(boxes(), st.integers(1, 40), st.integers(1, 40))
def test_expanding_reaches_the_aspect_where_there_is_room(case: tuple[Box, tuple[int, int]], columns: int, rows: int) -> None:
    box, picture = case
    grown = expand(box, columns, rows, picture)
    assume(grown.width < picture[0] and grown.height < picture[1])
    wrong = abs(grown.width - grown.height * columns / rows), abs(grown.height - grown.width * rows / columns)
    assert min(wrong) <= 1, "right to a pixel, in one direction or the other"


@given(boxes(), st.floats(0, 1))
def test_context_is_enough_and_inside(case: tuple[Box, tuple[int, int]], share: float) -> None:
    box, picture = case
    grown = grow_for_context(box, picture, share)
    assert 0 <= grown.left <= box.left < box.right <= grown.right <= picture[0]
    assert 0 <= grown.top <= box.top < box.bottom <= grown.bottom <= picture[1]
    assert grown.width >= picture[0] * share
    assert grown.height >= picture[1] * share


def test_context_of_the_whole_picture() -> None:
    assert grow_for_context(Box(3, 4, 9, 11), (640, 480), share=1.0) == (0, 0, 640, 480)


def test_a_small_mask_in_a_wide_picture_sees_a_nearly_square_part() -> None:
    """share x 1000 = 618 columns are asked for; rows grow along with them, until there are no more."""
    assert grow_for_context(Box(480, 230, 520, 270), (1000, 500), share=0.618) == (191, 0, 809, 500)


@given(boxes(), st.sampled_from([128 * 128, 512 * 512, 1024 * 1024]))
def test_working_sizes_are_multiples_of_eight_near_the_native_area(case: tuple[Box, tuple[int, int]], area: int) -> None:
    box, _ = case
    width, height = working_size(box, area)
    assert width % 8 == height % 8 == 0
    assert 64 <= width <= 2048
    assert 64 <= height <= 2048
    if 0.25 <= box.width / box.height <= 4:
        assert width * height == pytest.approx(area, rel=0.15)
        assert width / height == pytest.approx(box.width / box.height, rel=0.15)
