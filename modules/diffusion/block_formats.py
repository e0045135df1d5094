"""Formats of quantised numbers that come in blocks: how many numbers a block has, and in how many bytes.  No torch.

Source: ggml's `ggml-common.h` (https://github.com/ggml-org/ggml).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple


class BlockFormat(NamedTuple):
    """`numbers` of one block, which takes `size` bytes."""

    numbers: int
    size: int


BLOCK_FORMATS = {
    "Q4_0": BlockFormat(32, 18),
    "Q4_1": BlockFormat(32, 20),
    "Q5_0": BlockFormat(32, 22),
    "Q5_1": BlockFormat(32, 24),
    "Q8_0": BlockFormat(32, 34),
    "Q2_K": BlockFormat(256, 84),
    "Q3_K": BlockFormat(256, 110),
    "Q4_K": BlockFormat(256, 144),
    "Q5_K": BlockFormat(256, 176),
    "Q6_K": BlockFormat(256, 210),
}
"""By ggml's name.  A row of a matrix is always whole blocks."""


def bytes_of(shape: tuple[int, ...], name: str) -> int:
    """Bytes of a tensor of this shape in a format of `BLOCK_FORMATS`."""
    form = BLOCK_FORMATS[name]
    return prod(shape) // form.numbers * form.size
