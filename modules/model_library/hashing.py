"""Hashes of model files, worked out on a thread when they are asked for, with progress.

A1111's short hashes: of a LoRA 12 digits of the sha256 of what is behind the header (AutoV3), of an embedding 12 of the whole
file's, of all others 10 of the whole file's (AutoV2).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modules.checkpoints.hashes import KnownHashes, file_sha256
from modules.checkpoints.header import header_of, open_model
from modules.checkpoints.sources import size_of, stamp_of
from modules.errors import CheckpointError
from modules.model_library.index import Entry
from modules.model_library.store import ModelStore
from modules.model_library.survey import Found

log = logging.getLogger("atelier")

MAX_WAITING = 200
"""Files whose turn is still to come; of more the first ones go."""
_BLOCK = 4 << 20


@dataclass
class _Job:
    found: Found
    total: int
    done: int = 0


class Hashes:
    """See the module.  `cache` is the file of `checkpoints.hashes`, which the engine uses too.  Any thread may call."""

    def __init__(self, cache: Path, store: ModelStore) -> None:
        self._cache, self._store = cache, store
        self._known = KnownHashes(cache)
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, _Job] = OrderedDict()
        self._current: _Job | None = None
        self._thread: threading.Thread | None = None
        self._autov3: dict[str, tuple[str, str]] | None = None
        self._failed: set[tuple[str, str]] = set()
        self._closing = False

    def sha256(self, found: Found) -> str:
        """Of the whole file, where it is known; "" else."""
        return self._known.sha256(found.path)

    def autov3(self, found: Found) -> str:
        """Of what is behind a LoRA's header, where it is known."""
        with self._lock:
            if self._autov3 is None:
                self._autov3 = self._store.autov3()
            stamped, digest = self._autov3.get(found.id, ("", ""))
        return digest if digest and stamped == _stamp(found.path) else ""

    def short(self, entry: Entry) -> str:
        """As A1111 shows it, "" while it is not known."""
        found = entry.found
        if found.kind == "lora":
            return entry.said.hash or self.autov3(found)[:12]
        return self.sha256(found)[: 12 if found.kind == "embedding" else 10]

    def known(self, found: Found) -> bool:
        """Whether there is nothing (more) to work out."""
        return bool(self.sha256(found)) and (found.kind != "lora" or found.pickle or bool(self.autov3(found)))

    def ask(self, found: Found) -> None:
        """Have the hashes of a file worked out, if they are not known; returns at once."""
        if self.known(found):
            return
        with self._lock:
            if self._closing or found.id in self._waiting or (self._current and self._current.found.id == found.id):
                return
            if (found.id, _stamp(found.path)) in self._failed:
                return
            self._waiting[found.id] = _Job(found, 1)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="model-hashes", daemon=True)
                self._thread.start()

    def progress(self, id_: str) -> float | None:
        """How much of a file is read, 0 to 1; None where nothing is worked out or waits."""
        with self._lock:
            if self._current and self._current.found.id == id_:
                return min(1.0, self._current.done / max(1, self._current.total))
            return 0.0 if id_ in self._waiting else None

    def close(self) -> None:
        """End the thread, in the middle of a file if need be."""
        with self._lock:
            self._closing = True
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._current = self._thread = None
                    return
                _, self._current = self._waiting.popitem()  # what was asked for last is looked at now
                job = self._current
            try:
                self._hash(job)
            except (CheckpointError, OSError, _Closing) as error:
                self._failed.add((job.found.id, _stamp(job.found.path)))
                log.warning("the hash of %s stays unknown: %s", job.found.path.name, error)
            except Exception:
                self._failed.add((job.found.id, _stamp(job.found.path)))
                log.exception("while hashing %s", job.found.path.name)

    def _hash(self, job: _Job) -> None:
        found = job.found
        job.total = max(1, size_of(found.path))

        def read(count: int) -> None:
            job.done += count
            if self._closing:
                raise _Closing("the program ends")

        if found.kind == "lora" and not found.pickle and not self.autov3(found):
            job.total *= 2
            stamped, digest = _stamp(found.path), _behind_header(found.path, read)
            if stamped == _stamp(found.path):
                self._store.keep_autov3(found.id, stamped, digest)
                with self._lock:
                    assert self._autov3 is not None
                    self._autov3[found.id] = stamped, digest
        file_sha256(found.path, self._cache, read)


class _Closing(Exception):
    """The program ends."""


def _behind_header(path: Path, read: Callable[[int], None]) -> str:
    """The sha256 of what is behind a safetensors file's header."""
    with open_model(path) as file:
        file.seek(header_of(file, path).data_start)
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
            read(len(block))
    return digest.hexdigest()


def _stamp(path: Path) -> str:
    try:
        size, changed, inode = stamp_of(path)
    except OSError:
        return ""
    return f"{size} {changed} {inode}"
