"""The three ways in which a picture or a mask is brought to another size; Pillow's Lanczos filter, as A1111 uses.

The fourth, "Just resize (latent upscale)", happens to latents and is none of this file's business.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from modules.pixels import Pixels
from modules.pixels.enlarging import upscaled


def resize(pixels: Pixels, width: int, height: int, mode: str = "Just resize") -> Pixels:
    """A picture or mask of `width` x `height`.

    "Just resize" changes the aspect ratio; "Crop and resize" covers the new size and cuts off what stands over, evenly on
    both sides; "Resize and fill" fits the picture in and stretches its outermost rows or columns over the bars.  A1111 leaves
    a black line at the end where the bars together are odd; here they reach the edge.  An equal size gives an equal copy.

    Raises:
        ValueError: no such mode, or a size below 1.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture cannot be made {width}x{height}")
    if mode == "Just resize":
        return scale(pixels, width, height)
    if mode == "Crop and resize":
        return _cover(pixels, width, height)
    if mode == "Resize and fill":
        return _contain(pixels, width, height)
    raise ValueError(f"{mode!r} is no way to resize pixels")


def scale(pixels: Pixels, width: int, height: int, by: Image.Resampling = Image.Resampling.LANCZOS) -> Pixels:
    """`pixels` at another size by a filter, whatever the aspect ratio."""
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    return np.asarray(Image.fromarray(pixels).resize((width, height), by))


def upscale(pixels: Pixels, width: int, height: int, upscaler: str) -> Pixels:
    """`pixels` by an upscaler that knows pixels alone (`enlarging.UPSCALERS`), covering `width` x `height` and cut off evenly
    as by "Crop and resize".

    Raises:
        RequestError: there is no such one, or it failed.
    """

    def by(pixels: Pixels, width: int, height: int) -> Pixels:
        if pixels.shape[:2] == (height, width):
            return pixels.copy()
        return np.asarray(upscaled(Image.fromarray(pixels), upscaler, (width, height)))

    return _cover(pixels, width, height, by)


def _cover(pixels: Pixels, width: int, height: int, by: Callable[[Pixels, int, int], Pixels] | None = None) -> Pixels:
    old_height, old_width = pixels.shape[:2]
    if width * old_height > height * old_width:
        inner = width, max(height, old_height * width // old_width)
    else:
        inner = max(width, old_width * height // old_height), height
    large = (by or scale)(pixels, *inner)
    left, top = inner[0] // 2 - width // 2, inner[1] // 2 - height // 2
    return large[top : top + height, left : left + width].copy()


def _contain(pixels: Pixels, width: int, height: int) -> Pixels:
    old_height, old_width = pixels.shape[:2]
    if width * old_height < height * old_width:
        inner = width, max(1, old_height * width // old_width)
    else:
        inner = max(1, old_width * height // old_height), height
    small = scale(pixels, *inner)
    left, top = width // 2 - inner[0] // 2, height // 2 - inner[1] // 2
    if inner[1] < height:
        return _with_bars(small, top, height - inner[1] - top)
    return _with_bars(small.swapaxes(0, 1), left, width - inner[0] - left).swapaxes(0, 1).copy()


def _with_bars(pixels: Pixels, above: int, below: int) -> Pixels:
    """`pixels` between two bars.  A bar's colour is Pillow's bicubic resize of the edge itself, a box of no height, which
    weighs the outermost row by 9/8 and the next one by -1/8."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    bars = []
    for edge, count in ((0, above), (image.height, below)):
        row = image.resize((image.width, 1), Image.Resampling.BICUBIC, box=(0, edge, image.width, edge))
        bars.append(np.repeat(np.asarray(row), count, axis=0))
    return np.concatenate([bars[0], pixels, bars[1]])
