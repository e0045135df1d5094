"""Super-resolution in tiles: where a picture is cut, and how the tiles' results become one without seams.

Convolutions are local: what lies further away than a network's reach makes no difference.  Each tile is computed with a margin
around what is used of it.  Where the margin is the reach, the tiled picture is the whole one but for rounding; where the reach
is larger than is worth computing, neighbours are blended over a strip behind the margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGN = 4
"""Tiles begin at multiples of it, which every network's folding divides."""
EXACT = 48
"""The largest reach in pixels that is computed in full: that of the compact networks with 32
convolutions is 34."""
MARGIN, BLEND = 16, 16
"""Around tiles of networks that reach further: what is thrown away, and the strip over which neighbours are blended."""


@dataclass(frozen=True)
class Tiles:
    """How networks of some reach are run in tiles: `side` pixels with margins, `margin` of them thrown away on each side, and
    `blend` behind it shared with the neighbour."""

    side: int
    margin: int
    blend: int

    @staticmethod
    def of(side: int, reach: int) -> Tiles:
        """Tiles of about `side` pixels, margins included; large enough for a kernel of useful pixels."""
        margin, blend = (_up(reach), 0) if reach <= EXACT else (MARGIN, BLEND)
        return Tiles(max(_up(side), 2 * (margin + blend) + 2 * ALIGN), margin, blend)

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along a side of `length` pixels, a multiple of `ALIGN`; all are equally long, the last one ends
        with it."""
        if length <= self.side:
            return [0]
        step = self.side - 2 * self.margin - self.blend
        return [min(number * step, length - self.side) for number in range(1 + math.ceil((length - self.side) / step))]

    def weights(self, length: int, scale: int) -> list[NDArray[np.float32]]:
        """The share that each tile along a side has of each of its result's pixels; of any pixel they add up to 1."""
        starts, side = self.starts(length), min(self.side, length)
        ramps = [self._ramp(start, side, length, scale) for start in starts]
        total = np.zeros(length * scale, np.float32)
        for start, ramp in zip(starts, ramps, strict=True):
            total[start * scale : (start + side) * scale] += ramp
        return [ramp / total[start * scale : (start + side) * scale] for start, ramp in zip(starts, ramps, strict=True)]

    def _ramp(self, start: int, side: int, length: int, scale: int) -> NDArray[np.float32]:
        ramp = np.ones(side * scale, np.float32)
        edge = np.zeros((self.margin + self.blend) * scale, np.float32)
        strip = self.blend * scale
        edge[self.margin * scale :] = (np.arange(strip, dtype=np.float32) + 0.5) / max(1, strip)
        if start > 0:
            ramp[: edge.size] = edge
        if start + side < length:
            ramp[ramp.size - edge.size :] = edge[::-1]
        return ramp


def padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) whose sides are multiples of `ALIGN`, its last rows and columns mirrored, or repeated where it is
    smaller than that."""
    height, width = pixels.shape[:2]
    more = _up(height) - height, _up(width) - width
    mode = "reflect" if min(height, width) > ALIGN else "edge"
    return np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode=mode)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Piece:
    """A tile: its number, and the rows and columns of the picture that it sees."""

    number: int
    rows: slice
    columns: slice


class Canvas:
    """The large picture, put together of tiles that come in the order of `pieces`.

    Only the tiles of a row are kept as floating-point numbers: what no tile to come reaches is rounded at once.
    """

    stored: Any = np.uint8

    def __init__(self, size: tuple[int, int], scale: int, tiles: Tiles) -> None:
        height, width = size
        self.scale, self._tiles, self._size = scale, tiles, size
        self._tops, self._lefts = tiles.starts(height), tiles.starts(width)
        self._side = min(tiles.side, height), min(tiles.side, width)
        self._weights = tiles.weights(height, scale), tiles.weights(width, scale)
        self._band = np.zeros((self._side[0] * scale, width * scale, 3), np.float32)
        self.pixels: NDArray[Any] = np.empty((height * scale, width * scale, 3), self.stored)

    def __len__(self) -> int:
        return len(self._tops) * len(self._lefts)

    def pieces(self) -> Iterator[Piece]:
        for number in range(len(self)):
            top, left = self._tops[number // len(self._lefts)], self._lefts[number % len(self._lefts)]
            yield Piece(number, slice(top, top + self._side[0]), slice(left, left + self._side[1]))

    def put(self, piece: Piece, made: NDArray[np.float32]) -> None:
        """The result (h, w, 3) of a tile, in [0, 1]."""
        row, column = divmod(piece.number, len(self._lefts))
        share = self._weights[0][row][:, None, None] * self._weights[1][column][None, :, None]
        left = self._lefts[column] * self.scale
        self._band[:, left : left + made.shape[1]] += made * share
        if column == len(self._lefts) - 1:
            self._flush(row)

    def _flush(self, row: int) -> None:
        """Round the rows that are done after this row of tiles, and go on with the others."""
        top = self._tops[row]
        following = self._tops[row + 1] if row + 1 < len(self._tops) else self._size[0]
        done = (following - top) * self.scale
        self.pixels[top * self.scale : following * self.scale] = self._rounded(self._band[:done])
        rest = self._band[done:].copy()
        self._band[: len(rest)] = rest
        self._band[len(rest) :] = 0.0

    def _rounded(self, band: NDArray[np.float32]) -> NDArray[Any]:
        return np.rint(band.clip(0.0, 1.0) * 255.0)


class FloatCanvas(Canvas):
    """The same without rounding."""

    stored = np.float32

    def _rounded(self, band: NDArray[np.float32]) -> NDArray[Any]:
        return band


def _up(pixels: int) -> int:
    return math.ceil(pixels / ALIGN) * ALIGN
