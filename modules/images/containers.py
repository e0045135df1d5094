"""What a picture file is made of, found by walking it without decoding a pixel: its size, its texts, and its essence.

The essence is the same picture with everything removed that is not needed to decode it, so that no decoder ever sees an
untrusted text, colour profile, thumbnail or EXIF block.  AVIF is the exception: its metadata stands in tables that the
decoder reads anyway.  This file knows PNG, JPEG, WebP and AVIF by their content; names and suffixes mean nothing to it.

Formats: PNG, third edition (W3C 2025); JPEG, ITU-T T.81 annex B; WebP, RFC 9649; AVIF 1.2 in ISO/IEC 23008-12 boxes.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from PIL import Image

from modules.errors import RequestError
from modules.images import avif, png

MAX_METADATA = 1 << 20
"""Bytes of EXIF that a file may carry, and of XMP that are read."""
MAX_PIECES = 100_000
"""Chunks or segments of one file."""
MAX_SCANS = 64
"""Passes over the picture in a progressive JPEG, which usually has ten: each costs as much as decoding the picture."""


@dataclass(frozen=True)
class Bounds:
    """Pixels that a picture may have: a side, and in all."""

    side: int
    pixels: int

    def hold(self, width: int, height: int) -> bool:
        return max(width, height) <= self.side and width * height <= self.pixels


USUAL = Bounds(8192, 33_554_432)
"""Of pictures that are decoded, whoever sent them."""
WALKED = Bounds(1 << 18, 1 << 29)
"""Of files in the outputs folder that are read and not decoded: grids are larger than any picture of them."""


@dataclass(frozen=True)
class Container:
    """`kind` is PNG, JPEG, WEBP or AVIF; width and height in pixels as stored, before any rotation that EXIF asks for.

    `texts` are a PNG's by keyword; `exif` and `xmp` are raw, empty when there are none; `comment` is a JPEG's.
    `left_out` names the texts that were too long to be read; colour profiles of any size are cut away unread.
    """

    kind: str
    width: int
    height: int
    essence: bytes = field(repr=False)
    texts: dict[str, str] = field(default_factory=dict)
    exif: bytes = b""
    xmp: bytes = b""
    comment: bytes = b""
    left_out: tuple[str, ...] = ()


def read_container(data: bytes, name: str = "the picture", bounds: Bounds = USUAL) -> Container:
    """What the file says before it is decoded.

    Raises:
        RequestError: not one of the four formats, damaged, too large in pixels, or with more EXIF than is read.
    """
    if not data:
        raise RequestError(f"{name} is empty")
    if len(data) > png.MAX_FILE:
        raise RequestError(f"{name} has {len(data) >> 20} MiB; at most {png.MAX_FILE >> 20} MiB are read")
    walk = next((walk for begins, walk in _WALKS if begins.match(data)), None)
    if walk is None:
        raise RequestError(f"{name} is not a picture that is read here; PNG, JPEG, WebP and AVIF are")
    try:
        found = walk(data, name, bounds)
    except RequestError:
        raise
    except (Exception, Image.DecompressionBombWarning):
        raise RequestError(f"{name} is damaged: it cannot be read as the picture that it begins as") from None
    if len(found.exif) > MAX_METADATA:
        raise RequestError(f"{name} carries {len(found.exif) >> 10} KiB of EXIF; at most {MAX_METADATA >> 10} KiB are read")
    if len(found.xmp) > MAX_METADATA:
        return replace(found, xmp=b"", left_out=(*found.left_out, "XMP"))
    return found


def check_size(width: int, height: int, name: str, bounds: Bounds) -> None:
    """Refuse what would take too much memory, before any of it is taken.

    Raises:
        RequestError: more than `bounds` hold, or nothing at all.
    """
    if width < 1 or height < 1:
        raise RequestError(f"{name} is damaged: it has no size")
    if not bounds.hold(width, height):
        most = f"at most {bounds.side} a side and {bounds.pixels:,} in all are read"
        raise RequestError(f"{name} has {width}x{height} pixels; {most}")


def _png(data: bytes, name: str, bounds: Bounds) -> Container:
    header = png.read_texts(data, name)
    check_size(header.width, header.height, name, bounds)
    kept, exif = [data[:8]], b""
    at, pieces = 8, 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[at:end])
        elif kind == b"eXIf" and not exif:
            exif = data[at + 8 : end - 4]
        at, pieces = end, pieces + 1
        if pieces > MAX_PIECES:
            raise RequestError(f"{name} is damaged: it has more than {MAX_PIECES:,} pieces")
        if kind == b"IEND":
            break
    xmp = header.texts.get("XML:com.adobe.xmp", "").encode()
    return Container("PNG", header.width, header.height, b"".join(kept), header.texts, exif, xmp, left_out=header.left_out)


_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""In the middle of entropy-coded data, where 0xFF is followed by 0 when it is data, and restart markers stand alone."""
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def _jpeg(data: bytes, name: str, bounds: Bounds) -> Container:
    kept = [data[:2]]
    exif, xmp, comment = b"", b"", b""
    width = height = scans = 0
    at = 2
    for _ in range(MAX_PIECES):
        found = _NEXT_MARKER.match(data, at)
        if found is None:
            break  # cut short: the decoder shall say whether enough is left
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0x01:
            continue
        if at + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise RequestError(f"{name} is damaged: a segment has no length")
        body, at = data[at + 2 : at + length], at + length
        if marker == 0xE1 and body.startswith(_EXIF):
            exif = exif or body
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = xmp or body.removeprefix(_XMP)
        elif marker == 0xFE:
            comment = comment or body
        if (0xE0 < marker <= 0xEF and marker != 0xEE) or marker == 0xFE:
            continue  # the first, JFIF, and Adobe's say what the colours are; the rest is for others
        kept.append(b"\xff" + bytes([marker]) + struct.pack(">H", length) + body)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", body, 1)
            check_size(width, height, name, bounds)
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise RequestError(
                    f"{name} passes over its pixels more than {MAX_SCANS} times; save it anew in another program"
                )
            behind = _NEXT_MARKER.search(data, at)
            end = behind.start() if behind else len(data)
            kept.append(data[at:end])
            at = end
    else:
        raise RequestError(f"{name} is damaged: it has more than {MAX_PIECES:,} pieces")
    check_size(width, height, name, bounds)
    if at >= 2 and data[at - 2 : at] == b"\xff\xd9":
        kept.append(b"\xff\xd9")
    return Container("JPEG", width, height, b"".join(kept), exif=exif, xmp=xmp, comment=comment)


