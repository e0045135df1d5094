"""Thumbnails: small, kept, within bounds."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from modules.errors import RequestError
from modules.gallery.thumbnails import SIDE, Thumbnails
from tests.gallery.conftest import painted


def test_a_thumbnail_is_small_kept_and_made_again(tmp_path: Path) -> None:
    path = painted(tmp_path / "a.png", "fox", size=(800, 400))
    made = Thumbnails(tmp_path / "kept")
    jpeg = made.get("a" * 64, path)
    assert Image.open(io.BytesIO(jpeg)).size == (SIDE, SIDE // 2)
    assert b"fox" not in jpeg
    path.unlink()
    assert made.get("a" * 64, path) == jpeg
    made.forget("a" * 64)
    with pytest.raises(OSError, match="No such file"):
        made.get("a" * 64, path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(RequestError):
        made.get("b" * 64, path)


def test_the_oldest_go_first_when_there_is_too_much(tmp_path: Path) -> None:
    made = Thumbnails(tmp_path / "kept", space=1)
    digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(3)]
    for age, digest in enumerate(digests):
        jpeg = made.get(digest, painted(tmp_path / f"{age}.png", "fox", seed=age))
        os.utime(made._path(digest), (1000 - age, 1000 - age))
    made._space = int(len(jpeg) * 2.3)
    assert made.full
    made.trim()
    assert [made._path(digest).exists() for digest in digests] == [True, True, False]
    assert not made.full


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    made = Thumbnails(tmp_path / "kept")
    made.get("a" * 64, painted(tmp_path / "a.png", "fox"))
    old, new = (tmp_path / "kept" / "aa" / f"{name}.part" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    made.trim()
    assert (old.exists(), new.exists()) == (False, True)
