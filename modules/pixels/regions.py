"""Rectangles in a picture: where a mask lies, what is cropped for it, how large the crop is worked on.

Whole numbers throughout; it does not know what is done with a crop.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from modules.pixels import Mask


class Box(NamedTuple):
    """A rectangle of pixels; `right` and `bottom` are the first column and row that no longer belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """What cuts the box out of an array: `picture[box.slices]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def bounding_box(mask: Mask) -> Box | None:
    """The smallest box around everything above 0; None where there is nothing."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def crop_region(mask: Mask, padding: int = 0) -> Box | None:
    """The mask's bounding box with `padding` pixels around it, cut off at the picture's edges; None for an empty mask.

    >>> mask = np.zeros((20, 30), np.uint8)
    >>> mask[5:8, 2:4] = 255
    >>> crop_region(mask, 4)
    Box(left=0, top=1, right=8, bottom=12)
    """
    box = bounding_box(mask)
    if box is None:
        return None
    height, width = mask.shape
    return Box(
        max(box.left - padding, 0),
        max(box.top - padding, 0),
        min(box.right + padding, width),
        min(box.bottom + padding, height),
    )


def expand(box: Box, width: int, height: int, within: tuple[int, int]) -> Box:
    """`box` grown to the aspect ratio of `width` x `height`, as A1111 does it for "Only masked".

    The side that is too short grows on both ends (the odd pixel at the right or bottom), is shifted to stay inside the picture
    of size `within` (width, height), and ends at its edges: where the picture is too small for the ratio, it is not reached.

    >>> expand(Box(10, 10, 138, 42), 512, 512, (200, 200))
    Box(left=10, top=0, right=138, bottom=128)
    """
    aspect = width / height
    if box.width / box.height > aspect:
        top, bottom = _stretch(box.top, box.bottom, int(box.width / aspect - box.height), within[1])
        return box._replace(top=top, bottom=bottom)
    left, right = _stretch(box.left, box.right, int(box.height * aspect - box.width), within[0])
    return box._replace(left=left, right=right)


def grow_for_context(box: Box, within: tuple[int, int], share: float = 0.618, margin: float = 1.15) -> Box:
    """`box` grown so that the network sees what stands around it, as Fooocus grows it ("respective field").

    First by the factor `margin`, then the shorter side first, until each side is at least `share` of the picture's; a `share`
    of 1 is the whole picture.  The box stays inside the picture of size `within` and contains the old one.
    """
    width, height = (min(size, math.ceil(side * margin)) for side, size in zip((box.width, box.height), within, strict=True))
    while width < within[0] * share or height < within[1] * share:
        if height == within[1] or (width < within[0] and width <= height):
            width += 1
        else:
            height += 1
    left, right = _stretch(box.left, box.right, width - box.width, within[0])
    top, bottom = _stretch(box.top, box.bottom, height - box.height, within[1])
    return Box(left, top, right, bottom)


def working_size(box: Box, area: int, step: int = 8, smallest: int = 64, largest: int = 2048) -> tuple[int, int]:
    """(width, height) near `area` pixels in the aspect ratio of `box`, as multiples of `step` between the bounds.

    `area` is that of the pictures that the network was trained on, where it draws best.

    >>> working_size(Box(0, 0, 300, 200), 512 * 512)
    (624, 416)
    """
    scale = math.sqrt(area / (box.width * box.height))
    width, height = (max(smallest, min(largest, round(side * scale / step) * step)) for side in (box.width, box.height))
    return width, height


def enlarged_size(box: Box, factor: int, step: int = 8, smallest: int = 64, largest: int = 2048) -> tuple[int, int]:
    """(width, height) of `factor` times `box`, or of as much of that as `largest` pixels a side allow, as multiples of `step`.

    >>> enlarged_size(Box(0, 0, 130, 100), 4), enlarged_size(Box(0, 0, 1024, 512), 4)
    ((520, 400), (2048, 1024))
    """
    scale = min(factor, largest / max(box.width, box.height))
    width, height = (max(smallest, min(largest, round(side * scale / step) * step)) for side in (box.width, box.height))
    return width, height


def _stretch(start: int, end: int, by: int, size: int) -> tuple[int, int]:
    """The span start..end longer by `by`, around its middle, moved and then cut to lie in 0..size."""
    start, end = start - by // 2, end + by - by // 2
    if end > size:
        start, end = start - (end - size), size
    if start < 0:
        start, end = 0, end - start
    return start, min(end, size)
