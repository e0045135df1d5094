"""A finished picture as the bytes of a file, in the format that is set.

Every format carries A1111's text and our whole record (`metadata` knows where).  What a format cannot hold, a picture of too
many pixels or texts too long for a JPEG, becomes a PNG instead: nothing of a picture or its recipe is ever lost to a format.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from modules.images import png
from modules.images.metadata import MAX_SEGMENT, exif_block, xmp_packet

Kind = Literal["png", "jpeg", "webp", "avif"]

SUFFIXES: dict[Kind, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}
KINDS: dict[str, Kind] = {suffix: kind for kind, suffix in SUFFIXES.items()} | {".jpeg": "jpeg"}
"""The format that a file of this suffix has."""

_MAX_SIDE: dict[Kind, int] = {"png": 2**31 - 1, "jpeg": 65_535, "webp": 16_383, "avif": 65_536}
_FULL_COLOUR = 90  # from this quality on colours keep the full resolution
_XMP_HEADER = 31  # bytes that Pillow puts in front of a JPEG's XMP packet, its segment's two for the length included


@dataclass(frozen=True)
class Form:
    """How pictures are saved.  `quality` 1 to 100 is that of the lossy formats; a WebP of 100 is lossless."""

    kind: Kind = "png"
    quality: int = 90


def form_of(kind: str, quality: int) -> Form:
    """The form that settings name."""
    return Form(KINDS[f".{kind}"], quality)


@dataclass(frozen=True)
class Encoded:
    """The bytes of a file, and the suffix of what they are, which may be another format than was asked for."""

    data: bytes
    suffix: str


def encode(
    pixels: bytes, width: int, height: int, infotext: str, record: str, form: Form, chunks: Mapping[str, str] | None = None
) -> Encoded:
    """RGB8 pixels (height x width x 3 bytes, rows from the top) with both texts; an empty text is left out.

    `chunks` are a PNG's texts beside our record where they are others than `infotext` under A1111's name.

    Raises:
        ValueError: the pixels are not width x height x 3 bytes, or the texts are longer than `png.MAX_TEXT`.
    """
    if form.kind != "png" and max(width, height) <= _MAX_SIDE[form.kind]:
        if len(pixels) != width * height * 3:
            raise ValueError(f"{width}x{height} RGB is {width * height * 3} bytes, {len(pixels)} were given")
        exif, xmp = exif_block(infotext) if infotext else b"", xmp_packet(record) if record else b""
        if form.kind != "jpeg" or (len(exif) <= MAX_SEGMENT and len(xmp) + _XMP_HEADER <= MAX_SEGMENT):
            return Encoded(_lossy(pixels, width, height, exif, xmp, form), SUFFIXES[form.kind])
    texts = {**({png.PARAMETERS: infotext} if chunks is None else chunks), png.RECORD: record}
    return Encoded(png.encode(pixels, width, height, {key: text for key, text in texts.items() if text}), ".png")


def _lossy(pixels: bytes, width: int, height: int, exif: bytes, xmp: bytes, form: Form) -> bytes:
    full = form.quality >= _FULL_COLOUR
    options: dict[Kind, dict[str, object]] = {
        "jpeg": {"quality": form.quality, "subsampling": "4:4:4" if full else "4:2:0", "optimize": True},
        "webp": {"lossless": True, "quality": 80} if form.quality == 100 else {"quality": form.quality, "method": 4},
        "avif": {"quality": form.quality, "subsampling": "4:4:4" if full else "4:2:0"},
    }
    texts = {name: block for name, block in (("exif", exif), ("xmp", xmp)) if block}
    buffer = io.BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(buffer, form.kind.upper(), **texts, **options[form.kind])
    return buffer.getvalue()
