"""PNG bytes with text in them: written from raw pixels, read with every guard up.

Texts are read by walking the file's chunks, without decoding a pixel, so a picture from anywhere can be looked at for the
price of its headers.  This file knows the format and its limits; what the texts mean is `infotext`'s business.

Formats: PNG, third edition (W3C 2025), section 11.3.3 for the text chunks.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngInfo

from modules.errors import RequestError
from modules.request import clean_text

isal_zlib: ModuleType | None
try:
    from isal import isal_zlib
except ImportError:  # no wheel for this kind of machine
    isal_zlib = None

PARAMETERS = "parameters"
"""Keyword of A1111's text, which other programs read."""
RECORD = "atelier"
"""Keyword of our JSON record."""

COMPRESSION = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""Of zlib, for painted pictures: next to nothing in them repeats farther than a pixel away, so a search for it costs time and
finds worse codes.  A painted 512x512 took 16 ms and 287 kB, with level 4 and the default strategy 23 ms and 323 kB."""
MAX_TEXT = 1 << 20
"""Bytes of text that one file is given, and are read of one chunk, uncompressed; Pillow refuses more in one as well."""
MAX_READ = 4 * MAX_TEXT
"""Bytes of text that are read of one file; what is beyond is left out."""
MAX_TEXTS = 64
"""Text chunks that are looked at."""
MAX_FILE = 256 << 20
"""Bytes of a file that is read at all."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_SUB, _UP = 1, 2  # numbers of filters
_KEYWORD = 80  # bytes of a keyword with its end, at most
_OVERHEAD = 1024  # bytes of a text chunk that are not its text: keyword, language and the like


@dataclass(frozen=True)
class PngTexts:
    """What the headers of a PNG say.  `texts` by keyword, in the order of the file, the first of equal keywords.

    `left_out` are the keywords of texts that were too long to be read, "" for those behind the last that is looked at.
    """

    width: int
    height: int
    texts: dict[str, str]
    left_out: tuple[str, ...] = ()


