"""Reading ahead: the files of the checkpoint that is needed next come into the system's file cache while another one works.

Going over to it then takes what moves from main memory to the device, and no disk.  Nothing here makes tensors: weights are
mapped from the very pages that were read (`weights`), so nothing is in memory twice, and the system takes the place back where
it is needed for something else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modules.checkpoints import host_memory
from modules.checkpoints.header import open_model
from modules.checkpoints.sources import open_source
from modules.errors import AtelierError

log = logging.getLogger(__name__)

PART = 0.5
"""Of the main memory that is free, what files are read into at most: more would only push out what was read before."""

BLOCK = 16 * 2**20
"""Bytes that are read at a time; between two blocks it is asked whether they are still needed."""


@dataclass(frozen=True)
class Needed:
    """What is read: the checkpoint at `path`, a file or a folder, and the files `beside` it that are loaded with it."""

    path: Path
    beside: tuple[Path, ...] = ()


class ReadAhead:
    """Reads what is needed next, one checkpoint at a time, on a thread of its own.

    Args:
        free: bytes of main memory that are free, None where that is not known: then nothing is read.
        read: reads the next bytes of a file into a buffer; says how many.

    All methods may be called from any thread, and return at once.
    """

    def __init__(
        self,
        free: Callable[[], int | None] = host_memory.available,
        read: Callable[[BinaryIO, bytearray], int] = lambda file, into: file.readinto(into),  # type: ignore[attr-defined]
    ) -> None:
        self._free, self._read = free, read
        self._needed: Needed | None = None
        """What is being read; None when that is done, or has failed."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def want(self, needed: Needed | None) -> None:
        """This is needed next, or nothing is; reading something else ends.

        An error of reading is not raised here: the load that follows raises it.
        """
        with self._changed:
            self._needed = needed
            if needed is not None and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Whether nothing is being read, after `timeout` seconds at most."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                needed = self._needed
                if needed is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
            try:
                self._bring(needed)
            except (OSError, AtelierError) as error:
                log.debug("%s was not read ahead: %s", needed.path.name, error)
            except Exception:  # logged, and the thread goes on: reading ahead is optional
                log.exception("while reading %s ahead", needed.path.name)
            with self._changed:
                if self._needed == needed:
                    self._needed = None

    def _bring(self, needed: Needed) -> None:
        with open_source(needed.path) as source:
            self._bring_all(needed, needed.path, source.files)
        for path in needed.beside:
            if self._still(needed):
                with open_model(path) as file:
                    self._bring_all(needed, path, (file,))

    def _bring_all(self, needed: Needed, path: Path, files: Sequence[BinaryIO]) -> None:
        size, free = sum(os.fstat(file.fileno()).st_size for file in files), self._free()
        if free is None or size > PART * free:
            log.debug("%s is not read ahead: %s bytes of main memory are free", path.name, free)
            return
        buffer = bytearray(BLOCK)
        for file in files:
            file.seek(0)
            while self._still(needed) and self._read(file, buffer):
                pass

    def _still(self, needed: Needed) -> bool:
        return self._needed == needed
