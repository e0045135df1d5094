"""Arithmetic on pictures and masks: sizes, regions, blurs, fills, blending and colour.

Pure functions on NumPy arrays, with Pillow where its result is the one to match.  They know nothing of requests, tensors,
files or users.  Where a function does what A1111 1.10 does, its numbers are A1111's to a level or two of 255; where that
program has a plain bug, the function says what it does instead.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3), sRGB, 0 to 255."""
Mask: TypeAlias = npt.NDArray[np.uint8]
"""(H, W), 0 to 255: 255 is repainted, 0 is kept."""
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""A picture or a mask."""
Floats: TypeAlias = npt.NDArray[np.float32]


def need_same_size(*arrays: Pixels) -> tuple[int, int]:
    """The common (width, height) of pictures and masks.

    Raises:
        ValueError: they differ, or have no pixels.
    """
    sizes = [(a.shape[1], a.shape[0]) for a in arrays]
    if len(set(sizes)) > 1:
        raise ValueError("pictures and masks must have one size; here they have " + ", ".join(f"{w}x{h}" for w, h in sizes))
    if 0 in sizes[0]:
        raise ValueError(f"a picture of {sizes[0][0]}x{sizes[0][1]} has no pixels")
    return sizes[0]
