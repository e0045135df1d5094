"""Small JPEGs of pictures, made when they are asked for and kept in the data folder, by what the picture's bytes are.

The folder is a cache within bounds: what was asked for longest ago goes first, and all of it may be deleted.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

from PIL import Image

from modules.errors import RequestError
from modules.gallery.described import read_file
from modules.images.containers import USUAL, Bounds, read_container
from modules.images.decode import decode

log = logging.getLogger("atelier")

SIDE = 320
"""Pixels of the longer side."""
QUALITY = 82
DECODED = Bounds(1 << 16, 80_000_000)
"""Of pictures that have thumbnails: grids too, as far as Pillow decodes them without a warning."""
SPACE = 1 << 30
"""Bytes that are kept, of some 20 kB each."""
_STALE_S = 86_400
"""Seconds after which being asked for is noted again."""


class Thumbnails:
    """The folder of thumbnails.  Any thread may call."""

    def __init__(self, folder: Path, space: int = SPACE) -> None:
        self.folder, self._space = folder, space
        self._lock, self._large = threading.Lock(), threading.Lock()  # large ones one at a time: hundreds of megabytes each
        self._size: int | None = None

    def get(self, sha256: str, path: Path) -> bytes:
        """The thumbnail of the picture at `path`, whose bytes have this hash.

        Raises:
            RequestError: the picture cannot be decoded; why.
            OSError: it cannot be read.
        """
        kept = self._path(sha256)
        with suppress(OSError):
            jpeg = kept.read_bytes()
            if jpeg.startswith(b"\xff\xd8"):
                if time.time() - kept.stat().st_mtime > _STALE_S:
                    os.utime(kept)
                return jpeg
        data, _ = read_file(path)
        if data is None:
            raise RequestError("it is too large to be read")
        found = read_container(data, "it", DECODED)
        with nullcontext() if USUAL.hold(found.width, found.height) else self._large:
            jpeg = _shrunk(data)
        self._keep(kept, jpeg)
        return jpeg

    def forget(self, sha256: str) -> None:
        with suppress(OSError):
            self._path(sha256).unlink()

    @property
    def full(self) -> bool:
        """Whether `trim` has something to do."""
        return self._size is None or self._size > self._space

    def trim(self) -> None:
        """Count what is there, and make room where it is too much."""
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                there = path.stat()
                if path.suffix == ".jpg":
                    found.append((there.st_mtime, there.st_size, path))
                elif path.suffix == ".part" and time.time() - there.st_mtime > _STALE_S:
                    path.unlink()  # its writer died
        size = sum(one[1] for one in found)
        if size > self._space:
            for _, bytes_, path in sorted(found):
                with suppress(OSError):
                    path.unlink()
                    size -= bytes_
                if size <= self._space * 9 // 10:
                    break
        with self._lock:
            self._size = size

    def _path(self, sha256: str) -> Path:
        assert re.fullmatch("[0-9a-f]{64}", sha256)
        return self.folder / sha256[:2] / f"{sha256}.jpg"

    def _keep(self, path: Path, jpeg: bytes) -> None:
        """Without it, it is made again each time."""
        part = path.with_name(f"{secrets.token_hex(8)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(jpeg)
            part.replace(path)
        except OSError as error:
            log.warning("a thumbnail is not kept: %s", error.strerror or error)
            with suppress(OSError):
                part.unlink()
            return
        with self._lock:
            self._size = None if self._size is None else self._size + len(jpeg)


def _shrunk(data: bytes) -> bytes:
    image = decode(data, "it", DECODED)
    if image.mode == "RGBA":
        below = Image.new("RGB", image.size, (128, 128, 128))
        below.paste(image, mask=image.getchannel("A"))
        image = below
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
