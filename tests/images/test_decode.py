"""Decoding uploads: what comes in right, and that nothing that comes in does harm."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from modules.errors import RequestError
from modules.images import exif
from modules.images.containers import read_container
from modules.images.decode import decode

FORMATS = [
    ("PNG", {}),
    ("JPEG", {"quality": 95}),
    ("JPEG", {"quality": 95, "progressive": True}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 90}),
    ("AVIF", {"quality": 90}),
]


def blocks(width: int = 64, height: int = 48) -> Image.Image:
    """Large areas of plain colours, different at every corner, which survive lossy formats."""
    colours = np.random.default_rng(5).integers(0, 256, (height // 8, width // 8, 3))
    return Image.fromarray(np.kron(colours, np.ones((8, 8, 1))).astype(np.uint8), "RGB")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """`png` with a chunk behind its header."""
    return png[:33] + chunk(kind, data) + png[33:]


def bare_png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def equal(image: Image.Image, other: Image.Image) -> bool:
    return image.size == other.size and bool((np.asarray(image) == np.asarray(other)).all())


@pytest.mark.parametrize(("kind", "options"), FORMATS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_format_comes_in_upright(kind: str, options: dict[str, Any], turn: int) -> None:
    tag = Image.Exif()
    tag[exif.ORIENTATION] = turn
    data = encoded(blocks(), kind, exif=tag.tobytes(), **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert expected.size == ((64, 48) if turn < 5 else (48, 64))
    found = decode(data)
    assert found.mode == "RGB"
    assert equal(found, expected)


def test_sixteen_bits_keep_the_upper_eight() -> None:
    deep = (np.arange(64 * 48).reshape(48, 64) * 21).astype(np.uint16)
    grey = decode(encoded(Image.fromarray(deep), "PNG"))
    assert (np.asarray(grey) == (deep >> 8)[..., None]).all()

    rows = np.random.default_rng(1).integers(0, 1 << 16, (48, 64, 4)).astype(np.uint16)
    for colour, channels in ((2, 3), (6, 4)):
        raw = b"".join(b"\0" + row[:, :channels].astype(">u2").tobytes() for row in rows)
        image = decode(bare_png(64, 48, raw, 16, colour))
        assert image.mode == ("RGB" if channels == 3 else "RGBA")
        assert (np.asarray(image) == rows[..., :channels] >> 8).all()


def test_grey_of_sixteen_bits_may_have_a_clear_shade() -> None:
    raw = b"".join(b"\0" + bytes([2, x, 3, 4]) for x in range(4))
    data = with_chunk(bare_png(2, 4, raw, 16, 0), b"tRNS", bytes([2, 1]))
    assert np.asarray(decode(data).getchannel("A")).ravel().tolist() == [255, 255, 0, 255, 255, 255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = blocks().convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    found = decode(encoded(image, kind, **({"quality": 100} if mode == "CMYK" else {})))
    assert found.mode == "RGB"
    difference = np.abs(np.asarray(found).astype(int) - np.asarray(image.convert("RGB")).astype(int))
    assert difference.max() <= (12 if mode == "CMYK" else 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_alpha_stays_where_something_is_clear(kind: str) -> None:
    image = blocks().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    found = decode(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert found.mode == "RGBA"
    assert found.getchannel("A").getextrema()[0] < 10


def test_a_clear_palette_colour_is_alpha() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(0, (0, 0, 4, 8))
    found = decode(encoded(image, "PNG", transparency=0))
    assert [found.getpixel(place) for place in ((0, 0), (7, 7))] == [(0, 0, 0, 0), (255, 0, 0, 255)]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_of_an_animation_the_first_frame(kind: str) -> None:
    first, second = blocks(), ImageOps.invert(blocks())
    options = {"PNG": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}[kind]
    found = decode(encoded(first, kind, save_all=True, append_images=[second], duration=100, **options))
    assert np.abs(np.asarray(found).astype(int) - np.asarray(first).astype(int)).mean() < 20


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_decoder_sees_no_metadata(kind: str) -> None:
    rubbish = b"Exif\0\0MM\0*" + b"\xff" * 300
    data = encoded(blocks(), kind, exif=rubbish, icc_profile=b"no profile" * 30, xmp=b"<x>")
    essence = read_container(data).essence
    for text in (b"no profile", b"\xff" * 200, b"<x>"):
        assert text not in essence
    assert decode(data).size == (64, 48)


HUGE = {
    "PNG": bare_png(13_300, 13_300),
    "PNG, wide": bare_png(100_000, 10),
    "PNG, 8-bit palette": bare_png(9_400, 9_400, colour=3),
    "JPEG": encoded(Image.new("CMYK", (1, 1)), "JPEG").replace(struct.pack(">HH", 1, 1), struct.pack(">HH", 8192, 8191), 1),
    "WebP": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + (16_000).to_bytes(3, "little") * 2,
    "WebP, lossless": b"RIFF\x1e\0\0\0WEBPVP8L\x05\0\0\0\x2f\xff\xff\xff\x0f\0",
    "AVIF": encoded(blocks(), "AVIF").replace(
        b"ispe\0\0\0\0" + struct.pack(">II", 64, 48), b"ispe\0\0\0\0\0\0\x80\0\0\0\x80\0"
    ),
}


@pytest.mark.parametrize("case", HUGE)
def test_what_is_too_large_is_refused_by_its_header(case: str) -> None:
    tracemalloc.start()
    with pytest.raises(RequestError, match=r"\d+x\d+ pixels; at most 8192 a side and 33,554,432"):
        decode(HUGE[case])
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


SMALL = encoded(blocks(), "PNG")


def lying_avif() -> bytes:
    """Its tables say 64x48, its stream 8200x8: a decoder that believes the stream takes what that says."""
    data = encoded(Image.new("RGB", (8200, 8)), "AVIF", speed=10)
    return data.replace(struct.pack(">II", 8200, 8), struct.pack(">II", 64, 48))


SWELLS = zlib.compress(bytes(64 << 20))
"""Text of 64 MiB."""
LONG_TEXTS = {
    "zTXt": with_chunk(SMALL, b"zTXt", b"a\0\0" + SWELLS),
    "iTXt": with_chunk(SMALL, b"iTXt", b"a\0\1\0\0\0" + SWELLS),
    "63 zTXt": SMALL[:33] + 63 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) + SMALL[33:],
    "tEXt of 10 MiB": with_chunk(SMALL, b"tEXt", b"a\0" + bytes(10 << 20)),
    "100 texts": SMALL[:33] + 100 * chunk(b"tEXt", b"a\0b") + SMALL[33:],
    "iCCP": with_chunk(SMALL, b"iCCP", b"a\0\0" + SWELLS),
}

BOMBS = {
    "eXIf of 2 MiB": with_chunk(SMALL, b"eXIf", b"MM\0*" + bytes(2 << 20)),
    "JPEG of 100 scans": encoded(blocks(), "JPEG")[:-2] + 100 * b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"\xff\xd9",
    "AVIF that says it is small": lying_avif(),
    "JPEG of many segments": b"\xff\xd8" + 200_000 * b"\xff\xfe\x00\x02" + encoded(blocks(), "JPEG")[2:],
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_is_hidden_in_a_file_is_not_unpacked(case: str) -> None:
    tracemalloc.start()
    with pytest.raises(RequestError):
        decode(BOMBS[case])
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("case", LONG_TEXTS)
def test_a_bomb_in_a_text_or_profile_is_not_unpacked_either(case: str) -> None:
    """It is dropped unread: the picture beside it is sound."""
    tracemalloc.start()
    image = decode(LONG_TEXTS[case])
    assert equal(image, blocks())
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7", b"8BPS\0\1", b"SIMPLE  =", b"DDS |", b"\0\0\1\0", b"BM", b"<svg/>", b"%!PS-Adobe"]
)
def test_nothing_but_the_four_formats(data: bytes) -> None:
    with pytest.raises(RequestError, match=r"is empty|PNG, JPEG, WebP and AVIF are"):
        decode(data + bytes(100) if data else b"", "cat.png")


def test_gif_and_tiff_are_named_as_what_is_not_read() -> None:
    for kind in ("GIF", "TIFF", "BMP"):
        with pytest.raises(RequestError, match=r"^cat\.png is not a picture that is read here"):
            decode(encoded(blocks(), kind), "cat.png")


@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_cut_short_anywhere(kind: str, options: dict[str, Any]) -> None:
    data = encoded(blocks(), kind, **options)
    for end in range(0, len(data) - 2, 7):
        with pytest.raises(RequestError):
            decode(data[:end])


def test_two_thousand_damaged_files() -> None:
    """A decoder's own exceptions never get out; what still decodes has the size that its header says."""
    dice = random.Random(3)
    files = [
        encoded(blocks(), kind, exif=exif.write_tags({exif.USER_COMMENT: b"x" * 40}), **options) for kind, options in FORMATS
    ]
    sound, said = 0, set()
    for number in range(2_000):
        data = bytearray(files[number % len(files)])
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            image = decode(bytes(data))
        except RequestError as error:
            said.add(str(error)[:12])
        else:
            sound += 1
            assert image.mode in ("RGB", "RGBA")
    assert said == {"the picture "}
    assert 100 < sound < 1_900


def test_an_avif_of_a_thousand_items_that_share_their_bytes_is_refused() -> None:
    data = encoded(blocks(), "AVIF")
    at = data.index(b"iloc") - 4
    (length,) = struct.unpack_from(">I", data, at)
    extents = struct.pack(">HHHH", 1, 0, 0, 1000) + 1000 * struct.pack(">II", 0, len(data))
    table = struct.pack(">I4sIBBH", 16 + len(extents), b"iloc", 0, 0x44, 0, 1) + extents
    meta = data.index(b"meta") - 4
    (size,) = struct.unpack_from(">I", data, meta)
    bloated = data[:meta] + struct.pack(">I", size + len(table) - length) + data[meta + 4 : at] + table + data[at + length :]
    with pytest.raises(RequestError, match="is damaged"):
        decode(bloated)


@pytest.mark.parametrize("options", [{"subsampling": "4:4:4"}, {"codec": "aom", "speed": 10}, {"tile_rows": 2, "tile_cols": 2}])
def test_avif_in_other_ways(options: dict[str, Any]) -> None:
    for image in (blocks(640, 512), blocks(640, 512).convert("L"), blocks(64, 48)):
        assert decode(encoded(image, "AVIF", **options)).size == image.size
