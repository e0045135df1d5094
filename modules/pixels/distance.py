"""Values that fall off evenly with distance, in king's moves: the feather of a mask, and how deep in a hole a pixel lies."""

from __future__ import annotations

import numpy as np

from modules.pixels import Floats


def falling_off(values: Floats, fall: float) -> Floats:
    """At each pixel of (H, W), the largest of all values after each fell by `fall` for every king's move from its place.

    Exact: along rows first, then down and up, where a move may be straight or diagonal.
    """
    level = _along(_along(values, fall)[:, ::-1], fall)[:, ::-1].copy()
    for rows, back in ((range(1, len(level)), -1), (range(len(level) - 2, -1, -1), 1)):
        for y in rows:
            beside = np.pad(level[y + back], 1, mode="edge")
            level[y] = np.maximum(level[y], np.maximum(np.maximum(beside[:-2], beside[2:]), beside[1:-1]) - fall)
    return level


def _along(values: Floats, fall: float) -> Floats:
    """max over j <= i of values[:, j] - fall (i - j)."""
    slope = np.arange(values.shape[1], dtype=np.float32) * np.float32(fall)
    return np.asarray(np.maximum.accumulate(values + slope, axis=1) - slope)