def _webp(data: bytes, name: str, bounds: Bounds) -> Container:
    end = min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    kept, blocks = [], {b"EXIF": b"", b"XMP ": b""}
    width = height = pieces = 0
    at = 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if len(body) < length:
            raise RequestError(f"{name} is cut short: it ends in the middle of a chunk")
        if kind in blocks:
            blocks[kind] = blocks[kind] or body
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            size = _webp_size(kind, body)
            check_size(size[0], size[1], name, bounds)
            width, height = (width, height) if width else size
        if kind == b"VP8X":
            body = bytes([body[0] & 0b00010010]) + body[1:]  # alpha and animation; no profile, EXIF or XMP any more
        if kind in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            kept.append(struct.pack("<4sI", kind, length) + body + b"\0" * (length % 2))
        at += 8 + length + length % 2
        pieces += 1
        if pieces > MAX_PIECES:
            raise RequestError(f"{name} is damaged: it has more than {MAX_PIECES:,} pieces")
    check_size(width, height, name, bounds)
    essence = b"".join(kept)
    essence = b"RIFF" + struct.pack("<I", 4 + len(essence)) + b"WEBP" + essence
    return Container("WEBP", width, height, essence, exif=blocks[b"EXIF"], xmp=blocks[b"XMP "])


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    (bits,) = struct.unpack_from("<I", body, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _avif(data: bytes, name: str, bounds: Bounds) -> Container:
    for width, height in avif.sizes(data):  # of all images in it, tiles and thumbnails too
        check_size(width, height, name, bounds)
    data = data[:8] + b"avif" + data[12:]  # not "avis": of an animation only the picture that stands for it
    with Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
        exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
        check_size(image.width, image.height, name, bounds)
        return Container("AVIF", image.width, image.height, data, exif=exif, xmp=xmp)


_WALKS: tuple[tuple[re.Pattern[bytes], Callable[[bytes, str, Bounds], Container]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"....ftyp(?=.{0,120}avi[fs])", re.DOTALL), _avif),
)
"""How a file of each format begins.  AVIF says so among the brands in its first box."""
