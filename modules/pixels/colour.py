"""Colours: CIE L*a*b*, histograms and luminosity, for A1111's colour correction.

The steps are that program's: both pictures in L*a*b* of 8 bits, histograms matched channel by channel, and the result's hue
and saturation with the painted picture's own luminosity.  It does not know when that is asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modules.pixels import Floats, Picture

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
)
"""Linear sRGB (ITU-R BT.709 primaries, D65) to CIE XYZ."""
_WHITE = _TO_XYZ.sum(axis=1)
"""D65, as white of this matrix: white has a* = b* = 0 exactly."""
_KNEE = (6 / 29) ** 3
"""CIE 15:2004, 8.2.1: below, the cube root is replaced by a line."""
_LUMA = np.array([0.3, 0.59, 0.11], np.float32)
"""Of W3C Compositing and Blending Level 1, section 10.3, non-separable blend modes."""
_ROWS = 256

Values = npt.NDArray[np.float64]


def rgb_to_lab(picture: Picture) -> Values:
    """CIE L*a*b* of sRGB pixels: (H, W, 3) float64, L* from 0 to 100, white point D65 (CIE 15:2004; IEC 61966-2-1)."""
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)[picture]
    ratio = linear @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > _KNEE, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Values) -> Picture:
    """The inverse of `rgb_to_lab`; colours that sRGB does not have are clipped channel by channel."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    ratio = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2)
    linear = np.clip(ratio * _WHITE @ np.linalg.inv(_TO_XYZ).T, 0, 1)
    values = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.clip(np.rint(values * 255), 0, 255), np.uint8)


def match_histogram(channel: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`channel` with its levels replaced so that they are distributed as those of `reference`, of any size.

    Each level goes to where the reference's cumulative distribution has the same height, between two of its levels linearly,
    and is cut to whole numbers (Gonzalez & Woods, "Digital image processing", section 3.3; as scikit-image does on 8 bits).
    """
    have = np.bincount(channel.ravel(), minlength=256).cumsum() / channel.size
    counts = np.bincount(reference.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    table = np.interp(have, counts[present].cumsum() / reference.size, present).astype(np.uint8)
    return np.asarray(table[channel], np.uint8)


def luminosity(colours: Picture, light: Picture) -> Picture:
    """Hue and saturation of `colours` with the luminosity of `light`: the W3C's blend mode "luminosity", light above."""
    result = np.empty_like(colours)
    for top in range(0, len(colours), _ROWS):
        part = slice(top, top + _ROWS)
        base = colours[part].astype(np.float32)
        base += ((light[part].astype(np.float32) - base) @ _LUMA)[..., None]
        result[part] = np.rint(_clipped(base))
    return result


def _clipped(values: Floats) -> Floats:
    """Colours brought into 0 to 255 towards the grey of the same luminosity (ClipColor of the same section)."""
    luma = (values @ _LUMA)[..., None]
    low, high = values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True)
    values = np.where(low < 0, luma + (values - luma) * luma / np.maximum(luma - low, 1e-6), values)
    values = np.where(high > 255, luma + (values - luma) * (255 - luma) / np.maximum(high - luma, 1e-6), values)
    return np.clip(values, 0, 255)


def color_correct(picture: Picture, reference: Picture) -> Picture:
    """`picture` in the colours of `reference`, a picture of any size: A1111's "color correction" of img2img."""
    # 8 bits as OpenCV has them: L* x 255/100, a* and b* + 128.
    ours, theirs = (_quantised(rgb_to_lab(p)) for p in (picture, reference))
    matched = np.stack([match_histogram(ours[..., c], theirs[..., c]) for c in range(3)], axis=-1).astype(np.float64)
    moved = lab_to_rgb(np.stack([matched[..., 0] * 100 / 255, matched[..., 1] - 128, matched[..., 2] - 128], axis=-1))
    return luminosity(moved, picture)


def _quantised(lab: Values) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(lab * (255 / 100, 1, 1) + (0, 128, 128)), 0, 255).astype(np.uint8)
