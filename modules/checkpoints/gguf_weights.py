"""GGUF's blocks of quantised numbers as float32 (`gguf`).

A block has 32 numbers: a scale in float16, for Q4_1 and Q5_1 a least value in float16, for Q5 the fifth bits of all in 32 bits,
and 4 or 8 bits of each; of 4 bits the lower halves of 16 bytes are the first 16 numbers, the upper halves the others.
Source: ggml's `ggml-quants.c`, `dequantize_row_q*`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modules.checkpoints.gguf import BLOCK_BYTES


def dequantised(data: Tensor, dtype: str) -> Tensor:
    """The numbers, float32 and flat, of whole blocks of bytes `data` (n,) in a format of `gguf.BLOCK_BYTES`."""
    blocks = data.view(-1, BLOCK_BYTES[dtype])
    scale, position = _half(blocks, 0), 2
    least = None
    if dtype in ("Q4_1", "Q5_1"):
        least, position = _half(blocks, 2), 4
    if dtype == "Q8_0":
        return (blocks[:, position:].contiguous().view(torch.int8).float() * scale).flatten()
    fifth = None
    if dtype in ("Q5_0", "Q5_1"):
        fifth, position = _bits(blocks[:, position : position + 4]), position + 4
    packed = blocks[:, position:]
    numbers = torch.cat([packed & 15, packed >> 4], dim=1)
    if fifth is not None:
        numbers = numbers | fifth << 4
    if least is not None:
        return (numbers.float() * scale + least).flatten()
    return ((numbers.float() - (16 if fifth is not None else 8)) * scale).flatten()


def _half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of each block, (n, 1) in float32."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _bits(words: Tensor) -> Tensor:
    """The bits of 4 bytes (n, 4), the lowest first: (n, 32) of 0 and 1."""
    shifts = torch.arange(8, dtype=torch.uint8, device=words.device)
    return (words[:, :, None] >> shifts & 1).flatten(1)
