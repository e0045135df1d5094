"""The options of tiled diffusion, declared once each, and the windows that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from modules.fields import About
from modules.request.kinds import MAX_SIDE, MIN_SIDE, Integer

TileMethod = Literal["MultiDiffusion", "Mixture of Diffusers"]
"""How overlapping windows become one prediction: their mean, or one with weights that fall off from each window's middle."""

MAX_WINDOWS = 1024
"""Of one picture: each is an evaluation of the network in every step."""


class TileOptions(BaseModel):
    """Tiled diffusion: each evaluation of the network sees overlapping windows of the latent instead of all of it.

    MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113, equation 5) and Mixture of Diffusers (Barbero Jimenez 2023,
    arXiv:2302.02412).  Sizes are pixels of the picture.  A side that is not given is the checkpoint's native one, an overlap
    that is not given half of a window (a quarter of it for Mixture of Diffusers, whose weights are small at the borders
    anyway).  `tile_batch` windows are evaluated side by side, so that memory does not grow with the picture.
    """

    tiled_diffusion: Annotated[
        bool,
        About(
            "Tiled diffusion",
            "paint in overlapping windows, for pictures larger than the checkpoint was made for",
            group="Large pictures",
            infotext="Tiled Diffusion",
            section="own",
        ),
    ] = False
    tile_method: Annotated[
        TileMethod,
        About(
            "Tile method",
            "how overlapping windows are put together: evenly, or most from their middle",
            group="Large pictures",
            needs=("tiled_diffusion",),
        ),
    ] = "MultiDiffusion"
    tile_width: Annotated[
        Annotated[Integer, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=8)] | None,
        About(
            "Tile width",
            "of a window, in pixels; the checkpoint's own size where it is empty",
            group="Large pictures",
            step=8,
            needs=("tiled_diffusion",),
        ),
    ] = None
    tile_height: Annotated[
        Annotated[Integer, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=8)] | None,
        About("Tile height", "the same of its height", group="Large pictures", step=8, needs=("tiled_diffusion",)),
    ] = None
    tile_overlap: Annotated[
        Annotated[Integer, Field(ge=0, le=MAX_SIDE, multiple_of=8)] | None,
        About(
            "Tile overlap",
            "of neighbouring windows, in pixels; half a window (Mixture: a quarter) where it is empty",
            group="Large pictures",
            step=8,
            needs=("tiled_diffusion",),
        ),
    ] = None
    tile_batch: Annotated[
        Integer,
        Field(ge=1, le=8),
        About(
            "Windows at once",
            "how many are evaluated together, 1 to 8: more is quicker on a GPU and takes more memory",
            group="Large pictures",
            step=1,
            needs=("tiled_diffusion",),
        ),
    ] = 4


@dataclass(frozen=True)
class Window:
    """A part of a plane, in its own unit: pixels or latent positions."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Tiles:
    """How large windows are and how far they overlap, in pixels."""

    width: int
    height: int
    overlap: int

    def windows(self, width: int, height: int, unit: int = 8) -> tuple[Window, ...]:
        """The windows of a picture of `width` x `height` pixels, row by row, in units of `unit` pixels.

        They are spread evenly, the first at one edge and the last at the other; each overlaps its neighbours by `overlap` at
        least, and by one unit less than its side at most.  One that is as large as the picture is the only one.

        >>> [window.left for window in Tiles(64, 64, 32).windows(160, 64)]
        [0, 4, 8, 12]
        """
        across = _spread(width // unit, self.width // unit, self.overlap // unit)
        down = _spread(height // unit, self.height // unit, self.overlap // unit)
        wide, high = min(self.width, width) // unit, min(self.height, height) // unit
        return tuple(Window(left, top, wide, high) for top in down for left in across)

    def count(self, width: int, height: int, unit: int = 8) -> int:
        across = _number(width // unit, self.width // unit, self.overlap // unit)
        return across * _number(height // unit, self.height // unit, self.overlap // unit)

    def problem(self, width: int, height: int) -> str:
        """Why a picture of that size cannot be painted so, "" where it can."""
        if (count := self.count(width, height)) <= MAX_WINDOWS:
            return ""
        return (
            f"tile_overlap: {width}x{height} would be {count:,} windows of {self.width}x{self.height} that overlap by "
            f"{self.overlap}, and {MAX_WINDOWS:,} is the most; take larger windows or less overlap"
        )


def tiles_of(request: TileOptions, native: tuple[int, int]) -> Tiles | None:
    """The windows of a request with a checkpoint of this native size (width, height), None where it asks for none."""
    if not request.tiled_diffusion:
        return None
    width, height = request.tile_width or native[0], request.tile_height or native[1]
    part = 2 if request.tile_method == "MultiDiffusion" else 4
    overlap = min(width, height) // part // 8 * 8 if request.tile_overlap is None else request.tile_overlap
    return Tiles(width, height, overlap)


def _number(side: int, window: int, overlap: int) -> int:
    step = max(1, window - overlap)
    return 1 if window >= side else math.ceil((side - window) / step) + 1


def _spread(side: int, window: int, overlap: int) -> list[int]:
    count = _number(side, window, overlap)
    return [round(number * (side - window) / (count - 1)) if count > 1 else 0 for number in range(count)]
