"""Textual inversions inside pictures, as A1111 shares them: a PNG text `sd-ti-embedding` (base64 of JSON), else two strips
beside the picture, in whose low bits the compressed JSON lies.

The format is that of its `textual_inversion/image_embedding.py`.  Data only, no program: the JSON holds lists of numbers.  No
torch: the web process lists with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from modules.checkpoints.header import open_model
from modules.errors import CheckpointError

SUFFIXES = (".png", ".webp", ".avif")
KEYWORD = "sd-ti-embedding"
MAX_FILE = 64 << 20
"""Bytes of a picture that is looked at."""
MAX_PIXELS = 4096 * 4096
MAX_JSON = 32 << 20
"""Bytes of the text inside; 75 vectors of 1,280 numbers take 2 MB."""

Vectors = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def read_picture(path: Path) -> tuple[str, Vectors] | None:
    """The name that a picture gives its embedding ("" for none) and its vectors (n, width); None where it has none.

    Raises:
        CheckpointError: it has one that cannot be right; the message names the file.
    """
    with open_model(path) as file:
        try:
            if path.stat().st_size > MAX_FILE:
                return None
            with Image.open(file, formats=("PNG", "WEBP", "AVIF")) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                written = getattr(image, "text", {}).get(KEYWORD)
                data = _of_text(written) if written else _of_strips(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError):
            return None  # no picture, or a damaged one: whatever it is, it is no embedding
        except (ValueError, RecursionError, zlib.error) as error:
            raise CheckpointError(f"{path.name} has a damaged embedding inside: {str(error)[:100]}") from None
    return None if data is None else _read(data, path.name)


def _read(data: Any, file: str) -> tuple[str, Vectors]:
    wrong = CheckpointError(
        f"{file} has no textual inversion inside that can be read: string_to_param must hold one list of vectors"
    )
    try:
        (stored,) = data["string_to_param"].values()
        vectors = np.array(stored["TORCHTENSOR"], dtype=np.float32)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise wrong from None
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise wrong
    if not np.isfinite(vectors).all():
        raise CheckpointError(f"{file} has an embedding with NaN or infinity")
    name = data.get("name")
    return name if isinstance(name, str) else "", vectors


def _of_text(written: str) -> Any:
    if len(written) > MAX_JSON:
        raise ValueError("its text is too long")
    try:
        return json.loads(base64.b64decode(written, validate=False))
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None


def _of_strips(pixels: Pixels) -> Any:
    """What the strips left and right of the picture say; None where there are none.

    Low four bits of the left strip are those of the bytes, the right one's the high four, both masked with a fixed sequence;
    a column of black divides each from the picture.
    """
    lit: npt.NDArray[np.bool_] = np.any(pixels, axis=2)
    rows, columns = np.flatnonzero(np.any(lit, axis=1)), np.flatnonzero(np.any(lit, axis=0))
    if not len(rows):
        return None
    low = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    black = np.flatnonzero(~np.any(low, axis=(0, 2)))
    if len(black) < 2:
        return None
    left, right = low[:, : black[0]], low[:, black[-1] + 1 :]
    if left.shape != right.shape or left.size < 64 or left.size > 2 * MAX_PIXELS // 8:
        return None
    mask = _mask(left.size).reshape(left.shape)
    packed = ((right ^ mask) << 4 | (left ^ mask)).tobytes()
    if packed[0] & 0x0F != 8:  # no beginning of a zlib stream: some other picture with black columns
        return None
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, MAX_JSON)
    except zlib.error:
        return None
    return json.loads(text) if inflate.eof else None


def _mask(count: int) -> Pixels:
    """The low bits of a linear congruential sequence from 0 (Numerical Recipes' constants), modulo 255."""
    state, values = 0, bytearray(count)
    for number in range(count):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        values[number] = state % 255 & 0x0F
    return np.frombuffer(bytes(values), np.uint8)
