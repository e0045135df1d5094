"""What is in a folder, read again only when it changed: models folders hold thousands of files, and each job looks in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SETTLED_NS = 3_000_000_000
"""A folder changed less than this ago is not remembered: a file that comes within the same tick of its clock (2 s on FAT) would
be missed for ever."""


@dataclass(frozen=True)
class Listing:
    """Names in a folder, each kind sorted; hidden ones are left out, links are what they lead to."""

    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def listing(folder: Path) -> Listing:
    """What is in `folder` now, at the price of one stat for a folder that is as it was.

    A folder that is missing or cannot be read holds nothing.  A link whose target is gone counts as a file.
    """
    try:
        status = folder.stat()
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        read = _read if time.time_ns() - status.st_mtime_ns >= SETTLED_NS else _read.__wrapped__
        folders, files, links = read(str(folder), *stamp)
    except OSError:
        return Listing()
    if not links:  # where a link leads changes without its folder, as when a disk is mounted
        return Listing(folders, files)
    lead_to_folders = {link for link in links if os.path.isdir(folder / link)}
    return Listing(
        tuple(sorted({*folders, *lead_to_folders})),
        tuple(sorted({*files, *links} - lead_to_folders)),
    )


def files_below(folders: Sequence[Path], kinds: frozenset[str], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files with one of `suffixes` below the folders of `folders` whose names are among `kinds`; hidden ones are skipped."""
    for folder in folders:
        inside = listing(folder)
        for top in sorted((*inside.folders, *inside.files)):
            if top.casefold() in kinds:
                yield from _with_suffix(folder / top, suffixes)


def _with_suffix(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for base in folders_below(folder):
        yield from (base / name for name in listing(base).files if name.lower().endswith(suffixes))


def folders_below(folder: Path) -> Iterator[Path]:
    """`folder` and all folders in it; links to folders are not followed."""
    yield folder
    for name in listing(folder).folders:
        if not (folder / name).is_symlink():
            yield from folders_below(folder / name)


_Names = tuple[str, ...]


@lru_cache(maxsize=4096)
def _read(folder: str, *stamp: int) -> tuple[_Names, _Names, _Names]:
    """Folders, files and links, each sorted.

    Raises:
        OSError: it cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                kind = links if entry.is_symlink() else folders if entry.is_dir(follow_symlinks=False) else files
                kind.append(entry.name)
    return tuple(sorted(folders)), tuple(sorted(files)), tuple(sorted(links))
