"""A folder is read again when it changed, and only then."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from modules.checkpoints import files, folders
from modules.checkpoints.companions import lora_names
from modules.checkpoints.folders import Listing, listing


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were read from disk."""
    read: list[str] = []
    scandir = os.scandir

    def counted(path: Any) -> Any:
        read.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", counted)
    return read


def settle(*changed: Path) -> None:
    """As if they had been changed long ago."""
    before = time.time() - 60
    for folder in changed:
        os.utime(folder, (before, before))


def test_kinds_are_told_apart_and_hidden_names_left_out(tmp_path: Path) -> None:
    for name in ("b", "a", ".git"):
        (tmp_path / name).mkdir()
    for name in ("y.safetensors", "x.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert listing(tmp_path) == Listing(("a", "b", "link"), ("gone", "x.txt", "y.safetensors"))
    assert listing(tmp_path / "absent") == listing(tmp_path / "x.txt") == Listing()


def test_a_folder_that_stays_as_it_is_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a.safetensors").touch()
    settle(tmp_path)
    assert [listing(tmp_path).files for _ in range(3)] == [("a.safetensors",)] * 3
    assert reads == [tmp_path.name]
    (tmp_path / "b.safetensors").touch()
    assert listing(tmp_path).files == ("a.safetensors", "b.safetensors")


def test_a_file_that_comes_within_the_same_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    status = tmp_path.stat()
    listing(tmp_path)
    (tmp_path / "b").touch()
    os.utime(tmp_path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert listing(tmp_path).files == ("a", "b")


def test_a_link_leads_to_what_is_mounted_later(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "disk").symlink_to(tmp_path / "media")
    settle(folder)
    assert listing(folder) == Listing((), ("disk",))
    (tmp_path / "media").mkdir()
    assert listing(folder) == Listing(("disk",), ())


def test_looking_a_name_up_reads_no_folder_again_and_opens_no_other_file(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image looks its checkpoint up several times, and each saved picture the LoRAs."""
    for name in ("sub/a.safetensors", "b.safetensors", "loras/c.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no model")
    settle(tmp_path, tmp_path / "sub", tmp_path / "loras")
    looked: list[str] = []
    real = files._info
    monkeypatch.setattr(files, "_info", lambda path, name: looked.append(name) or real(path, name))
    assert [files.find([tmp_path], "sub/a").path for _ in range(3)] == [tmp_path / "sub/a.safetensors"] * 3
    assert [lora_names([tmp_path]) for _ in range(3)] == [["c"]] * 3
    assert looked == ["sub/a"] * 3
    assert sorted(reads) == sorted([tmp_path.name, "sub", "loras"])
