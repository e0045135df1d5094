"""A picture extended beyond its edges, in all directions at once, with the mask that says what is new.

It prepares; painting is the network's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modules.pixels import Mask, Picture, need_same_size
from modules.pixels.infill import infill
from modules.pixels.regions import Box


@dataclass(frozen=True)
class Extended:
    """A larger picture; `mask` is white where it is new, and on a little of the old; `box` is where the old one lies."""

    picture: Picture
    mask: Mask
    box: Box


def extend(
    picture: Picture,
    mask: Mask | None = None,
    left: int = 0,
    right: int = 0,
    up: int = 0,
    down: int = 0,
    content: str = "blurred",
    overlap: int = 8,
    seed: int = 0,
) -> Extended:
    """`picture` with so many pixels more on each side.

    The new area is filled as `content` says (names as for `infill`; those that start from the picture itself or from latents
    mean "blurred" here).  The mask covers it and `overlap` pixels of the picture along the extended sides, at most half of
    it, so that the network may repaint the edge; it joins `mask`, if there is one.  The picture's own pixels all stay.

    Raises:
        ValueError: a negative number of pixels, or the sizes differ.
    """
    if min(left, right, up, down, overlap) < 0:
        raise ValueError("a picture can only be extended outwards")
    old_width, old_height = need_same_size(picture, picture[..., 0] if mask is None else mask)
    box = Box(left, up, left + old_width, up + old_height)
    size = up + old_height + down, left + old_width + right

    larger = np.zeros((*size, 3), np.uint8)
    larger[box.slices] = picture
    new = np.full(size, 255, np.uint8)
    new[box.slices] = 0
    across, along = min(overlap, old_width // 2), min(overlap, old_height // 2)
    inner = Box(
        box.left + (across if left else 0),
        box.top + (along if up else 0),
        box.right - (across if right else 0),
        box.bottom - (along if down else 0),
    )
    repaint = np.full(size, 255, np.uint8)
    repaint[inner.slices] = 0
    if mask is not None:
        repaint[box.slices] = np.maximum(repaint[box.slices], mask)
    filling = content if content in ("fill", "tile", "patches") else "blurred"
    return Extended(infill(larger, new, filling, seed), repaint, box)
