"""An outputs folder with pictures of several programs in it, and its gallery."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from modules.gallery.gallery import Gallery

NOON = 1_786_700_000
"""Seconds since 1970 on 2026-08-14."""
SECONDS = 20.0
"""That a scan of a few files is waited for; nothing is measured."""

Painted = Callable[..., Path]


def painted(
    path: Path, prompt: str = "", *, seed: int = 1, size: tuple[int, int] = (32, 32), age: int = 0, **items: str
) -> Path:
    """A PNG with A1111's text, `age` seconds before noon; its pixels follow from the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": str(seed), "Size": f"{size[0]}x{size[1]}", **items}
    negative = said.pop("negative", "")
    info = PngImagePlugin.PngInfo()
    if prompt:
        lines = [prompt, *([f"Negative prompt: {negative}"] if negative else [])]
        info.add_itxt("parameters", "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in said.items())]))
    Image.new("RGB", size, (seed % 256, seed // 256 % 256, 9)).save(path, pnginfo=info)
    os.utime(path, (NOON - age, NOON - age))
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def open_gallery(tmp_path: Path, outputs: Path) -> Iterator[Callable[..., Gallery]]:
    """Opens galleries of the outputs folder, scanned once; each closes the one before."""
    there: list[Gallery] = []

    def new(scan: bool = True, **options: Any) -> Gallery:
        while there:
            there.pop().close()
        there.append(Gallery(tmp_path / "data", outputs, **options))
        if scan:
            there[0].rescan(SECONDS)
            assert not there[0].state().scanning, "the scan did not come to its end"
        return there[0]

    yield new
    while there:
        there.pop().close()


def names(gallery: Gallery, text: str = "", sort: str = "newest", owners: frozenset[str] | None = None) -> list[str]:
    return [entry.path for entry in gallery.page(text, owners, sort, limit=200).entries]


def lose_index(data: Path) -> None:
    for path in data.glob("gallery.sqlite*"):
        path.unlink()
