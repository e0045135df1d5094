"""GGUF's formats of 256 numbers by the description of their blocks, number by number in NumPy's float32: a slow twin; and any
blocks of all formats.

Source: the comments of ggml's `ggml-common.h`: super-blocks of 256 weights, their parts, and where the bits of each are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from modules.diffusion.block_formats import BLOCK_FORMATS

BLOCK_BYTES = {"Q2_K": 84, "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
_FACTORS = {
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
}
"""At which bytes of a block the float16 are."""


def random_blocks(generator: np.random.Generator, count: int, dtype: str, size: float = 1e-4) -> bytes:
    """Any blocks whose float16 are finite, of about this size."""
    data = generator.integers(0, 256, (count, BLOCK_FORMATS[dtype].size), dtype=np.uint8)
    for start in _FACTORS[dtype]:
        data[:, start : start + 2] = (size * generator.normal(size=(count, 1))).astype("<f2").view(np.uint8)
    return data.tobytes()


def k_twin(data: bytes, dtype: str) -> np.ndarray:
    """The numbers of blocks, one after the other."""
    size, of_block = BLOCK_BYTES[dtype], {"Q2_K": _q2, "Q3_K": _q3, "Q4_K": _q4, "Q5_K": _q5, "Q6_K": _q6}[dtype]
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    return np.array([number for block in blocks for number in of_block(block)], np.float32)


def _factor(block: bytes, start: int) -> np.float32:
    return np.float32(struct.unpack("<e", block[start : start + 2])[0])


def _q2(block: bytes) -> Iterator[np.float32]:
    """16 parts of 16: a byte each, its lower half the scale, its upper half the least value; 2 bits of a number, of which those
    of 32 neighbours lie in 32 bytes at one place, and 4 times 32 share these bytes."""
    for number in range(256):
        part, (half, within) = number // 16, divmod(number, 128)
        bits = block[16 + 32 * half + within % 32] >> 2 * (within // 32) & 3
        scale = _factor(block, 80) * np.float32(block[part] & 15)
        yield scale * np.float32(bits) - _factor(block, 82) * np.float32(block[part] >> 4)


def _q3(block: bytes) -> Iterator[np.float32]:
    """As Q2_K with a third bit, which takes 4 where it is not set; scales of 6 bits less 32: four in two bytes and a half."""
    scales = block[96:108]
    for number in range(256):
        part, (half, within) = number // 16, divmod(number, 128)
        low = scales[part] & 15 if part < 8 else scales[part - 8] >> 4
        high = scales[8 + part % 4] >> 2 * (part // 4) & 3
        bits = block[32 + 32 * half + within % 32] >> 2 * (within // 32) & 3
        third = block[number % 32] >> number // 32 & 1
        factor = _factor(block, 108) * np.float32((low | high << 4) - 32)
        yield factor * np.float32(bits - (0 if third else 4))


def _six_bits(packed: bytes, part: int) -> tuple[int, int]:
    """Scale and least value of one of 8 parts."""
    if part < 4:
        return packed[part] & 63, packed[part + 4] & 63
    low = packed[part + 4]
    return low & 15 | packed[part - 4] >> 6 << 4, low >> 4 | packed[part] >> 6 << 4


def _q4(block: bytes, start: int = 16) -> Iterator[np.float32]:
    """8 parts of 32: 32 bytes hold two parts, the first in their lower halves."""
    for number in range(256):
        part = number // 32
        bits = block[start + 32 * (part // 2) + number % 32] >> 4 * (part % 2) & 15
        if start != 16:
            bits += 16 * (block[16 + number % 32] >> part & 1)
        scale, least = _six_bits(block[4:16], part)
        yield _factor(block, 0) * np.float32(scale) * np.float32(bits) - _factor(block, 2) * np.float32(least)


def _q5(block: bytes) -> Iterator[np.float32]:
    """As Q4_K; of 32 bytes before the numbers each bit is the fifth of a part's numbers."""
    yield from _q4(block, 48)


def _q6(block: bytes) -> Iterator[np.float32]:
    """16 parts of 16 with scales of 8 bits and a sign; of 128 numbers 64 bytes hold the lower 4 bits, 32 bytes the upper 2."""
    for number in range(256):
        half, within = divmod(number, 128)
        low = block[64 * half + within % 64] >> 4 * (within // 64) & 15
        high = block[128 + 32 * half + within % 32] >> 2 * (within // 32) & 3
        (scale,) = struct.unpack("<b", block[192 + number // 16 : 193 + number // 16])
        yield _factor(block, 208) * np.float32(scale) * np.float32((low | high << 4) - 32)
