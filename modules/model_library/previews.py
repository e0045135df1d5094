"""Preview pictures of models: read from any neighbour, served only as small JPEGs that are made here, and written for A1111."""

from __future__ import annotations

import io
import struct
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from modules.errors import RequestError
from modules.images import png
from modules.images.decode import decode
from modules.model_library.neighbours import MAX_PICTURE, NotOurs, read_bytes

SIDE, WRITTEN_SIDE = 384, 512
"""Pixels of the longer side: of what is served, and of what is written."""
MAX_KEPT = 48 << 20
"""Bytes of small pictures in memory."""
MAX_GIF = 33_500_000


class Previews:
    """Small pictures by what tells them apart, the most recently asked for kept.  Any thread may call."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def get(self, key: str, path: Path) -> bytes:
        """A JPEG of at most `SIDE` pixels of the picture at `path`; empty where there is none that can be read."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        jpeg = shrunk(path)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = jpeg
                self._size += len(jpeg)
            while self._size > MAX_KEPT or len(self._kept) > 20_000:
                self._size -= len(self._kept.popitem(last=False)[1])
        return jpeg


def shrunk(path: Path) -> bytes:
    """See `Previews.get`."""
    try:
        data = read_bytes(path, MAX_PICTURE)
        image = first_frame(data) if data[:4] == b"GIF8" else decode(data)
    except (OSError, NotOurs, RequestError):
        return b""
    small = _opaque(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=86)
    return buffer.getvalue()


def first_frame(data: bytes) -> Image.Image:
    """The first frame of a GIF, within the bounds of `images.decode`.

    Raises:
        RequestError: it is too large or damaged.
    """
    try:
        width, height = struct.unpack("<HH", data[6:10])
        if width * height > MAX_GIF:
            raise RequestError("the picture is too large")
        with Image.open(io.BytesIO(data), formats=["GIF"]) as image:
            if image.size[0] * image.size[1] > MAX_GIF:
                raise RequestError("the picture is too large")
            return image.convert("RGBA")
    except RequestError:
        raise
    except Exception:  # what Pillow's decoders raise has no common base
        raise RequestError("the picture is damaged") from None


def written(data: bytes, infotext: str) -> bytes:
    """A picture of ours as the file of a preview: a PNG of at most `WRITTEN_SIDE` pixels with its recipe.

    Raises:
        RequestError: it is no picture (any more).
    """
    image = _opaque(decode(data))
    image.thumbnail((WRITTEN_SIDE, WRITTEN_SIDE), Image.Resampling.LANCZOS)
    texts = {png.PARAMETERS: infotext} if infotext and len(infotext.encode()) <= png.MAX_TEXT else {}
    return png.encode(image.tobytes(), image.width, image.height, texts)


def _opaque(image: Image.Image) -> Image.Image:
    """On white, where something is transparent."""
    if image.mode == "RGB":
        return image
    ground = Image.new("RGB", image.size, (255, 255, 255))
    rgba = image.convert("RGBA")
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground
