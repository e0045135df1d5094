"""Pictures that are fine, and pictures that are made to hurt; small files all of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(width: int, height: int, mode: str = "RGB", seed: int = 0, **save: Any) -> bytes:
    """A small sound picture, each seed another."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encoded(Image.fromarray(values).convert(mode), "PNG", **save)


def encoded(image: Image.Image, kind: str, **save: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **save)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bare_png(width: int, height: int, depth: int = 8, colour: int = 2, between: bytes = b"", rows: bytes = b"") -> bytes:
    """A PNG by hand: whatever size it claims, with as little data as is given."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return SIGNATURE + head + between + chunk(b"IDAT", rows) + chunk(b"IEND")


def flat_png(width: int, height: int) -> bytes:
    """One bit a pixel, all black: a whole, valid file that is thousands of times smaller than its pixels."""
    line = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(line) for _ in range(height)] + [packer.flush()])
    return bare_png(width, height, depth=1, colour=0, rows=data)


def text_bomb(kind: bytes, chunks: int, mebibytes: int = 1) -> bytes:
    """Compressed texts that become large when they are read."""
    packed = zlib.compress(b"a" * (mebibytes << 20), 9)
    parts = {
        b"zTXt": lambda k: b"k%d\0\0" % k + packed,
        b"iTXt": lambda k: b"k%d\0\1\0\0\0" % k + packed,
        b"iCCP": lambda k: b"p%d\0\0" % k + packed,
    }
    between = b"".join(chunk(kind, parts[kind](k)) for k in range(chunks))
    return bare_png(8, 8, between=between, rows=zlib.compress((b"\0" + b"\x40\x50\x60" * 8) * 8))


def long_text(mebibytes: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a" * (mebibytes << 20))
    return encoded(Image.new("RGB", (8, 8)), "PNG", pnginfo=info)


def many_frames(count: int) -> bytes:
    """An APNG that says that it has so many frames."""
    frame = chunk(b"acTL", struct.pack(">II", count, 0))
    control = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 10, 0, 0)
    rows = zlib.compress((b"\0" + b"\x40\x50\x60" * 8) * 8)
    frames = [chunk(b"fcTL", control)]
    body = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * k + 1) + control[4:]) + chunk(b"fdAT", struct.pack(">I", 2 * k + 2) + rows)
        for k in range(count - 1)
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    return SIGNATURE + head + frame + b"".join(frames) + chunk(b"IDAT", rows) + body + chunk(b"IEND")


def exif_loop() -> bytes:
    """EXIF whose directory's next directory is itself."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    return encoded(Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG", exif=b"Exif\0\0" + tiff)
