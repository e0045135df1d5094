"""Masks against OpenCV's own numbers, against SciPy, and against what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from modules.pixels import masks as m
from tests.pixels.samples import Pixels, masks, noise, rectangle

OPENCV_KERNELS = {
    1: [1, 14, 62, 102],
    2: [2, 7, 17, 31, 45, 52],
    4: [1, 2, 4, 5, 9, 11, 16, 19, 23, 25, 26],
    9: [0, 1, 1, 1, 1, 2, 1, 3, 3, 3, 4, 5, 5, 6, 7, 8, 9, 9, 10, 10, 11, 11, 11, 12],
}
"""What cv2.GaussianBlur 5.0.0 makes of one white pixel, up to the middle."""
OPENCV_BLUR_1_2 = [
    [88, 101, 126, 144, 144, 123, 93, 80],
    [95, 107, 129, 143, 140, 119, 93, 82],
    [113, 123, 136, 138, 128, 111, 95, 91],
    [135, 141, 142, 130, 112, 102, 100, 103],
    [152, 154, 145, 121, 100, 97, 106, 114],
    [159, 159, 146, 117, 96, 96, 109, 119],
]
"""The pattern below blurred by 1 along rows and 2 along columns: mirrored more than once, as it is smaller than the kernel."""
PATTERN = (np.arange(48).reshape(6, 8) * 37 % 256).astype(np.uint8)


@pytest.mark.parametrize("sigma", OPENCV_KERNELS)
def test_the_kernel_is_opencvs(sigma: int) -> None:
    weights = m.kernel(sigma).tolist()
    half = len(weights) // 2
    assert weights[: half + 1] == OPENCV_KERNELS[sigma]
    assert weights == weights[::-1]


@pytest.mark.parametrize("sigma", range(1, 65))
def test_every_kernel_has_a1111s_size_and_loses_nothing(sigma: int) -> None:
    weights = m.kernel(sigma)
    assert len(weights) == 2 * int(2.5 * sigma + 0.5) + 1
    assert weights.sum() == 256
    assert weights.min() >= 0


def test_a_blur_is_opencvs() -> None:
    assert m.blur(PATTERN, 1, 2).tolist() == OPENCV_BLUR_1_2
    assert m.blur(PATTERN, 0, 3)[:, :2].tolist() == [[86, 123], [89, 126], [96, 133], [104, 141], [111, 148], [114, 151]]
    assert m.blur(PATTERN, 40, 7)[0].tolist() == [120, 120, 120, 120, 120, 121, 121, 119]


@given(masks(), st.integers(0, 64), st.integers(0, 64))
def test_a_blur_is_a_convolution_mirrored_at_the_edges(mask: Pixels, x: int, y: int) -> None:
    expected = mask.astype(np.int64)
    for axis, sigma in ((1, x), (0, y)):
        # SciPy mirrors a single line to itself as well.
        if sigma:
            expected = (ndimage.correlate1d(expected, m.kernel(sigma), axis, mode="mirror") + 128) >> 8
    assert np.array_equal(m.blur(mask, x, y), expected)


def test_a_blur_spreads_within_its_kernel_and_no_further() -> None:
    mask = rectangle(101, 101, 50, 50, 51, 51)
    columns, rows = m.blur(mask, 4, 0)[50].nonzero()[0], m.blur(mask, 0, 2)[:, 50].nonzero()[0]
    assert (columns.min(), columns.max()) == (40, 60)
    assert (rows.min(), rows.max()) == (45, 55)
    assert not m.blur(mask, 4, 0)[:50].any(), "along rows only"


def test_what_a_picture_means_as_a_mask() -> None:
    transparent = np.dstack([noise(3, 1), np.array([[0, 128, 129]], np.uint8)])
    assert m.from_image(Image.fromarray(transparent)).tolist() == [[0, 0, 255]]
    assert m.from_image(Image.fromarray(transparent), rounded=False).tolist() == [[0, 128, 129]]

    grey = Image.fromarray(np.array([[0, 1, 127, 128, 255]], np.uint8))
    assert m.from_image(grey).tolist() == [[0, 1, 127, 128, 255]], "grey levels are kept"

    red = Image.new("RGBA", (1, 1), (255, 0, 0, 255))
    assert m.from_image(red).tolist() == [[76]], "opaque: its brightness, 0.299 of red"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_masks_come_in_any_mode(mode: str) -> None:
    white = Image.new("L", (5, 4), 255).convert("I").point(lambda v: v * 257).convert("I;16") if mode == "I;16" else None
    image = white or Image.new("L", (5, 4), 255).convert("RGB").convert(mode)
    assert m.from_image(image).tolist() == [[255] * 5] * 4


def test_a_palette_with_transparency_is_read_by_its_alpha() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    assert m.from_image(image).tolist() == [[0, 255]]


@given(masks())
def test_inverting_twice_changes_nothing(mask: Pixels) -> None:
    assert np.array_equal(m.invert(m.invert(mask)), mask)
    assert (m.invert(mask).astype(int) + mask == 255).all()


def test_latent_masks() -> None:
    mask = rectangle(64, 64, 16, 0, 64, 64)
    rounded = m.latent_mask(mask, 8, 8)
    assert rounded.dtype == np.float32
    assert rounded.tolist() == [[0, 0, 1, 1, 1, 1, 1, 1]] * 8

    soft = m.latent_mask(m.blur(mask, 8, 8), 8, 8, rounded=False)
    assert len(np.unique(soft)) > 3
    assert 0 <= soft.min() <= soft.max() <= 1
    assert np.array_equal(np.round(soft), m.latent_mask(m.blur(mask, 8, 8), 8, 8))


def test_the_last_blends_mask() -> None:
    mask = np.array([[0, 1, 100, 127, 128, 255]], np.uint8)
    assert m.overlay_mask(mask, whole=True).tolist() == [[0, 2, 200, 254, 255, 255]]
    assert m.overlay_mask(mask, whole=False).tolist() == mask.tolist()
