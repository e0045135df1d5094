"""What stands under a mask before the network paints there: the masked content, and the infill of new area in outpainting.

All of them look at what is around the mask and ignore what is under it, except A1111's "fill", whose blur of 256 pixels tints
everything.  None knows what the picture shows; "patches" continues its textures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from modules.pixels import Floats, Mask, Picture, need_same_size
from modules.pixels.patches import complete

_FILL = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""A1111's radii, and how often the picture blurred by each is laid over what is there."""
_GREY = 128
"""Where nothing of the picture is known."""
_DRAWS = 24
"""Of the tiled fill, for each tile."""
_SWEEPS = 8
"""Of the blurred fill on each level: an edge of the coarser level spreads over as many pixels."""


def infill(picture: Picture, mask: Mask, content: str, seed: int = 0) -> Picture:
    """`picture` with the masked content (names as in `request.MaskedContent`) where the mask is above 0; grey levels blend.

    "fill" is A1111's multi-radius blur, "blurred" a smooth continuation of the colours at the mask's edge, "tile" pieces of
    the rest put there by chance (`seed`), "patches" textures of the rest that fit together.  "original" gives a copy back.
    "latent noise" and "latent nothing" are done on the latent, after a "fill" that A1111 does for them too.

    An equal seed gives an equal picture.  A picture that is masked all over becomes grey, or black by "fill".

    Raises:
        ValueError: no such content, or the sizes differ.
    """
    need_same_size(picture, mask)
    if content == "original" or not mask.any():
        return picture.copy()
    if content in ("fill", "latent noise", "latent nothing"):
        return fill(picture, mask)
    known = known_pixels(mask)
    if content not in ("blurred", "tile", "patches"):
        raise ValueError(f"{content!r} is no masked content")
    if not known.any():
        new = np.full_like(picture, _GREY)
    elif content == "blurred":
        new = np.clip(np.rint(spread(picture.astype(np.float32), known)), 0, 255).astype(np.uint8)
    elif content == "tile":
        new = _tiled(picture, known, np.random.default_rng(seed))
    else:
        start = np.clip(spread(picture.astype(np.float32), known), 0, 255)
        new = complete(picture, known, start, np.random.default_rng(seed))
    return blend(picture, new, mask)


def known_pixels(mask: Mask) -> npt.NDArray[np.bool_]:
    """Which pixels are looked at: those that the mask leaves alone, or nearly, where it is above 0 everywhere."""
    return mask <= (mask.min() if mask.min() < 128 else 0)


def blend(below: Picture, above: Picture, mask: Mask) -> Picture:
    """below x (1 - m) + above x m, exactly rounded; bytes of `below` where m is 0, of `above` where it is 1."""
    m = mask.astype(np.uint32)[..., None]
    return np.asarray((below * (255 - m) + above * m + 127) // 255, np.uint8)


def fill(picture: Picture, mask: Mask) -> Picture:
    """A1111's "fill": the picture without its masked part, blurred by falling radii and laid over itself, sharp at last.

    Premultiplied alpha makes each blur an average of what is known.  The blurs are Pillow's, as in A1111.
    """
    need_same_size(picture, mask)
    opaque = np.dstack([blend(picture, np.zeros_like(picture), mask), 255 - mask])
    kept = Image.frombytes("RGBa", (picture.shape[1], picture.shape[0]), opaque.tobytes())
    canvas = Image.new("RGBA", kept.size)
    for radius, times in _FILL:
        soft = kept.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            canvas.alpha_composite(soft)
    return np.asarray(canvas.convert("RGB")).copy()


def spread(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """`values` (H, W, C) where they are known, and a smooth continuation elsewhere, whatever stands there.

    Coarse to fine: averages of what is known in 2x2 pixels fill the next size, until all is known; on the way back each size
    is made smooth by a few sweeps of averaging over 3x3 (pull-push of Gortler et al. 1996, "The Lumigraph", section 3.4, with
    the relaxation of a multigrid solver of Laplace's equation in between).  At least one value must be known.
    """
    if known.all():
        return values
    height, width, channels = values.shape
    padding = ((0, height % 2), (0, width % 2))
    weights = np.pad(known.astype(np.float32), padding)
    sums = np.pad(np.where(known[..., None], values, 0).astype(np.float32), (*padding, (0, 0)))
    count = weights.reshape(weights.shape[0] // 2, 2, -1, 2).sum(axis=(1, 3))
    total = sums.reshape(*count.shape[:1], 2, count.shape[1], 2, channels).sum(axis=(1, 3))
    coarse = spread(total / np.maximum(count, 1)[..., None], count > 0)

    result = np.where(known[..., None], values, _twice(coarse)[:height, :width]).astype(np.float32)
    rows, columns = np.flatnonzero(~known.all(axis=1)), np.flatnonzero(~known.all(axis=0))
    part = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
    area, fixed = result[part], known[part][..., None]
    for _ in range(_SWEEPS):
        area = np.where(fixed, area, _smooth(area))
    result[part] = area
    return result


def _twice(values: Floats) -> Floats:
    """Double size, bilinear, pixel centres in place."""
    for axis in (0, 1):
        before = np.concatenate([values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis)
        after = np.concatenate([values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis)
        pairs = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1).astype(np.float32)
        values = pairs.reshape(*values.shape[:axis], -1, *values.shape[axis + 1 :])
    return values


def _smooth(values: Floats) -> Floats:
    """The average over 3x3 by (1, 2, 1)/4 in both directions, edges repeated."""
    wide = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16, np.float32)


def _tiled(picture: Picture, known: npt.NDArray[np.bool_], rng: np.random.Generator) -> Picture:
    """Every tile of a grid is replaced by one of those that hold nothing unknown: the nearest of a few drawn by chance.

    Tiles are 32 pixels wide, or as much smaller as it takes that one is wholly known; InvokeAI's tile infill does likewise,
    but draws from the whole picture, which brings the meadow into the sky.
    """
    height, width = known.shape
    side = 32
    while side > 1 and not _whole_tiles(known, side).any():
        side //= 2
    whole = np.argwhere(_whole_tiles(known, side))
    grid = -(-height // side), -(-width // side)
    wanted = np.indices(grid).reshape(2, -1).T
    drawn = whole[rng.integers(len(whole), size=(len(wanted), _DRAWS))]
    nearest = ((drawn - wanted[:, None]) ** 2).sum(axis=2).argmin(axis=1)
    chosen = drawn[np.arange(len(wanted)), nearest].reshape(*grid, 2) * side
    inner = np.arange(side)
    y = (chosen[:, :, 0, None] + inner).transpose(0, 2, 1).reshape(-1, grid[1]).repeat(side, axis=1)
    x = (chosen[:, :, 1, None] + inner).reshape(grid[0], -1).repeat(side, axis=0)
    return np.asarray(picture[y[:height, :width], x[:height, :width]])


def _whole_tiles(known: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    rows, columns = known.shape[0] // side, known.shape[1] // side
    return np.asarray(known[: rows * side, : columns * side].reshape(rows, side, columns, side).all(axis=(1, 3)))
