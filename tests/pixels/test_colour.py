"""Colours against published values, and against what OpenCV and scikit-image make of the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.pixels.colour import color_correct, lab_to_rgb, luminosity, match_histogram, rgb_to_lab
from tests.pixels.samples import gradient, noise

PICTURE = (np.arange(75).reshape(5, 5, 3) * 53 % 256).astype(np.uint8)
REFERENCE = (np.arange(48).reshape(4, 4, 3) * 29 % 160 + 40).astype(np.uint8)
MATCHED = [
    [[35, 69, 97], [131, 179, 140], [63, 104, 133], [84, 105, 135], [95, 163, 187]],
    [[48, 81, 110], [169, 198, 67], [93, 146, 174], [203, 89, 164], [122, 173, 139]],
]
"""First rows of PICTURE in the colours of REFERENCE, before luminosity: cv2 5.0.0 and skimage 0.26.0, called as by A1111."""


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.59, 0, 0)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert rgb_to_lab(np.array([[rgb]], np.uint8))[0, 0] == pytest.approx(lab, abs=0.05)


def test_there_and_back() -> None:
    picture = noise(64, 64)
    assert np.array_equal(lab_to_rgb(rgb_to_lab(picture)), picture)


def test_histograms_match_as_scikit_images() -> None:
    channel, reference = np.array([3, 3, 7, 9, 200, 200, 201], np.uint8), np.array([10, 20, 20, 40], np.uint8)
    assert match_histogram(channel, reference).tolist() == [10, 10, 13, 16, 28, 28, 40]


def test_a_histogram_matched_to_itself_stays() -> None:
    channel = noise(30, 30)[..., 0]
    assert np.array_equal(match_histogram(channel, channel), channel)


def test_colour_correction_is_a1111s() -> None:
    """With the luminosity taken from the correction itself, what is left is the part of other programs' numbers."""
    corrected = color_correct(PICTURE, REFERENCE)
    expected = luminosity(np.array(MATCHED, np.uint8), PICTURE[:2])
    assert np.abs(corrected[:2].astype(int) - expected).max() <= 4


def test_the_cast_goes_and_the_light_stays() -> None:
    clean = gradient(64, 64)
    cast = np.clip(clean + np.array([30, -15, 0]), 0, 255).astype(np.uint8)
    corrected = color_correct(cast, clean)
    weights = np.array([0.3, 0.59, 0.11])

    def tint(picture: np.ndarray) -> np.ndarray:
        return (picture[..., 0].astype(float) - picture[..., 1]).mean()

    assert abs(tint(cast) - tint(clean)) > 30
    assert abs(tint(corrected) - tint(clean)) < 6
    assert np.abs((corrected.astype(float) - cast) @ weights).max() <= 1.5, "the painted picture's own luminosity"


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 20))
def test_any_two_pictures(seed: int, width: int, height: int) -> None:
    corrected = color_correct(noise(width, height, seed), noise(height, 5, seed + 1))
    assert corrected.shape == (height, width, 3)
    assert corrected.dtype == np.uint8


@given(st.integers(0, 99))
def test_luminosity_is_that_of_the_light_and_grey_light_on_grey_is_itself(seed: int) -> None:
    colours, light = noise(16, 16, seed), noise(16, 16, seed + 1)
    weights = np.array([0.3, 0.59, 0.11])
    assert np.abs((luminosity(colours, light).astype(float) - light) @ weights).max() <= 1
    assert np.array_equal(luminosity(light, light), light)
