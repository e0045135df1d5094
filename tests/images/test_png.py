"""PNG text and pixels: what we write, Pillow reads; what anybody wrote is read behind guards."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.errors import RequestError
from modules.images import png
from modules.images.png import encode, read_texts
from tests.picture_files import read_pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    """A small picture with these chunks behind its header."""
    data = encode(bytes(8 * 8 * 3), 8, 8, {})
    return data[:33] + b"".join(chunks) + data[33:]


def blank(width: int, height: int) -> bytes:
    """A file whose header claims a size; its pixels are not worth the name."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_pixels_come_back_exactly(pixels: bytes, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "zlib":
        monkeypatch.setattr(png, "isal_zlib", None)
    assert read_pixels(encode(pixels, 64, 64, {"parameters": "x"})) == (pixels, 64, 64)
    assert read_pixels(encode(pixels, 1, 64 * 64, {})) == (pixels, 1, 64 * 64)


def test_each_row_has_the_filter_that_leaves_less() -> None:
    """Rows of one colour each are nothing but zeros by Sub, columns of one colour each by Up."""
    colours = np.random.default_rng(1).integers(0, 256, (64, 3), np.uint8)
    rows, columns = colours[:16, None].repeat(64, 1), colours[None].repeat(16, 0)
    pixels = np.concatenate([rows, columns])
    idat = encode(pixels.tobytes(), 64, 32, {}).partition(b"IDAT")[2][:-16]
    filters = np.frombuffer(zlib.decompress(idat), np.uint8).reshape(32, 64 * 3 + 1)[:, 0]
    assert filters[:16].tolist() == [1] * 16
    assert filters[17:].tolist() == [2] * 15


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
@example("caf\u00c3\u00a9")  # whose Latin-1 bytes are UTF-8
def test_text_is_read_by_us_and_by_pillow(text: str) -> None:
    data = encode(bytes(3), 1, 1, {"parameters": text, "atelier": text + "…"})
    assert read_texts(data).texts == {"parameters": text, "atelier": text + "…"}
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info == {"parameters": text, "atelier": text + "…"}


def test_latin_text_is_plain_text_and_the_rest_international() -> None:
    data = encode(bytes(3), 1, 1, {"parameters": "café", "atelier": "日本"})
    assert b"tEXtparameters\0caf\xe9" in data
    assert b"iTXtatelier\0\0" in data
    assert b"zTXt" not in data


@pytest.mark.parametrize("size", [1 << 16, 1 << 18, png.MAX_TEXT])
def test_long_text_comes_back(size: int) -> None:
    assert read_texts(encode(bytes(3), 1, 1, {"a": "x" * size})).texts == {"a": "x" * size}


def test_what_cannot_be_written_is_refused_before_writing() -> None:
    with pytest.raises(ValueError, match="12 bytes, 11 were given"):
        encode(bytes(11), 2, 2, {})
    with pytest.raises(ValueError, match="of text"):
        encode(bytes(12), 2, 2, {"a": "x" * png.MAX_TEXT, "b": "x"})


def test_compressed_and_late_texts_of_other_programs_are_read() -> None:
    info = PngInfo()
    info.add_text("parameters", "packed", zip=True)
    info.add_itxt("comment", "verpackt é日", lang="de", tkey="Kommentar", zip=True)
    buffer = io.BytesIO()
    Image.new("P", (5, 3)).save(buffer, "PNG", pnginfo=info)
    data = buffer.getvalue()
    data = data[:-12] + chunk(b"tEXt", b"late\0behind the pixels") + data[-12:]
    found = read_texts(data)
    assert (found.width, found.height) == (5, 3)
    assert found.texts == {"parameters": "packed", "comment": "verpackt é日", "late": "behind the pixels"}
    assert len(read_pixels(data)[0]) == 5 * 3 * 3


def test_the_first_of_equal_keywords_counts_and_control_characters_go() -> None:
    data = with_chunks(chunk(b"tEXt", b"parameters\0a\x1b[31m\r\nb"), chunk(b"tEXt", b"parameters\0other"))
    assert read_texts(data).texts == {"parameters": "a[31m\nb"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "not a PNG"),
        (lambda: b"<html>", "not a PNG"),
        (lambda: b"\xff\xd8\xff\xe0JFIF", "not a PNG"),
        (lambda: with_chunks(chunk(b"zTXt", b"a\0\0not zlib")), "damaged"),
        (lambda: with_chunks(struct.pack(">I", 1 << 31) + b"tEXt"), "cut short"),
        (lambda: with_chunks(chunk(b"tEXt", b"a\0b")[:-1] + b"?"), "checksum"),
        (lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""), "no size"),
        (lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"12"), "damaged"),
    ],
)
def test_hostile_files_are_refused(make: Callable[[], bytes], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_texts(make())


@pytest.mark.parametrize(
    ("make", "left_out"),
    [
        (lambda: [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20)))], ("a",)),
        (lambda: [chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(64 << 20)))], ("a",)),
        (lambda: [chunk(b"zTXt", b"%d\0\0" % n + zlib.compress(b" " * 900_000)) for n in range(5)], ("4",)),
        (lambda: [chunk(b"tEXt", b"a\0" + bytes(10 << 20))], ("a",)),
        (lambda: [chunk(b"tEXt", b"%d\0b" % n) for n in range(70)], ("",)),
    ],
    ids=["zTXt", "iTXt", "many", "in the open", "more than are looked at"],
)
def test_texts_that_are_too_long_are_left_out_the_others_read(make: Callable[[], list[bytes]], left_out: tuple[str]) -> None:
    found = read_texts(with_chunks(chunk(b"tEXt", b"prompt\0a fox"), *make()))
    assert found.left_out == left_out
    assert found.texts["prompt"] == "a fox"
    assert sum(map(len, found.texts.values())) <= png.MAX_READ
    assert len(found.texts) <= png.MAX_TEXTS


@pytest.mark.parametrize(
    ("width", "height"), [(9400, 9400), (13300, 13300), (100_000, 10), (2**31 - 1, 2**31 - 1), (6000, 6000)]
)
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(RequestError, match=f"{width}x{height} pixels; at most"):
        read_pixels(blank(width, height))


def test_pixels_that_are_not_there_are_refused() -> None:
    with pytest.raises(RequestError, match="cannot be decoded"):
        read_pixels(blank(64, 64))


def test_a_file_cut_anywhere_or_mangled_is_refused_or_whole(pixels: bytes) -> None:
    """Every seventh length, and 400 files with a few wrong bytes: RequestError or a picture of the right size, nothing else."""
    data = encode(pixels, 64, 64, {"parameters": "a cat", "atelier": "日本"})
    random_ = random.Random(3)
    mangled = []
    for _ in range(400):
        copy = bytearray(data)
        for _ in range(random_.randint(1, 4)):
            copy[random_.randrange(len(copy) if random_.random() < 0.3 else 200)] = random_.randrange(256)
        mangled.append(bytes(copy))
    refused = 0
    for broken in [data[:cut] for cut in range(0, len(data), 7)] + mangled:
        try:
            got, width, height = read_pixels(broken)
            assert len(got) == width * height * 3
        except RequestError:
            refused += 1
    assert refused > len(data) // 7


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"lost\.png cannot be read: No such file"):
        read_texts(tmp_path / "lost.png")
    with pytest.raises(RequestError, match="cannot be read"):
        read_texts(tmp_path)


def test_another_format_with_our_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "really.png"
    Image.new("RGB", (4, 4)).save(path, "JPEG")
    with pytest.raises(RequestError, match=r"really\.png is not a PNG file"):
        read_texts(path)
