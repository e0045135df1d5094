"""Putting what was painted back into the picture it was painted for, and looking at the seam.

Outside the mask the source's bytes stay, whatever the network made there; that is tested, and the reason why the blend is one
of whole numbers.  It does not know how the mask came about.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modules.pixels import Floats, Mask, Picture, need_same_size
from modules.pixels.distance import falling_off
from modules.pixels.infill import blend, spread
from modules.pixels.regions import Box, bounding_box
from modules.pixels.resize import resize

_ROWS = 256
"""Lines blended at once: bounds memory, as the arithmetic needs four bytes a value."""
_SURROUNDINGS = 8
"""Pixels on both sides of a mask's edge with which the seam is compared."""
_LIMIT = 48.0
"""Levels by which a colour is moved at most to close a seam: more is no fault of colour but another picture."""


def overlay(original: Picture, painted: Picture, mask: Mask) -> Picture:
    """original x (1 - m) + painted x m, exactly rounded: the original's bytes where m is 0, the painted's where it is 255.

    Raises:
        ValueError: the sizes differ.
    """
    need_same_size(original, painted, mask)
    result, box = original.copy(), bounding_box(mask)
    if box is None:
        return result
    for top in range(box.top, box.bottom, _ROWS):
        part = slice(top, min(top + _ROWS, box.bottom)), slice(box.left, box.right)
        result[part] = blend(original[part], painted[part], mask[part])
    return result


def paste_back(original: Picture, painted: Picture, box: Box, mask: Mask) -> Picture:
    """`original` with a crop of it, painted at any size, put back into `box`, blended by `mask` (of the original's size).

    What the mask says outside the box counts for nothing.
    """
    need_same_size(original, mask)
    result, part = original.copy(), box.slices
    fitting = resize(painted, box.width, box.height, "Crop and resize")
    result[part] = overlay(original[part], fitting, mask[part])
    return result


def feathered(mask: Mask, feather: int) -> Mask:
    """The mask grown by `feather` pixels in which it falls evenly to 0; where it was, it stays.

    Distances are those of a chess king.  So the seam of a crop lies outside what was asked for, where original and result
    show the same; Fooocus returns its crops like this, by 32 pixels.
    """
    if feather < 1 or not mask.any():
        return mask.copy()
    level = falling_off(mask.astype(np.float32), 255 / (feather + 1))
    return np.asarray(np.rint(np.maximum(level, 0)), np.uint8)


def seam_error(picture: Picture, mask: Mask, reach: int = 1) -> float:
    """How visible the mask's edge is: the mean absolute difference of pixels `reach` apart across it, divided by that of
    such pairs beside it, within 8 pixels and on one side.

    1 is an edge like its surroundings, 3 one that is seen, below 1 one that is smoother.  The edge is where the mask crosses
    one half; for a soft mask let `reach` be the width of its slope.  A difference below one level of 255 in the surroundings
    counts as one level, for no eye sees it.  A mask without an edge has no seam: 0.
    """
    need_same_size(picture, mask)
    inside = mask >= 128
    across: list[npt.NDArray[np.float32]] = []
    beside: list[npt.NDArray[np.float32]] = []
    near = _near_edge(inside, _SURROUNDINGS + reach)
    for axis in (0, 1):
        size = picture.shape[axis]
        if size <= reach:
            continue
        one, other = (np.arange(reach, size), np.arange(size - reach))
        step = np.abs(picture.take(one, axis).astype(np.float32) - picture.take(other, axis)).mean(axis=2)
        cut = inside.take(one, axis) != inside.take(other, axis)
        across.append(step[cut])
        beside.append(step[~cut & near.take(one, axis) & near.take(other, axis)])
    edge, rest = np.concatenate(across or [np.zeros(0, np.float32)]), np.concatenate(beside or [np.zeros(0, np.float32)])
    if not len(edge):
        return 0.0
    return float(edge.mean()) / max(1.0, float(rest.mean()) if len(rest) else 0.0)


def _near_edge(inside: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """Pixels from which the mask's edge is at most `reach` king's moves away."""
    grown = feathered(np.where(inside, 255, 0).astype(np.uint8), reach) > 0
    shrunk = feathered(np.where(inside, 0, 255).astype(np.uint8), reach) > 0
    return np.asarray(grown & shrunk)


def match_seam(original: Picture, painted: Picture, mask: Mask, radius: int = 6) -> Picture:
    """`painted` with its colours moved so that it meets `original` at the mask's edge.

    How the two differ outside the mask, within a few `radius` (pixels, the standard deviation over which the difference is
    averaged), is continued smoothly to the inside and added: membrane interpolation of the difference, the idea of Poisson
    image editing (Perez et al. 2003; Farbman et al. 2009, "Coordinates for instant image cloning").  It mends the shift of
    colour that a VAE and a network leave; it moves nothing by more than 48 levels and adds no detail of the original.  Where
    the mask covers everything, there is nothing to meet.

    Raises:
        ValueError: the sizes differ.
    """
    need_same_size(original, painted, mask)
    band = (mask == 0) & (feathered(mask, 3 * radius) > 0)
    if not band.any():
        return painted.copy()
    difference = np.clip(original.astype(np.float32) - painted, -_LIMIT, _LIMIT)
    weight = _box_blurred(band[..., None].astype(np.float32), radius)
    soft = _box_blurred(difference * band[..., None], radius) / np.maximum(weight, 1e-6)
    field = spread(np.where(band[..., None], soft, 0).astype(np.float32), band)
    return np.asarray(np.clip(np.rint(painted + field), 0, 255), np.uint8)


def _box_blurred(values: Floats, radius: int) -> Floats:
    """Three box averages in both directions, nearly a Gaussian (Wells 1986); 0 beyond the edges."""
    for axis in (0, 1):
        for _ in range(3):
            padding = [(0, 0)] * 3
            padding[axis] = (radius + 1, radius)
            sums = np.cumsum(np.pad(values, padding), axis=axis, dtype=np.float64)
            size = values.shape[axis]
            upper, lower = (sums.take(range(i, i + size), axis) for i in (2 * radius + 1, 0))
            values = ((upper - lower) / (2 * radius + 1)).astype(np.float32)
    return values
