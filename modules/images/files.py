"""Files that exist whole or not at all, and never replace another: the one way in which pictures reach the disk.

    unique .part (O_EXCL, same folder) -> write -> fsync -> link() to the final name, refused if taken -> fsync the folder

When `Part.publish` returns, the file survives power loss.  A crash at any point leaves at most a
`.part`, which its writer holds locked while it lives; `sweep` takes those whose writer is gone.  This file knows neither names
nor pictures, and raises plain OSErrors.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("atelier")

_PART = re.compile(r"\.atelier-[0-9a-f]{16}\.part")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer: FAT, exFAT, some network shares."""
_ABANDONED_S = 3600
"""Seconds after which a .part is stale where locks do not work."""

if sys.platform == "win32":

    def _lock(fd: int) -> bool | None:
        return None

else:
    import fcntl

    def _lock(fd: int) -> bool | None:
        """Whether `fd`'s file is now ours alone; None where the file system has no locks."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True


@dataclass(frozen=True)
class Part:
    """Bytes that are safe on disk under a temporary name."""

    path: Path

    def publish(self, target: Path) -> None:
        """Give the bytes their final name, in the same folder, and make that durable.

        Raises:
            FileExistsError: the name is taken; nothing changed, another may be tried.
            OSError: it did not work; nothing has the name.
        """
        try:
            os.link(self.path, target)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _rename(self.path, target)
        try:
            sync_folder(target.parent)
        except OSError as error:
            # The bytes are on disk and the name is visible, so the file is saved; only power loss within seconds could undo it.
            log.warning("%s is saved, but its folder could not be flushed: %s", target, error)


@contextmanager
def part(folder: Path, data: bytes, flush: bool = True) -> Iterator[Part]:
    """`data`, written and flushed to a temporary file of its own in `folder`; gone when the block ends.

    Without `flush` it is not to be published: it only shows that files can be written there.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    path = folder / f".atelier-{secrets.token_hex(8)}.part"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            _lock(fd)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if flush:
                os.fsync(fd)
            if sys.platform == "win32":  # where an open file cannot be renamed
                os.close(fd)
                fd = -1
            yield Part(path)
        finally:
            # After a rename there is nothing to remove, and what cannot be removed now is swept at the next start.
            with suppress(OSError):
                os.unlink(path)
    finally:
        # The bytes were flushed, so closing has nothing left to report.
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


def _rename(path: Path, target: Path) -> None:
    """Without hard links: take the name exclusively, then replace what we put there."""
    if sys.platform == "win32":
        os.rename(path, target)  # refuses a taken name by itself
        return
    fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        os.close(fd)
        os.replace(path, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise


def is_ours(path: Path) -> bool:
    """Whether this is a file, and not a link in its place.  What is served is what was saved, nothing elsewhere."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path) -> int:
    """Remove the .part files in `folder` whose writers are gone.  Returns how many; those of living writers stay."""
    removed = 0
    with os.scandir(folder) as entries:
        stale = [entry.path for entry in entries if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
    for path in stale:
        with suppress(OSError):
            removed += _remove_if_abandoned(path)
    return removed


def _remove_if_abandoned(path: str) -> bool:
    fd = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        locked = _lock(fd)
        abandoned = time.time() - os.fstat(fd).st_mtime > _ABANDONED_S if locked is None else locked
        if abandoned and sys.platform != "win32":
            os.unlink(path)  # while we hold the lock: nobody else can be judging the same file
    finally:
        os.close(fd)
    if abandoned and sys.platform == "win32":
        os.unlink(path)
    return abandoned
