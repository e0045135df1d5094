"""Texts in the lowest bits of pixels, where NovelAI and extensions of other programs hide a copy that survives re-uploading.

Bits stand column by column from the left, each column from the top: in the alpha channel, or in R, G, B of each pixel in turn.
A signature of 15 bytes, the number of bits as 32 bits big-endian, then UTF-8, compressed by gzip or not.

Format: NovelAI's `novelai-image-metadata` and the extension "stealth pnginfo", whose layout is matched.
"""

from __future__ import annotations

import zlib

import numpy as np
from PIL import Image

_MARK = 15
_HEAD = _MARK + 4
MAX_HIDDEN = 1 << 20
"""Bytes that are unpacked."""


def hidden_text(image: Image.Image) -> str:
    """The hidden text of an "RGB" or "RGBA" picture, "" when there is none.  Never raises."""
    pixels = np.asarray(image)
    for place in ("png", "rgb"):
        if place == "png" and image.mode != "RGBA":
            continue
        bits = _Bits(pixels[..., 3:] if place == "png" else pixels[..., :3])
        mark = bits.read(0, _MARK)
        if mark not in (f"stealth_{place}info".encode(), f"stealth_{place}comp".encode()):
            continue
        length = int.from_bytes(bits.read(_MARK, 4), "big") // 8
        if not 0 < length <= MAX_HIDDEN:
            continue
        data = bits.read(_HEAD, length)
        return _unpacked(data) if mark.endswith(b"comp") else data.decode("utf-8", "replace")
    return ""


class _Bits:
    """The lowest bits of some channels as bytes."""

    def __init__(self, channels: np.ndarray) -> None:
        self._channels = channels

    def read(self, at: int, count: int) -> bytes:
        """`count` bytes from byte `at`; fewer when there are no more.  Only the columns that hold them are looked at."""
        height, width, depth = self._channels.shape
        per_column = height * depth
        first = at * 8 // per_column
        last = min(width, ((at + count) * 8 + per_column - 1) // per_column)
        columns = self._channels[:, first:last] & 1
        stream = columns.transpose(1, 0, 2).reshape(-1)[at * 8 - first * per_column :][: count * 8]
        return np.packbits(stream).tobytes()


def _unpacked(data: bytes) -> str:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, MAX_HIDDEN).decode("utf-8", "replace")
    except zlib.error:
        return ""
