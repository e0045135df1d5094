"""Pictures and masks for the tests of `modules.pixels`, and hypothesis strategies for odd ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Pixels = npt.NDArray[np.uint8]


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def gradient(width: int, height: int) -> Pixels:
    """Smooth, and different in each channel."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 40 + 150 * x / max(1, width - 1), 200 - 120 * y / max(1, height - 1)
    return np.stack([red, green, (red + green) / 2], axis=-1).astype(np.uint8)


def stripes(width: int, height: int, period: int = 8) -> Pixels:
    """Vertical stripes of two colours."""
    dark = (np.arange(width) // (period // 2) % 2 == 0)[None, :, None]
    return np.broadcast_to(np.where(dark, [40, 60, 90], [200, 180, 120]), (height, width, 3)).astype(np.uint8)


def rectangle(width: int, height: int, left: int, top: int, right: int, bottom: int) -> Pixels:
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


@st.composite
def masks(draw: st.DrawFn, largest: int = 40) -> Pixels:
    """Empty, full, one pixel, a rectangle, noise of grey levels; sizes from 1x1 on."""
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    kind = draw(st.sampled_from(["empty", "full", "pixel", "rectangle", "grey"]))
    mask = np.full((height, width), 255 if kind == "full" else 0, np.uint8)
    if kind == "pixel":
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = draw(st.integers(1, 255))
    if kind == "rectangle":
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        mask[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = 255
    if kind == "grey":
        mask[:] = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, mask.shape)
    return mask
