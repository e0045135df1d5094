"""Kept source pictures: by content, each user's own, bounded, and never what unfinished jobs need."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from modules.errors import LimitError, OutputError, RequestError
from modules.images.uploads import LEAST, Uploads


def picture(shade: int = 0, size: tuple[int, int] = (12, 8), mode: str = "RGB", **save: object) -> bytes:
    image = Image.new(mode, size, (shade, 90, 30, 128)[: len(mode)])
    image.putpixel((3, 2), (255, 0, 0, 255)[: len(mode)])
    buffer = io.BytesIO()
    image.save(buffer, str(save.pop("format", "PNG")), **save)
    return buffer.getvalue()


@pytest.fixture
def sources(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "sources")


def age(path: Path, seconds: int) -> None:
    """As if it had been used so long ago."""
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - seconds * 10**9))


def test_the_same_pixels_are_one_source_whatever_the_file_says_of_them(sources: Uploads) -> None:
    first = sources.keep(picture(7), "ann")
    again = sources.keep(picture(7, format="WEBP", lossless=True, exif=b"Exif\0\0"), "ann")
    assert first == again
    assert (first.width, first.height, len(first.id)) == (12, 8, 64)
    assert len(list(sources.folder.rglob("*.png"))) == 1
    assert sources.keep(picture(8), "ann").id != first.id


def test_what_is_kept_has_the_pixels_and_nothing_else(sources: Uploads) -> None:
    info = Image.Exif()
    info[0x010E] = "taken at home"
    source = sources.keep(picture(7, exif=info), "ann")
    path = sources.path(source.id, "ann")
    assert path is not None
    assert b"home" not in path.read_bytes()
    with Image.open(path) as kept:
        assert kept.getpixel((3, 2)) == (255, 0, 0)
        assert not kept.info
    assert sources.open(source.id, "ann").tobytes() == Image.open(io.BytesIO(picture(7))).tobytes()


def test_transparency_is_kept(sources: Uploads) -> None:
    source = sources.keep(picture(7, mode="RGBA"), "ann")
    opened = sources.open(source.id, "ann")
    assert (opened.mode, opened.getpixel((0, 0))) == ("RGBA", (7, 90, 30, 128))


def test_a_picture_is_its_users_alone(sources: Uploads) -> None:
    source = sources.keep(picture(), "ann")
    assert sources.path(source.id, "bob") is None
    with pytest.raises(RequestError, match="not here"):
        sources.open(source.id, "bob")
    assert sources.keep(picture(), "bob") == source
    assert sources.path(source.id, "bob") != sources.path(source.id, "ann")


@pytest.mark.parametrize("name", ["", "..", "../" * 20 + "etc/passwd", "0" * 63, "0" * 64, "G" * 64, "A" * 64, "0" * 64 + "\n"])
def test_names_that_are_no_ids_lead_nowhere(sources: Uploads, name: str) -> None:
    sources.keep(picture(), "ann")
    assert sources.path(name, "ann") is None


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), picture()[:40], b"<svg/>"])
def test_what_is_no_picture_is_refused_in_words(sources: Uploads, data: bytes) -> None:
    with pytest.raises(RequestError, match="the picture"):
        sources.keep(data, "ann")
    assert not list(sources.folder.rglob("*.png"))


def test_the_longest_unused_makes_room(tmp_path: Path) -> None:
    sources = Uploads(tmp_path / "sources", per_user=3 * LEAST)
    ids = [sources.keep(picture(shade), "ann").id for shade in range(3)]
    others = sources.keep(picture(50), "bob").id
    for number, source in enumerate(ids):
        path = sources.path(source, "ann")
        assert path is not None
        age(path, 100 - number)
    assert sources.path(ids[0], "ann")  # looked at just now: the second is the oldest
    newest = sources.keep(picture(9), "ann").id
    there = [source for source in [*ids, newest] if sources.path(source, "ann")]
    assert there == [ids[0], ids[2], newest]
    assert sources.path(others, "bob")


def test_what_jobs_need_stays_and_the_rest_is_told_to_wait(tmp_path: Path) -> None:
    needed: set[str] = set()
    sources = Uploads(tmp_path / "sources", lambda: needed, per_user=2 * LEAST)
    first, second = (sources.keep(picture(shade), "ann").id for shade in (1, 2))
    needed |= {first, second}
    with pytest.raises(LimitError, match="wait"):
        sources.keep(picture(3), "ann")
    assert sources.keep(picture(3), "bob")
    needed.discard(second)
    assert sources.keep(picture(3), "ann")
    assert [bool(sources.path(source, "ann")) for source in (first, second)] == [True, False]


def test_all_users_together_are_bounded(tmp_path: Path) -> None:
    sources = Uploads(tmp_path / "sources", in_total=3 * LEAST)
    for number in range(9):
        sources.keep(picture(number), f"user {number}")
    assert len(list(sources.folder.rglob("*.png"))) == 3


def test_a_file_that_was_changed_is_not_painted_from(sources: Uploads) -> None:
    source = sources.keep(picture(1), "ann")
    path = sources.path(source.id, "ann")
    assert path is not None
    path.write_bytes(picture(2))
    with pytest.raises(RequestError, match="changed"):
        sources.open(source.id, "ann")
    path.write_bytes(picture(1)[:50])
    with pytest.raises(RequestError, match="cannot be read"):
        sources.open(source.id, "ann")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_in_a_pictures_place_is_no_picture(sources: Uploads, tmp_path: Path) -> None:
    source = sources.keep(picture(1), "ann")
    path = sources.path(source.id, "ann")
    assert path is not None
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    assert sources.path(source.id, "ann") is None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "sources").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="--data-dir"):
        Uploads(tmp_path / "sources").keep(picture(), "ann")


def test_what_a_dead_writer_left_is_swept(sources: Uploads) -> None:
    source = sources.keep(picture(), "ann")
    path = sources.path(source.id, "ann")
    assert path is not None
    left = path.parent / f".atelier-{'0' * 16}.part"
    left.write_bytes(b"half")
    sources.sweep()
    assert not left.exists()
    assert path.exists()
