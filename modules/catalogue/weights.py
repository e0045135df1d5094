"""What a checkpoint's weights take in memory, from its file's header."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from modules.checkpoints.files import CheckpointInfo, read_source
from modules.checkpoints.footprint import Weights, weights_in
from modules.checkpoints.sources import stamp_of
from modules.errors import CheckpointError

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def weights_of(info: CheckpointInfo, dtype: str, keeps_blocks: bool = True) -> int:
    """Bytes that the networks of a checkpoint take in the number format `dtype` ("float16"); 0 where either is not known.

    Kept twice in a file (`model_ema.`) is loaded once.  Without `keeps_blocks` layers whose numbers are quantised in the file
    take that number format too.
    """
    try:
        weights = _weights_in(info.path, *stamp_of(info.path))
    except (OSError, CheckpointError):
        return 0
    return weights.kept(_BYTES[dtype], keeps_blocks) if dtype in _BYTES else 0


@lru_cache(maxsize=64)
def _weights_in(path: Path, *stamp: int) -> Weights:
    """`stamp` is there to read a replaced file anew."""
    return weights_in(read_source(path))
