"""Writing files whole or not at all, and what is said where that fails."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from modules.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name and rename: a run that is killed while writing leaves the file of before.

    Raises:
        OutputError: the folder cannot be written, or its disk is full.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise OutputError(
                f"{path.name}: the disk is full, {len(data) / 1e6:.1f} MB were to be written; free some space and run the same "
                "command again with --resume"
            ) from None
        raise OutputError(
            f"{path.name} cannot be written into {path.parent} ({error.strerror}); choose another folder"
        ) from None


def need_space(folder: Path, size: int) -> None:
    """Say before hours of training that their result will not fit: `size` bytes into `folder`.

    Raises:
        OutputError: less is free.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise OutputError(
            f"--out: {size / 1e6:.1f} MB will be written to {folder}, whose disk has {free / 1e6:.1f} MB free; free some space "
            "or choose another folder"
        )
