"""The database's file under its name: noticing that it was removed or replaced while it is open, and writing it there again.

SQLite goes on with the file that it opened, whatever its name leads to by then: without a look, everything that is accepted
after an `rm` is gone at the next start.  The open connection still has all of it, and a copy of that takes the name again.
Files are compared by device and inode and opened by nothing but SQLite: see `modules.accounts.store`.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer: FAT, exFAT, some network shares."""
_FURTHER = ("-wal", "-shm")
"""SQLite's own files beside a database: the write-ahead log, and its index."""

Identity = tuple[int, int]


class Place:
    """The names of one database: `path`, and those of SQLite's further files beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._main: Identity | None = None
        self._further: dict[str, Identity | None] = {}

    def remember(self) -> None:
        """What has the names now is what is open."""
        self._main = identity(self.path)
        self._further = {suffix: identity(self._beside(suffix)) for suffix in _FURTHER}

    def lost(self) -> str:
        """ "removed" or "replaced" when the file that is open no longer has the name, else ""."""
        there = identity(self.path)
        if there == self._main:
            return ""
        return "removed" if there is None else "replaced"

    def restore(self, db: sqlite3.Connection) -> Path | None:
        """Write what `db` holds under the name again, durably.  Returns what another file that had the name is called now.

        The caller then opens it anew.  Nothing is ever overwritten.

        Raises:
            OSError, sqlite3.Error: it did not work; `db` is as usable as before.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.new")
        try:
            with closing(sqlite3.connect(fresh)) as copy:
                copy.execute("PRAGMA synchronous = FULL")
                db.backup(copy)
            aside = self._make_way()
            _name(fresh, self.path)
            _flush(self.path.parent)
        finally:
            for suffix in ("", "-journal"):
                with suppress(OSError):
                    os.unlink(fresh.with_name(fresh.name + suffix))
        for suffix in _FURTHER:  # the log of the open connection: all that it holds is in the copy
            if (ours := self._further.get(suffix)) is not None and identity(self._beside(suffix)) == ours:
                os.unlink(self._beside(suffix))
        return aside

    def _make_way(self) -> Path | None:
        """Give another database that has the name, and its further files, other names beside it."""
        if identity(self.path) is None:
            return None
        number = 1
        while (aside := self._beside(f".replaced-{number}")).exists():
            number += 1
        for suffix in (*_FURTHER, ""):
            there = identity(self._beside(suffix))
            if there is not None and there != self._further.get(suffix):
                os.rename(self._beside(suffix), aside.with_name(aside.name + suffix))
        return aside

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def identity(path: Path) -> Identity | None:
    """Device and inode of the file that has this name; None when none has.  Does not open it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _name(fresh: Path, path: Path) -> None:
    try:
        os.link(fresh, path)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in _NO_LINKS:
            raise
        os.rename(fresh, path)


def _flush(folder: Path) -> None:
    """Make names in the folder survive power loss."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
