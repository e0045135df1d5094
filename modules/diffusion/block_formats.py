"""Formats of quantised numbers that come in blocks: how many numbers a block has, and in how many bytes.  No torch.

Source: ggml's `ggml-common.h` (https://github.com/ggml-org/ggml); NF4 as bitsandbytes computes it.
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
    "NF4": BlockFormat(64, 36),
}
"""By ggml's name, and NF4: a scale in float32, and 4 bits of each number.  A row of a matrix is always whole blocks."""

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""What its 4 bits stand for: quantiles of a normal distribution (Dettmers et al. 2023, arXiv:2305.14314, appendix E)."""


def bytes_of(shape: tuple[int, ...], name: str) -> int:
    """Bytes of a tensor of this shape in a format of `BLOCK_FORMATS`."""
    form = BLOCK_FORMATS[name]
    return prod(shape) // form.numbers * form.size
