"""Soft inpainting's arithmetic against a slow loop that follows its definition word by word."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.pixels.soft import adaptive_mask, exponent, ranked_mean

Values = npt.NDArray[np.float64]


def weight_at(dy: int, dx: int) -> float:
    """exp(-r^2 / 1.5^2), lowered so that it is 0 three away, and scaled so that the middle is 1 again."""
    rim = math.exp(-9 / 2.25)
    return max(0.0, (math.exp(-(dy * dy + dx * dx) / 2.25) - rim) / (1 - rim))


def slow_rank(values: Values, low: float, high: float) -> Values:
    """Stack the neighbours by value, each as high as its weight, and average between two heights of the stack."""
    result = np.empty_like(values)
    for y, x in np.ndindex(values.shape):
        stack = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                if 0 <= y + dy < values.shape[0] and 0 <= x + dx < values.shape[1]:
                    stack.append((values[y + dy, x + dx], weight_at(dy, dx)))
        total = sum(weight for _, weight in stack)
        start, end = total * low, total * high
        if end - start < 1:
            middle = (start + end) / 2
            start, end = middle - 0.5, middle + 0.5
            if end > total:
                start, end = total - 1, total
            if start < 0:
                start, end = 0, 1
        height = taken = mass = 0.0
        for value, weight in sorted(stack):
            share = max(0.0, min(end, height + weight) - max(start, height))
            taken += value * share
            mass += share
            height += weight
        result[y, x] = taken / mass
    return result


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999), st.sampled_from([(0.9, 1.0), (0.25, 0.75), (0.0, 0.1)]))
@settings(max_examples=40)
def test_the_rank_filter_is_its_definition(width: int, height: int, seed: int, window: tuple[float, float]) -> None:
    values = np.random.default_rng(seed).gamma(1.0, size=(height, width))
    assert ranked_mean(values, *window) == pytest.approx(slow_rank(values, *window), abs=1e-9)


def test_the_steps_of_the_mask() -> None:
    assert exponent(14.6, 1.0, 0.5) == pytest.approx(7.3)
    assert exponent(0.5, 2.0, 1.0) == pytest.approx(0.25)
    assert exponent(0.0, 0.0, 0.5) == 0.5


def test_what_did_not_change_is_kept_and_what_did_is_new() -> None:
    distance = np.zeros((16, 16))
    distance[:, 8:] = 20.0
    mask = adaptive_mask(distance, np.ones((16, 16)), 128, 128)
    assert mask.shape == (128, 128)
    assert mask[:, :24].max() <= 2
    assert (mask[:, 90:] >= 254).all()


def test_the_threshold_is_where_half_shines_through() -> None:
    """At d = threshold 1 / (1 + 1) = 1/2, and smootherstep(1/2) = 1/2; influence 0 leaves the threshold where it is."""
    mask = adaptive_mask(np.full((8, 8), 0.5), np.ones((8, 8)), 64, 64)
    assert (np.abs(mask.astype(int) - 127) <= 1).all()


def test_contrast_makes_it_sudden() -> None:
    distances = np.full((8, 8), 1.0)
    soft, hard = (adaptive_mask(distances, np.ones((8, 8)), 8, 8, difference_contrast=c)[4, 4] for c in (1.0, 8.0))
    assert 127 < soft < hard


def test_the_mask_moves_the_threshold_when_asked() -> None:
    repaint = np.zeros((8, 8))
    repaint[:, 4:] = 1.0
    mask = adaptive_mask(np.full((8, 8), 0.5), repaint, 64, 64, mask_influence=1.0)
    assert (mask[:, :8] < 3).all(), "unmasked: the threshold is far away"
    assert (mask[:, -8:] > 252).all(), "masked: it is 0"


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("contrast", [0.0, 2.0, 8.0])
@pytest.mark.parametrize("influence", [0.0, 1.0])
def test_the_ends_of_the_sliders_are_finite(threshold: float, contrast: float, influence: float) -> None:
    distance = np.zeros((20, 20))
    distance[9:12, 9:12] = 1e6
    mask = adaptive_mask(
        distance,
        np.linspace(0, 1, 400).reshape(20, 20),
        160,
        160,
        preservation=0.0,
        mask_influence=influence,
        difference_threshold=threshold,
        difference_contrast=contrast,
    )
    assert (mask[0, 0], mask[80, 80]) == ((127, 127) if contrast == 0 else (0, 255))
