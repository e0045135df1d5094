"""The model files in memory, each with what it says of itself: what the list is made of.

New and vanished files are seen at once, by the folders' times.  What is in files is read on a thread, the list is usable
meanwhile; the same thread looks every few seconds whether files that are known were changed in place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modules.model_library.described import NOTHING, Described, describe, stamp
from modules.model_library.store import ModelStore
from modules.model_library.survey import Found, models_in, survey

log = logging.getLogger("atelier")

LOOK_SECONDS = 3.0
"""Files that are known are looked at again after this time, when somebody asks."""
PATIENCE_SECONDS = 0.15
"""How long a list waits for what is read just now, where that is little."""
LITTLE = 64
"""Files that are read within that time."""
BATCH = 200
"""Descriptions that are written at a time."""


@dataclass(frozen=True)
class Entry:
    """A file and what it says; `stamp` is "" until it was read.  `text` is what a search looks through, `order` sorts names."""

    found: Found
    said: Described = NOTHING
    stamp: str = ""
    text: str = ""
    order: str = ""


def entry_of(found: Found, said: Described = NOTHING, stamped: str = "") -> Entry:
    parts = (found.name, found.file, said.alias, said.base_model, said.family, said.hash, *said.triggers, said.about)
    return Entry(found, said, stamped, "\n".join(parts).casefold(), found.name.casefold())


class ModelIndex:
    """All models of the models folders.  Any thread may call.

    Args:
        folders: models folders; asked for each time, as tests and settings may change them.
        store: what is remembered between runs.
    """

    def __init__(self, folders: Callable[[], Sequence[Path]], store: ModelStore) -> None:
        self._folders, self._store = folders, store
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._surveyed: object = None
        self._entries: dict[str, Entry] = {}
        self._unread: set[str] = set()
        self._kept: dict[str, tuple[str, Described]] | None = None
        self._looked, self._passes = -LOOK_SECONDS, 0
        self._thread: threading.Thread | None = None
        self._closing = False

    def entries(self, patience: float = PATIENCE_SECONDS) -> dict[str, Entry]:
        """By id, of the files that are there now; what was not read yet says nothing.  Not to be changed."""
        folders = tuple(self._folders())
        surveyed = survey(folders)
        with self._lock:
            if (folders, surveyed) != self._surveyed:
                self._take(models_in(surveyed, folders))
                self._surveyed = folders, surveyed
            if (self._unread or time.monotonic() - self._looked > LOOK_SECONDS) and not self._closing:
                self._wake()
            if self._unread and len(self._unread) <= LITTLE:
                self._changed.wait_for(lambda: not self._unread or self._closing, patience)
            return self._entries

    @property
    def unread(self) -> int:
        """Files that are not read yet."""
        with self._lock:
            return len(self._unread)

    def entry(self, id_: str) -> Entry | None:
        """The file of this id as it is now, read where it was not."""
        found = self.entries(0.0).get(id_)
        if found is None:
            return None
        now = stamp(found.found)
        return found if now and now == found.stamp else self._read(found.found, now)

    def refresh(self, seconds: float = 30.0) -> None:
        """Look at all files again; waits for that, but not for ever."""
        self.entries(0.0)
        with self._lock:
            passes, self._looked = self._passes, -LOOK_SECONDS
            self._wake()
            self._changed.wait_for(lambda: self._passes > passes or self._closing, seconds)

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _take(self, models: Sequence[Found]) -> None:
        """These are there now.  Under the lock."""
        before, self._entries = self._entries, {}
        for found in models:
            known = before.get(found.id)
            if known is not None and known.found == found:
                self._entries[found.id] = known
            elif known is not None:  # a neighbour came or went
                self._entries[found.id] = entry_of(found, known.said)
                self._unread.add(found.id)
            else:
                self._entries[found.id] = entry_of(found)
                self._unread.add(found.id)
        self._unread &= self._entries.keys()

    def _wake(self) -> None:
        """Have the thread read and look.  Under the lock."""
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._work, name="models", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """On the thread: once through all files, and again as long as there are unread ones; then it ends."""
        fresh: list[tuple[str, str, Described]] = []
        if self._kept is None:
            self._kept = self._store.described()
        while (models := self._next_round()) is not None:
            for found in models:
                if self._closing:
                    break
                try:
                    self._look_at(found, fresh)
                except Exception:
                    log.exception("while reading %s", found.path.name)
                    self._put(entry_of(found, Described(problem=f"{found.path.name} cannot be read"), stamp(found)))
                if len(fresh) >= BATCH:
                    self._keep(fresh)
            self._keep(fresh)

    def _next_round(self) -> list[Found] | None:
        """What is to be looked at, unread files first; None when nothing is, which ends the thread."""
        with self._lock:
            unread = [self._entries[id_].found for id_ in self._unread]
            if self._closing:
                unread = []
            elif time.monotonic() - self._looked > LOOK_SECONDS:
                self._looked = time.monotonic()
                return unread + [entry.found for entry in self._entries.values() if entry.found.id not in self._unread]
            if not unread:
                self._thread, self._passes = None, self._passes + 1
                self._changed.notify_all()
            return unread or None

    def _look_at(self, found: Found, fresh: list[tuple[str, str, Described]]) -> None:
        now, before = stamp(found), self._entries.get(found.id)
        if before is None or (now == before.stamp and now):
            self._settle(found.id)
            return
        assert self._kept is not None
        stamped, said = self._kept.get(found.id, ("", NOTHING))
        if not now or stamped != now:
            said = describe(found)
            if now and stamp(found) == now:
                fresh.append((found.id, now, said))
                self._kept[found.id] = now, said
        self._put(entry_of(found, said, now))

    def _read(self, found: Found, stamped: str) -> Entry:
        entry = entry_of(found, describe(found), stamped)
        self._put(entry)
        return entry

    def _put(self, entry: Entry) -> None:
        with self._lock:
            there = self._entries.get(entry.found.id)
            if there is not None and there.found == entry.found:
                self._entries[entry.found.id] = entry
                self._unread.discard(entry.found.id)
                if not self._unread:
                    self._changed.notify_all()

    def _settle(self, id_: str) -> None:
        with self._lock:
            self._unread.discard(id_)
            if not self._unread:
                self._changed.notify_all()

    def _keep(self, fresh: list[tuple[str, str, Described]]) -> None:
        if fresh:
            self._store.keep_described(fresh)
            fresh.clear()
