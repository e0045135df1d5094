"""The numbers in blocks of quantised ones (`block_formats`), as float32.

Source: ggml's `ggml-quants.c`, `dequantize_row_q*`.  Every product and sum is rounded to float32 as it is there, so the numbers
are ggml's to the bit.

Blocks of 32 numbers have a scale in float16, for Q4_1 and Q5_1 a least value in float16, for Q5 the fifth bits of all in 32
bits, and 4 or 8 bits of each; of 4 bits the lower halves of 16 bytes are the first 16 numbers, the upper halves the others.
Blocks of 256 (K) have parts of 16 or 32 numbers, with a whole number of 4, 6 or 8 bits for the scale of each part (and one for
its least value), which are multiplied by one or two numbers in float16.  NF4's of 64 are bitsandbytes', their scale in front.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from modules.diffusion import transfers
from modules.diffusion.block_formats import BLOCK_FORMATS, NF4

AT_ONCE, AT_ONCE_CPU = 2**23, 2**20
"""Numbers that `write_numbers` makes at once, about: what is in between takes some 100 MB, however large a matrix is.  On a CPU
it stays in its caches with fewer: a matrix of 3072x3072 in Q4_0 took 0.04 s instead of 0.08 (one Xeon core)."""


def dequantised(data: Tensor, name: str) -> Tensor:
    """The numbers, float32 and flat, of whole blocks of bytes `data` (n,) in a format of `BLOCK_FORMATS`."""
    return _READ[name](data.reshape(-1, BLOCK_FORMATS[name].size)).flatten()


def write_numbers(rows: Tensor, name: str, into: Tensor) -> None:
    """Write the numbers of whole blocks of bytes `rows` (out, bytes of a row) into a matrix (out, in) of any number format."""
    most = AT_ONCE_CPU if rows.device.type == "cpu" else AT_ONCE
    many = max(1, most // max(1, into.shape[1]))
    for first in range(0, len(rows), many):
        target = into[first : first + many]
        target.copy_(dequantised(rows[first : first + many], name).view(target.shape))


# ---- of 32 numbers


def _q4_0(blocks: Tensor) -> Tensor:
    return (_halves(blocks[:, 2:]).float() - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _halves(blocks[:, 4:]).float() * _half(blocks, 0) + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    numbers = _halves(blocks[:, 6:]) | _bits(blocks[:, 2:6]) << 4
    return (numbers.float() - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    numbers = _halves(blocks[:, 8:]) | _bits(blocks[:, 4:8]) << 4
    return numbers.float() * _half(blocks, 0) + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _signed(blocks[:, 2:]) * _half(blocks, 0)


# ---- of 256 numbers: (n, parts, numbers of a part) times (n, parts, 1)


def _q2_k(blocks: Tensor) -> Tensor:
    """16 bytes of scales and least values, 64 of numbers, and what those two are multiplied by."""
    scales, numbers = blocks[:, :16], _spread(blocks[:, 16:80], 2, 32).view(-1, 16, 16)
    scale, least = _half(blocks, 80) * (scales & 15).float(), _half(blocks, 82) * (scales >> 4).float()
    return scale[..., None] * numbers.float() - least[..., None]


def _q3_k(blocks: Tensor) -> Tensor:
    """32 bytes of third bits, 64 of numbers, 12 of scales, and what these are multiplied by."""
    high, numbers, packed = blocks[:, :32], _spread(blocks[:, 32:96], 2, 32).view(-1, 16, 16), blocks[:, 96:108]
    upper = _spread(packed[:, 8:], 2, 4)
    scales = (torch.cat([packed[:, :8] & 15, packed[:, :8] >> 4], dim=1) | upper << 4).float() - 32
    values = numbers.float() - 4 * (1 - _spread(high, 1, 32).view(-1, 16, 16).float())
    return (_half(blocks, 108) * scales)[..., None] * values


def _q4_k(blocks: Tensor) -> Tensor:
    """What scales and least values are multiplied by, 12 bytes of both, and 128 of numbers."""
    scale, least = _scales_of_8(blocks)
    return scale * _spread(blocks[:, 16:], 4, 32).view(-1, 8, 32).float() - least


def _q5_k(blocks: Tensor) -> Tensor:
    """As Q4_K, with 32 bytes of fifth bits before the numbers."""
    scale, least = _scales_of_8(blocks)
    numbers = _spread(blocks[:, 48:], 4, 32) | _spread(blocks[:, 16:48], 1, 32) << 4
    return scale * numbers.view(-1, 8, 32).float() - least


def _q6_k(blocks: Tensor) -> Tensor:
    """128 bytes of lower halves, 64 of upper bits, 16 scales with a sign, and what these are multiplied by."""
    numbers = _spread(blocks[:, :128], 4, 64) | _spread(blocks[:, 128:192], 2, 32) << 4
    scales = _half(blocks, 208) * _signed(blocks[:, 192:208])
    return scales[..., None] * (numbers.view(-1, 16, 16).float() - 32)


def _scales_of_8(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and least value of each of 8 parts, (n, 8, 1): 6 bits of both in 12 bytes.

    Those of the first four parts are the lower 6 bits of the first 8 bytes; those of the others have their lower 4 bits in the
    last 4 bytes and their upper 2 above the first ones'.
    """
    packed = blocks[:, 4:16]
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, last & 15 | first >> 6 << 4], dim=1)
    least = torch.cat([second & 63, last >> 4 | second >> 6 << 4], dim=1)
    return (_half(blocks, 0) * scales.float())[..., None], (_half(blocks, 2) * least.float())[..., None]


# ---- of 64 numbers


def _nf4(blocks: Tensor) -> Tensor:
    """The scale in float32; of a byte the upper half is the first number."""
    packed = blocks[:, 4:]
    numbers = torch.stack([packed >> 4, packed & 15], dim=-1).flatten(1)
    return _codes(blocks.device)[numbers.int()] * blocks[:, :4].contiguous().view(torch.float32)


@lru_cache(maxsize=8)
def _codes(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it outlives the caller's mode
        return transfers.numbers(NF4, device)


# ---- bytes


def _half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of each block, (n, 1) in float32."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _signed(data: Tensor) -> Tensor:
    """Bytes as whole numbers from -128 to 127, in float32."""
    return data.contiguous().view(torch.int8).float()


def _halves(data: Tensor) -> Tensor:
    """Of bytes (n, k) first all lower halves, then all upper ones: (n, 2 k)."""
    return torch.cat([data & 15, data >> 4], dim=1)


def _spread(data: Tensor, bits: int, run: int) -> Tensor:
    """Numbers of so many `bits` in bytes (n, k), as (n, 8 k / bits): of each `run` of bytes first the lowest bits of all."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=data.device)
    runs = data.reshape(len(data), -1, 1, run)
    spread: Tensor = runs >> shifts[:, None] & 2**bits - 1
    return spread.flatten(1)


def _bits(words: Tensor) -> Tensor:
    """The bits of 4 bytes (n, 4), the lowest first: (n, 32) of 0 and 1."""
    return _spread(words, 1, 1)


_READ: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "NF4": _nf4,
}
