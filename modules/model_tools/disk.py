"""New files on a disk: is there room, is the name free, and how a whole file gets its name.  No torch."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from modules.errors import OutputError, RequestError

MARGIN = 64 << 20
"""Bytes of a disk that are left free."""


def check_space(folder: Path, size: int) -> None:
    """
    Raises:
        OutputError: the disk of `folder` has no room for `size` bytes.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}; check the folder") from None
    if free < size + MARGIN:
        raise OutputError(f"the new file needs {human(size)}, and {folder} has {human(free)} free; make room on that disk")


def check_target(target: Path, replace: bool) -> None:
    """
    Raises:
        RequestError: there is such a file, and it is not to be replaced.
    """
    if not replace and os.path.lexists(target):
        raise RequestError(f"there is a file {target.name} already; choose another name, or let it be replaced")


def move(part: Path, target: Path, replace: bool) -> None:
    """Give a whole file its name, on disk.

    Raises:
        RequestError: there is such a file, and `replace` is off.
        OSError: it cannot be done.
    """
    if replace:
        os.replace(part, target)
    else:
        try:
            os.link(part, target)  # fails where something has the name, whoever was quicker
            part.unlink()
        except FileExistsError:
            check_target(target, False)
            raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            check_target(target, False)  # a file system without links
            os.rename(part, target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def unwritable(part: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return OutputError(f"the disk of {part.parent} is full; make room and start again")
    return OutputError(f"{part.parent} cannot be written: {error.strerror}; check the folder")


def human(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
