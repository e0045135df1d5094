"""A picture put together from tiles that overlap, each faded into those before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modules.pixels import Picture
from modules.pixels.regions import Box


@dataclass(frozen=True)
class Tile:
    """`pixels` (h, w, 3) of the part `box` of the whole picture."""

    box: Box
    pixels: Picture


def mosaic(rows: Iterable[Sequence[Tile]], width: int, height: int) -> Picture:
    """The whole picture of tiles, given row by row from the top, each row from the left.

    Where a tile overlaps what is there, its weight rises evenly over the overlap: first in its row, then the row below the
    rows above it, as in A1111 v1.10.1 (`images.combine_grid`).  No more than one row of tiles is in memory beside the result.

    Raises:
        ValueError: a tile has not the size of its box.
    """
    result, bottom = np.zeros((height, width, 3), np.uint8), 0
    for row in rows:
        top, high = row[0].box.top, row[0].box.height
        band, right = np.zeros((high, width, 3), np.uint8), 0
        for tile in row:
            if tile.pixels.shape[:2] != (tile.box.height, tile.box.width):
                raise ValueError(f"a tile of {tile.pixels.shape[1]}x{tile.pixels.shape[0]} pixels is none of {tile.box}")
            _fade(band[:, tile.box.left : tile.box.right], tile.pixels, max(0, right - tile.box.left))
            right = tile.box.right
        _fade(result[top : top + high].swapaxes(0, 1), band.swapaxes(0, 1), max(0, bottom - top))
        bottom = top + high
    return result


def _fade(there: npt.NDArray[np.uint8], new: npt.NDArray[np.uint8], over: int) -> None:
    """Put `new` (a, b, 3) into `there`, fading in over the first `over` of the second axis.

    The difference is added, rounded, so that where both are equal nothing changes.
    """
    if over:
        weight = ((np.arange(over, dtype=np.float32) + 0.5) / over)[None, :, None]
        old = there[:, :over].astype(np.float32)
        there[:, :over] = np.rint(old + (new[:, :over] - old) * weight).astype(np.uint8)
    there[:, over:] = new[:, over:]
