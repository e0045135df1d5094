"""A lock that one process holds for its life and that the operating system takes back however the process ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(fd: int) -> None:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None

else:
    import fcntl

    def _take(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class ProcessLock:
    """Held from construction until `release`.  The file stays: removing it would let two hold "the same" lock.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            _take(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def lost(self) -> bool:
        """Whether the file was removed or replaced, so that another process could hold a lock of the same name."""
        try:
            here, there = os.fstat(self._fd), os.stat(self._path)
        except OSError:
            return True
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
