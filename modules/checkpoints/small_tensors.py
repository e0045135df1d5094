"""A few numbers out of a model file, which tell how a network was trained.  The web process lists with it: standard library."""

from __future__ import annotations

import math
import struct
from pathlib import Path

from modules.checkpoints import keys
from modules.checkpoints.header import Header, open_model
from modules.errors import CheckpointError

MAX_NUMBERS = 20_000
"""Of a tensor that is read: no vector of a network is longer."""

_FORMATS = {"F64": "d", "F32": "f", "F16": "e", "BF16": "H"}


def read_numbers(header: Header, path: Path, name: str) -> tuple[float, ...]:
    """The numbers of the small tensor that `keys.canonical` calls `name`, of the file at `path` with this `header`.

    Empty where there is none of that name, where it is large, in another format, not finite, or the file cannot be read.
    """
    entry = next((entry for stored, entry in header.tensors.items() if keys.canonical(stored) == name), None)
    if entry is None or entry.dtype not in _FORMATS or math.prod(entry.shape) > MAX_NUMBERS:
        return ()
    try:
        with open_model(header.files[entry.file] if header.files else path) as file:
            file.seek(header.data_start + entry.start)
            data = file.read(entry.end - entry.start)
    except (OSError, CheckpointError):
        return ()
    if len(data) != entry.end - entry.start:
        return ()
    count = math.prod(entry.shape)
    values = struct.unpack(f"<{count}{_FORMATS[entry.dtype]}", data)
    if entry.dtype == "BF16":  # the upper half of a float32
        values = struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(half << 16 for half in values)))
    return values if all(map(math.isfinite, values)) else ()
