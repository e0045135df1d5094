"""File locks between processes, which the operating system takes back however their holder ends.  Standard library only."""

from __future__ import annotations

import os
import sys
import time
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


_PAUSE = 0.01
"""Seconds between two tries."""


class ProcessLock:
    """Held from construction until `release`.  The file stays: removing it would let two hold "the same" lock.

    Raises:
        BlockingIOError: another process holds it, and did so for `patience` seconds.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        self._path, end = path, time.monotonic() + patience
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            while True:
                try:
                    _take(self._fd)
                    return
                except BlockingIOError:
                    if time.monotonic() >= end:
                        raise
                    time.sleep(_PAUSE)
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
