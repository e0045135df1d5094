"""EXIF blocks: ours are read by Pillow, Pillow's by us, and no block does harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modules.images import exif


def test_what_we_write_pillow_reads() -> None:
    written = {exif.USER_COMMENT: b"UNICODE\0" + "grün, 猫".encode("utf-16-be"), exif.SOFTWARE: b"Atelier", exif.MAKE: b"x"}
    block = exif.write_tags(written)
    read = Image.Exif()
    read.load(block)
    assert read[exif.SOFTWARE] == "Atelier"
    assert read[exif.MAKE] == "x"
    assert read.get_ifd(0x8769)[exif.USER_COMMENT] == written[exif.USER_COMMENT]
    assert exif.read_tags(block) == written


def test_what_pillow_writes_we_read() -> None:
    made = Image.Exif()
    made[exif.ORIENTATION] = 6
    made[exif.DESCRIPTION] = "a cat"
    made.get_ifd(0x8769)[exif.USER_COMMENT] = b"ASCII\0\0\0a cat on a mat"
    tags = exif.read_tags(made.tobytes())
    assert exif.orientation(tags) == 6
    assert tags[exif.DESCRIPTION] == b"a cat"
    assert tags[exif.USER_COMMENT] == b"ASCII\0\0\0a cat on a mat"


def test_little_endian_numbers_are_turned() -> None:
    block = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + bytes(4)
    assert exif.orientation(exif.read_tags(block)) == 6


@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\0\0\0\x08"]))
def test_any_bytes_are_harmless(data: bytes, begin: bytes) -> None:
    tags = exif.read_tags(begin + data)
    assert 1 <= exif.orientation(tags) <= 8


@given(
    st.dictionaries(
        st.sampled_from([exif.SOFTWARE, exif.MAKE, exif.USER_COMMENT, exif.MAKER_NOTE, exif.XMP]),
        st.binary(min_size=1, max_size=90),
    )
)
def test_written_is_read_again(tags: dict[int, bytes]) -> None:
    tags = {tag: value.rstrip(b"\0") or b"x" for tag, value in tags.items()}
    assert exif.read_tags(exif.write_tags(tags)) == tags
