"""Weights in bitsandbytes' 4 bits (NF4, Dettmers et al. 2023, arXiv:2305.14314) as tensors of their own shape.  No torch.

Beside a weight, whose bytes hold two numbers each, lie its `.absmax`, a scale for each 64 numbers; `.quant_map`, what 4 bits
stand for; and `.quant_state.bitsandbytes__nf4`, JSON with its shape.  Where scales are quantised too, `.absmax` has 8 bits,
which are numbers of `.nested_quant_map`, to be multiplied by `.nested_absmax`, one for each 256, and added to an offset of the
JSON.  Source: bitsandbytes' `QuantState.as_dict` and `from_dict`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite, prod
from typing import Any, BinaryIO

from modules.checkpoints.header import Header, Scales, TensorEntry
from modules.diffusion.block_formats import BLOCK_FORMATS, NF4
from modules.errors import CheckpointError

_STATE = ".quant_state.bitsandbytes__"
_BLOCK = BLOCK_FORMATS["NF4"].numbers
MAX_STATE = 2**16
"""Bytes of JSON for a weight; it has some 200."""
MAP_SIZE = 256
"""Numbers for which 8 bits of a scale may stand."""

Read = Callable[[TensorEntry], bytes]
"""The bytes of a tensor."""


def reader(file: BinaryIO, data_start: int) -> Read:
    """Reads tensors of an open file that begin behind `data_start`."""

    def read(entry: TensorEntry) -> bytes:
        file.seek(data_start + entry.start)
        return file.read(entry.end - entry.start)

    return read


def with_nf4(header: Header, read: Read) -> Header:
    """The header with weights in NF4 in the format "NF4" and in their own shape, their scales in their entries.

    Raises:
        CheckpointError: they are in another format of bitsandbytes', or damaged; the message is the rest of a sentence.
    """
    states = [name for name in header.tensors if _STATE in name]
    if not states:
        return header
    tensors = dict(header.tensors)
    for state in states:
        weight, _, kind = state.partition(_STATE)
        if kind != "nf4":
            raise CheckpointError(
                f"has the weight {weight!r} in bitsandbytes' {kind[:20].upper()}; use one in NF4, fp8 or GGUF"
            )
        tensors[weight] = _entry(weight, tensors, read)
        for name in ("absmax", "quant_map", "nested_absmax", "nested_quant_map", _STATE[1:] + kind):
            tensors.pop(f"{weight}.{name}", None)
    return replace(header, tensors=tensors)


def _entry(weight: str, tensors: Mapping[str, TensorEntry], read: Read) -> TensorEntry:
    damaged = CheckpointError(f"has the weight {weight!r} in NF4 and not what belongs to it; download it again")

    def beside(name: str, dtype: str, count: int) -> TensorEntry:
        entry = tensors.get(f"{weight}.{name}")
        if entry is None or entry.dtype != dtype or prod(entry.shape) != count:
            raise damaged
        return entry

    said, packed = _state(tensors[f"{weight}{_STATE}nf4"], read, damaged), tensors.get(weight)
    shape, count = said.get("shape"), said.get("blocksize")
    if not isinstance(shape, list) or not all(isinstance(side, int) and side > 0 for side in shape) or packed is None:
        raise damaged
    if count != _BLOCK or prod(shape) % _BLOCK:
        raise CheckpointError(f"has the weight {weight!r} in blocks of {count} numbers; blocks of {_BLOCK} are read")
    if packed.dtype != "U8" or prod(packed.shape) * 2 != prod(shape):
        raise damaged
    codes = struct.unpack("<16f", read(beside("quant_map", "F32", 16)))
    if any(abs(code - ours) > 1e-6 for code, ours in zip(codes, NF4, strict=True)):
        raise CheckpointError(f"has the weight {weight!r} in 4 bits that stand for other numbers than NF4's; use another file")
    blocks = prod(shape) // _BLOCK
    absmax = tensors.get(f"{weight}.absmax")
    if absmax is None or absmax.dtype != "U8":
        scales = Scales(beside("absmax", "F32", blocks))
    else:
        nested, offset = said.get("nested_blocksize"), said.get("nested_offset")
        if (
            not isinstance(nested, int)
            or not 0 < nested <= 2**20
            or not isinstance(offset, int | float)
            or not isfinite(offset)
        ):
            raise damaged
        outer = beside("nested_absmax", "F32", -(-blocks // nested))
        scales = Scales(
            beside("absmax", "U8", blocks), outer, beside("nested_quant_map", "F32", MAP_SIZE), nested, float(offset)
        )
    return packed._replace(dtype="NF4", shape=tuple(shape), scales=scales)


def _state(entry: TensorEntry, read: Read, damaged: CheckpointError) -> dict[str, Any]:
    if entry.end - entry.start > MAX_STATE:
        raise damaged
    try:
        said = json.loads(read(entry).decode("utf-8"))
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(said, dict):
        raise damaged
    return said
