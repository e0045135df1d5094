"""Philox 4x32-10, the counter-based generator of CUDA, so that a seed gives a GPU's numbers without one.

Salmon et al. (2011, "Parallel random numbers: as easy as 1, 2, 3"), figures 4 and 7; the way from its words to normal values is
that of cuRAND and of A1111's random number source "NV".  Equal to `torch.randn` on a CUDA device to float rounding, for
tensors that one launch covers with one value per thread, which latents are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

_UNIT = np.float32(2.3283064e-10)
"""2^-32 in single precision, as cuRAND has it."""
_TURN = np.float32(2.3283064e-10 * 6.2831855)

Words = npt.NDArray[np.uint64]


class Philox:
    """One stream of normal values; each draw begins at a new offset of the counter."""

    def __init__(self, seed: int) -> None:
        self.key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
        self.offset = 0

    def randn(self, shape: Sequence[int]) -> npt.NDArray[np.float32]:
        """The next unit normal values, float32.  Value i has counter (offset, 0, i, 0), and of its four words two are used."""
        count = int(np.prod(shape))
        zeros = np.zeros(count, np.uint64)
        counter = [zeros + np.uint64(self.offset), zeros, np.arange(count, dtype=np.uint64), zeros]
        self.offset += 1
        first, second, _, _ = _philox(counter, self.key)
        return _box_muller(first, second).reshape(tuple(shape))


def _philox(counter: list[Words], key: tuple[int, int]) -> list[Words]:
    for turn in range(_ROUNDS):
        high_key, low_key = (np.uint64((k + turn * weyl) & 0xFFFFFFFF) for k, weyl in zip(key, _WEYL, strict=True))
        product_0, product_2 = counter[0] * _MULTIPLIERS[0], counter[2] * _MULTIPLIERS[1]
        counter = [
            (product_2 >> _SHIFT) ^ counter[1] ^ high_key,
            product_2 & _WORD,
            (product_0 >> _SHIFT) ^ counter[3] ^ low_key,
            product_0 & _WORD,
        ]
    return counter


def _box_muller(first: Words, second: Words) -> npt.NDArray[np.float32]:
    """Box & Muller (1958), its sine half; computed in double precision from the single precision constants."""
    u = first.astype(np.float64) * _UNIT + _UNIT / 2
    v = second.astype(np.float64) * _TURN + _TURN / 2
    return (np.sqrt(-2.0 * np.log(u)) * np.sin(v)).astype(np.float32)