def encode(pixels: bytes, width: int, height: int, texts: Mapping[str, str]) -> bytes:
    """RGB8 pixels (height x width x 3 bytes, rows from the top) as a PNG with text chunks: tEXt if Latin-1 holds it, else iTXt.

    A text whose Latin-1 bytes are UTF-8 of another text ("Ã©") goes into iTXt too: readers take such a tEXt for UTF-8.

    Nothing is compressed in the text chunks: above 1 MiB Pillow cannot read its own zTXt again.

    Raises:
        ValueError: the pixels are not width x height x 3 bytes, or the texts are longer than `MAX_TEXT`.
    """
    if len(pixels) != width * height * 3:
        raise ValueError(f"{width}x{height} RGB is {width * height * 3} bytes, {len(pixels)} were given")
    if (size := sum(len(text.encode()) for text in texts.values())) > MAX_TEXT:
        raise ValueError(f"{size} bytes of text, at most {MAX_TEXT} fit")
    info = PngInfo()
    for keyword, text in texts.items():
        if _reads_as_utf8(text):
            info.add_itxt(keyword, text)
        else:
            info.add_text(keyword, text)
    data = _deflated(_filtered(np.frombuffer(pixels, np.uint8).reshape(height, width * 3)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    texts_first = [(kind, text) for kind, text, *_ in info.chunks]
    return _SIGNATURE + b"".join(_chunk(*one) for one in ((b"IHDR", header), *texts_first, (b"IDAT", data), (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _deflated(data: npt.NDArray[np.uint8]) -> bytes:
    """As a zlib stream: by ISA-L where it is installed, a quarter of zlib's time for 5 % more bytes."""
    if isal_zlib is not None:
        return bytes(isal_zlib.compress(data.data, 1))
    deflate = zlib.compressobj(COMPRESSION["compress_level"], strategy=COMPRESSION["compress_type"])
    return deflate.compress(data.data) + deflate.flush()


def _filtered(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`rows` (height, width x 3) as differences, each row after the number of its filter: Sub or Up, whichever leaves less.

    The rule is the standard's (12.7, least sum of absolute differences), of an eighth of a row's bytes and two filters of
    five: a painted picture is 1 to 3 % larger than with libpng's search through all, which took two thirds of encoding's time.
    """
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    body = filtered[:, 1:]
    sample = rows[:, 3::8]
    left, above = _cost(sample - rows[:, :-3:8]), _cost(sample[1:] - sample[:-1])
    up = 1 + np.flatnonzero(above < left[1:])
    filtered[:, 0] = _SUB
    filtered[up, 0] = _UP
    body[:, :3] = rows[:, :3]
    np.subtract(rows[:, 3:], rows[:, :-3], out=body[:, 3:])
    body[up] = rows[up] - rows[up - 1]
    return filtered


def _cost(differences: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The sum of absolute values of each row, as bytes that wrap around."""
    absolute: npt.NDArray[np.uint8] = np.abs(differences.view(np.int8)).view(np.uint8)  # 128 stays 128
    cost: npt.NDArray[np.uint64] = absolute.sum(axis=1, dtype=np.uint64)
    return cost


def _reads_as_utf8(text: str) -> bool:
    """Whether the text's Latin-1 bytes are UTF-8 of another text."""
    try:
        return text.encode("latin-1").decode("utf-8") != text
    except UnicodeError:
        return False


def read_texts(source: Path | bytes, name: str = "") -> PngTexts:
    """Size and texts of a PNG, without decoding its pixels.  `name` begins the sentence of an error.

    Raises:
        RequestError: no PNG, cut short or damaged.
    """
    name = name or (source.name if isinstance(source, Path) else "the picture")
    try:
        with _open(source) as stream:
            return _walk(stream, name)
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror or error}") from None
    except (struct.error, zlib.error, ValueError, OverflowError, MemoryError):
        raise RequestError(f"{name} is damaged: its text cannot be read") from None


def _open(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _walk(stream: BinaryIO, name: str) -> PngTexts:
    if stream.read(8) != _SIGNATURE:
        raise RequestError(f"{name} is not a PNG file")
    size = stream.seek(0, io.SEEK_END)
    if size > MAX_FILE:
        raise RequestError(f"{name} has {size >> 20} MiB; at most {MAX_FILE >> 20} MiB are read")
    stream.seek(8)

    texts: dict[str, str] = {}
    width = height = chunks = 0
    left = MAX_READ
    left_out: dict[str, None] = {}
    while True:
        length, kind = struct.unpack(">I4s", stream.read(8))
        if stream.tell() + length + 4 > size:
            raise RequestError(f"{name} is cut short: it ends in the middle of a chunk")
        if kind in _TEXTS:
            chunks += 1
        if kind in _TEXTS and chunks > MAX_TEXTS:
            left_out[""] = None
            stream.seek(length + 4, io.SEEK_CUR)
        elif kind in _TEXTS and length > MAX_TEXT + _OVERHEAD:
            begin = stream.read(_KEYWORD)
            left_out[clean_text(begin.partition(b"\0")[0].decode("latin-1"))] = None
            stream.seek(length - len(begin) + 4, io.SEEK_CUR)
        elif kind == b"IHDR" or kind in _TEXTS:
            if length > MAX_TEXT + _OVERHEAD:
                raise RequestError(f"{name} is damaged: its header is no header")
            data = stream.read(length)
            if zlib.crc32(kind + data) != struct.unpack(">I", stream.read(4))[0]:
                raise RequestError(f"{name} is damaged: the checksum of a chunk is wrong")
            if kind == b"IHDR":
                width, height = struct.unpack(">II", data[:8])
                continue
            keyword, text = _text(kind, data, min(left, MAX_TEXT))
            size_of_text = len(text.encode(errors="surrogatepass"))
            if size_of_text > min(left, MAX_TEXT):
                left_out[clean_text(keyword)] = None
            else:
                left -= size_of_text
                texts.setdefault(clean_text(keyword), clean_text(text))
        else:
            stream.seek(length + 4, io.SEEK_CUR)
        if kind == b"IEND":
            break
    if not width or not height:
        raise RequestError(f"{name} is damaged: it has no size")
    return PngTexts(width, height, texts, tuple(left_out))


def _text(kind: bytes, data: bytes, limit: int) -> tuple[str, str]:
    """Keyword and text of a text chunk, at most `limit` + 1 bytes of it unpacked."""
    keyword, _, rest = data.partition(b"\0")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, _text_of(rest)
    if kind == b"zTXt":
        return name, _text_of(_inflate(rest[1:], limit))
    compressed = rest[:1] == b"\x01"
    _language, _, rest = rest[2:].partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    return name, (_inflate(text, limit) if compressed else text).decode("utf-8", errors="replace")


def _text_of(data: bytes) -> str:
    """Latin-1 by the format; UTF-8 where it is valid and not ASCII, since many programs write that.

    Text in Latin-1 is hardly ever valid UTF-8: each accent would have to be followed by a control character or a symbol.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _inflate(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj().decompress(data, limit + 1)
