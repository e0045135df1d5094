"""A1111's running number before the names of pictures, `00042-`: one more than the largest in the folder.

Any thread or process may count at any time: a number is taken and its file put in place under one lock, so that no two pictures
have the same one.  Source: AUTOMATIC1111 v1.10.1, `modules/images.py` (`get_next_sequence_number`): the first is 00000.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modules.images.files import Part
from modules.locks import ProcessLock

log = logging.getLogger("atelier")

LOCK = ".atelier-numbers.lock"
DIGITS = 5
PATIENCE_S = 30.0
"""That another process may hold the lock: a name is put in place in milliseconds, and a slow disk takes longer."""
_REMEMBERED = 4000
_CLOCKS_S = 60.0
"""By which the clock of a disk elsewhere may be behind ours."""
_NUMBER = re.compile(r"[0-9]{1,15}(?![0-9])")


class Numbers:
    """The running numbers of the folders below an outputs folder."""

    def __init__(self, outputs: Path) -> None:
        self._path, self._lock = outputs / LOCK, threading.Lock()
        self._own: OrderedDict[Path, None] = OrderedDict()  # what this process saved lately

    @contextmanager
    def _next_in(self, folder: Path) -> Iterator[int]:
        """The next number of a folder; nobody else takes it before the block ends.

        Raises:
            OSError: the folder cannot be read, or the lock's file not be made.
        """
        with self._lock:
            try:
                lock = ProcessLock(self._path, PATIENCE_S)
            except BlockingIOError:  # it has stopped: a picture must not be lost over its number
                log.warning("another process holds %s; a number may be given twice", self._path.name)
                lock = None
            try:
                yield 1 + max((number for number, _ in _numbered(folder)), default=-1)
            finally:
                if lock is not None:
                    lock.release()

    def publish(self, part: Part, folder: Path, rest: str) -> Path:
        """Put a file in place under the next number of its folder and `rest`; its path."""
        with self._next_in(folder) as number:
            for one in itertools.count(number):  # what was there when another program looked may be there now
                target = folder / numbered(one, rest)
                try:
                    part.publish(target)
                except FileExistsError:
                    continue
                self._own[target] = None
                while len(self._own) > _REMEMBERED:
                    self._own.popitem(last=False)
                return target
        raise AssertionError("numbers never end")

    def like(self, folder: Path, rest: str, since: float) -> list[Path]:
        """The files of a folder that are called a number and `rest`, not saved by this process and not older than `since`
        (seconds since 1970): one of them may be the same picture, saved by an earlier run that did not live to report it."""
        try:
            found = [folder / name for _, name in _numbered(folder) if _stem(name) == f"{_digits(name)}{_apart(rest)}"]
            return [path for path in found if path not in self._own and path.stat().st_mtime >= since - _CLOCKS_S]
        except OSError:
            return []


def numbered(number: int, rest: str) -> str:
    """
    >>> numbered(42, "-7"), numbered(42, "7"), numbered(42, "")
    ('00042-7', '00042-7', '00042')
    """
    return f"{number:0{DIGITS}d}{_apart(rest)}"


def _apart(rest: str) -> str:
    """What stands behind a number, so that its digits are told from the number's."""
    return f"-{rest}" if rest[:1].isdigit() else rest


def _numbered(folder: Path) -> Iterator[tuple[int, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if (digits := _digits(entry.name)) and entry.is_file(follow_symlinks=False):  # no folder of a day
                yield int(digits), entry.name


def _digits(name: str) -> str:
    found = _NUMBER.match(name)
    return found[0] if found else ""


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
