"""GGUF files for tests, and their quantised formats by the description of the format, in NumPy: a slow twin.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the comments of `ggml-common.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modules.diffusion.block_formats import BLOCK_FORMATS
from tests import k_quants

NUMBERS = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "BF16": 30,
    "Q2_K": 10,
    "Q3_K": 11,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "IQ3_XXS": 18,
    "IQ4_XS": 23,
    "TQ2_0": 35,
}
BLOCK_BYTES = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}


def twin(data: bytes, dtype: str) -> np.ndarray:
    """The numbers of blocks, one after the other."""
    size, numbers = BLOCK_BYTES[dtype], []
    for start in range(0, len(data), size):
        block = data[start : start + size]
        (scale,) = struct.unpack("<e", block[:2])
        position, least = 2, 0.0
        if dtype[3] == "1":
            (least,) = struct.unpack("<e", block[2:4])
            position = 4
        if dtype == "Q8_0":
            numbers += [np.float32(scale) * np.float32(each) for each in struct.unpack("<32b", block[2:])]
            continue
        high = 0
        if dtype[1] == "5":
            (high,) = struct.unpack("<I", block[position : position + 4])
            position += 4
        packed = block[position:]
        for number in range(32):
            value = packed[number] & 15 if number < 16 else packed[number - 16] >> 4
            if dtype[1] == "5":
                value |= (high >> number & 1) << 4
            if dtype[3] == "0":
                value -= 16 if dtype[1] == "5" else 8
            numbers.append(np.float32(value) * np.float32(scale) + np.float32(least))
    return np.array(numbers, np.float32)


def quantised(values: np.ndarray, dtype: str) -> bytes:
    """Values (a multiple of 32) in a format, by rounding to the nearest."""
    data = b""
    for block in values.astype(np.float32).reshape(-1, 32):
        if dtype[3] == "1":
            levels = 15 if dtype[1] == "4" else 31
            least = np.float16(block.min())
            scale = np.float16((block.max() - block.min()) / levels)
            numbers = np.clip(np.round((block - np.float32(least)) / max(np.float32(scale), 1e-8)), 0, levels).astype(int)
            head = struct.pack("<ee", scale, least)
        else:
            most = {"8": 127, "5": 15, "4": 7}[dtype[1]]
            scale = np.float16(np.abs(block).max() / most)
            numbers = np.clip(np.round(block / max(np.float32(scale), 1e-8)), -most, most).astype(int)
            head = struct.pack("<e", scale)
            if dtype == "Q8_0":
                data += head + struct.pack("<32b", *numbers)
                continue
            numbers = numbers + most + 1
        if dtype[1] == "5":
            head += struct.pack("<I", sum((int(number) >> 4 & 1) << place for place, number in enumerate(numbers)))
        low = numbers & 15
        data += head + bytes(int(low[place] | low[place + 16] << 4) for place in range(16))
    return data


def write_gguf(
    path: Path,
    tensors: Mapping[str, tuple[np.ndarray, str]],
    metadata: Mapping[str, Any] | None = None,
    version: int = 3,
    cut: int = 0,
    drawn: bool = False,
) -> Path:
    """Write arrays, each in its format; `cut` bytes are missing at the end.

    Formats of 256 numbers get numbers of their own, always the same, and with `drawn` those of 32 too, which is quicker.
    """
    said = {"general.architecture": "flux", **(metadata or {})}
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(said))
    for name, value in said.items():
        head += _text(name) + _value(value)
    data = b""
    for name, (array, dtype) in tensors.items():
        head += _text(name) + struct.pack("<I", array.ndim)
        head += b"".join(struct.pack("<Q", side) for side in reversed(array.shape))
        head += struct.pack("<IQ", NUMBERS[dtype], len(data))
        raw = _raw(array, dtype, drawn)
        data += raw + bytes(-len(raw) % 32)
    head += bytes(-len(head) % 32)
    whole = head + data
    path.write_bytes(whole[: len(whole) - cut] if cut else whole)
    return path


def _raw(array: np.ndarray, dtype: str, drawn: bool) -> bytes:
    if dtype == "F32":
        return array.astype("<f4").tobytes()
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    if dtype == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype in k_quants.BLOCK_BYTES or (drawn and dtype in BLOCK_BYTES):
        form = BLOCK_FORMATS[dtype]
        size = 1e-4 if form.numbers == 256 else 5e-4 if dtype == "Q8_0" else 5e-3
        return k_quants.random_blocks(np.random.default_rng(array.size), array.size // form.numbers, dtype, size)
    return quantised(array, dtype) if dtype in BLOCK_BYTES else bytes(array.size)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    kind = {str: 8, float: 6, int: 5}[type(value[0])]
    items = {8: _text, 6: lambda each: struct.pack("<f", each), 5: lambda each: struct.pack("<i", each)}[kind]
    return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(items(each) for each in value)
