"""Soft inpainting: masks that let original and new shine through one another, decided by how much the network changed.

The arithmetic of A1111's "Soft inpainting" that needs no tensors: the mask of each step and the blend of pixels at the end.
Parameter names are those of `request.MaskOptions` without "soft_".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from modules.pixels import Mask
from modules.pixels.resize import resize

_BLUR = 4
"""Pixels of the Gaussian blur (Pillow's) that hides the latent's coarse grid in the last mask."""
_SPREAD = 1.5
_RADIUS = 2
"""Of the weights with which neighbouring distances are ranked: 5x5 latent values."""

Values = npt.NDArray[np.float64]


def exponent(sigma: float, bias: float, preservation: float) -> float:
    """To what power the repaint mask (0 to 1, at latent size) is raised at noise level `sigma`.

    sigma ** bias * preservation: while there is much noise, only the fully masked is new; at the end all that is masked at
    all.  A `preservation` of 0 would repaint even what is not masked (0 ** 0 is 1), which A1111 does; callers that promise to
    keep the rest must put zeros back.

    >>> exponent(4.0, 1.0, 0.5)
    2.0
    """
    return float(sigma**bias * preservation)


def adaptive_mask(
    distance: npt.ArrayLike,
    repaint: npt.ArrayLike,
    width: int,
    height: int,
    *,
    preservation: float = 0.5,
    mask_influence: float = 0.0,
    difference_threshold: float = 0.5,
    difference_contrast: float = 2.0,
) -> Mask:
    """The mask of the last blend, from how far the latent moved: (height, width), the size at which was painted.

    `distance` (h, w) is the Euclidean norm over channels of new minus original latent, `repaint` (h, w) the latent mask.
    Distances are brought forward where one of the neighbours is large, freed of outliers, and become opacity by
    1 - smootherstep(1 / (1 + (d / threshold) ** contrast)); `mask_influence` 1 moves the threshold with the mask instead of
    keeping it.  A threshold of 0 makes everything new that moved at all.  Crops are put back with `compose.paste_back`.
    """
    moved = ranked_mean(np.asarray(distance, np.float64), 0.9, 1.0)
    moved = ranked_mean(moved, 0.25, 0.75)
    kept = 1 - np.clip(np.asarray(repaint, np.float64), 0, 1) ** (preservation / 2)
    kept = 0.5 * (1 - mask_influence) + kept * mask_influence
    threshold = difference_threshold * kept / (1.00001 - kept)
    ratio = np.where(threshold > 0, moved / np.maximum(threshold, 1e-12), np.where(moved > 0, np.inf, 0.0))
    with np.errstate(over="ignore"):
        opacity = 1 - _smootherstep(1 / (1 + ratio**difference_contrast))
    small = np.clip(255 * opacity, 0, 255).astype(np.uint8)
    large = Image.fromarray(resize(small, width, height, "Resize and fill"))
    return np.asarray(large.filter(ImageFilter.GaussianBlur(_BLUR))).copy()


def _smootherstep(x: Values) -> Values:
    """Perlin (2002, "Improving noise"): 6x^5 - 15x^4 + 10x^3."""
    return np.asarray(x * x * x * (x * (6 * x - 15) + 10))


def ranked_mean(values: Values, low: float, high: float) -> Values:
    """A weighted rank filter: of the 5x5 values around each, the weighted mean of those between two quantiles.

    A quantile counts by weight, and the window between them is at least one weight unit wide, the middle value's.  At the
    edges only what is there counts.
    """
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    rim = np.exp(-((_RADIUS + 1) ** 2) / _SPREAD**2)
    gauss = np.exp(-(offsets[:, None] ** 2 + offsets**2) / _SPREAD**2)
    kernel = np.maximum(0.0, (gauss - rim) / (1 - rim)).ravel()

    size = 2 * _RADIUS + 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, _RADIUS), (size, size)).reshape(*values.shape, -1)
    there = np.lib.stride_tricks.sliding_window_view(np.pad(np.ones_like(values), _RADIUS), (size, size))
    weights = kernel * there.reshape(*values.shape, -1)

    order = np.argsort(windows, axis=-1, kind="stable")
    ranked, weights = np.take_along_axis(windows, order, -1), np.take_along_axis(weights, order, -1)
    end = weights.cumsum(axis=-1)
    total = end[..., -1:]
    first, last = total * low, total * high
    narrow, middle = last - first < 1, np.clip((first + last) / 2, 0.5, total - 0.5)
    first, last = np.where(narrow, middle - 0.5, first), np.where(narrow, middle + 0.5, last)
    share = np.clip(np.minimum(end, last) - np.maximum(end - weights, first), 0, None)
    return np.asarray((ranked * share).sum(axis=-1) / share.sum(axis=-1))
