"""The gallery: all pictures in the outputs folder, found by search, with what people write down about them, and their trash.

What is looked for stands in the index; a thread fills it, first with what was just saved.  Everything is asked for `Owners`: a
picture that is not theirs is one that does not exist.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from modules.errors import AtelierError, OutputError, RequestError
from modules.gallery import trash
from modules.gallery.described import MAX_FILE, read_file
from modules.gallery.edits import Change, changed
from modules.gallery.index import Index, Owners, Page
from modules.gallery.notes import Notes, Remembered, note_of
from modules.gallery.scan import Owned, Scan
from modules.gallery.schema import Entry
from modules.gallery.search import Search, parse_search
from modules.gallery.sorting import SORTS, is_cursor
from modules.gallery.thumbnails import DECODED, Thumbnails
from modules.images import files
from modules.images.containers import WALKED
from modules.images.reading import Found, read_picture
from modules.queue.owners import OWNER

log = logging.getLogger("atelier")

MAX_PAGE = 200
MAX_IDS = 5000
"""Pictures that are changed, or taken along, at a time."""
FIRST_LOOK_S = 10.0
"""Seconds from the start to the first scan, unless a request asks for one before."""
QUICK_LOOK_S = 3.0
"""Seconds after which folders are looked at again, when a page or the state is asked for."""
PURGE_S = 3600.0
"""Seconds between looks for what has been in the trash for long enough."""


@dataclass(frozen=True)
class State:
    """How far the index is; `revision` grows with what the thread changes in it."""

    scanning: bool
    done: int
    total: int
    problem: str
    revision: int


class Gallery:
    """See the module.  Any thread may call.

    Args:
        folder: the data folder, for the index, the notes and the thumbnails.
        outputs: the outputs folder.
        owned: whose pictures are whose, as the job list knows it.
        trash_days: days after which the trash forgets; 0 is never.

    Raises (all methods):
        OutputError: a disk refuses, or the index does not answer.
    """

    def __init__(
        self,
        folder: Path,
        outputs: Path,
        owned: Callable[[], Owned] = dict,
        trash_days: int = 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outputs, self.trash_days, self._clock = outputs.absolute(), trash_days, clock
        self.index = Index(folder / "gallery.sqlite")
        self.notes = Notes(folder / "gallery-notes.jsonl")
        self.thumbnails = Thumbnails(folder / "thumbnails")
        self._scan = Scan(self._outputs, self.index, self.notes, owned, self._between, folder)
        self._editing, self._moving = threading.Lock(), threading.Lock()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._saved: deque[tuple[str, str]] = deque()
        self._wanted, self._looking = "", ""
        """Which look at the folders is asked for, and which is under way: "whole", "quick" or none."""
        self._looked = -QUICK_LOOK_S
        self._passes, self._revision, self._problem = 0, 0, ""
        self._generation = -1
        self._thread: threading.Thread | None = None
        self._closing = False

    # ---- its thread

    def start(self) -> None:
        """Keep the index from now on."""
        with self._lock:
            self._run()

    def close(self) -> None:
        """End the thread, in the middle of a scan too."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=20)
        self.index.close()

    def saved(self, path: str, user: str) -> None:
        """A picture of this user was saved, at `path` below the outputs.  Returns at once and never raises."""
        with self._lock:
            self._saved.append((path, user))
            self._run()
            self._changed.notify_all()

    def look(self) -> None:
        """Have the folders looked at, if that was not done just now."""
        with self._lock:
            if self._wanted or self._looking or self._closing or time.monotonic() - self._looked < QUICK_LOOK_S:
                return
            self._wanted = "quick" if self._passes else "whole"
            self._run()
            self._changed.notify_all()

    def rescan(self, seconds: float | None = 0.0) -> None:
        """Have all files looked at; waits for that up to `seconds`, None for however long it takes."""
        with self._lock:
            passes = self._passes
            self._wanted = "whole"
            self._run()
            self._changed.notify_all()

            def looked() -> bool:
                return self._closing or (self._passes > passes and not self._wanted and not self._looking)

            self._changed.wait_for(looked, seconds)

    def state(self) -> State:
        """How far the index is; asking has the folders looked at."""
        self.look()
        progress = self._scan.progress
        with self._lock:
            scanning = "whole" in (self._wanted, self._looking) or (self._looking != "" and progress.total > 0)
            problem = self._problem or progress.problem
            return State(scanning, progress.done, progress.total, problem, self._revision)

    # ---- looking

    def search(self, text: str) -> Search:
        """What a search asks for.

        Raises:
            RequestError: it makes no sense; why.
        """
        return parse_search(text, self.index.sides)

    def page(self, text: str, owners: Owners, sort: str = "newest", cursor: str = "", limit: int = 60) -> Page:
        """Pictures that a search finds, by the cursor of the page before.

        Raises:
            RequestError: the search, the order or the cursor makes no sense.
        """
        if sort not in SORTS:
            raise RequestError(f"sort: must be one of {', '.join(SORTS)}")
        if cursor and not is_cursor(cursor, sort):
            raise RequestError("cursor: must be what the page before gave as next, for the same order")
        if not 1 <= limit <= MAX_PAGE:
            raise RequestError(f"limit: must be a whole number from 1 to {MAX_PAGE}")
        search = self.search(text)
        self.look()
        return self.index.page(search, owners, sort, cursor, limit)

    def count(self, text: str, owners: Owners) -> int:
        return self.index.count(self.search(text), owners)

    def ids(self, text: str, owners: Owners) -> list[int]:
        """The newest that a search finds, as many as may be changed at a time."""
        return self.index.ids(self.search(text), owners, MAX_IDS)

    def facets(self, owners: Owners) -> dict[str, Any]:
        """What can be chosen from: models, samplers, tags and albums with how many pictures, and what is in the trash."""
        return {
            "models": self.index.names("model", owners),
            "samplers": self.index.names("sampler", owners),
            "tags": self.index.labels("tag", owners),
            "albums": self.index.labels("album", owners),
            "trash": self.index.count(Search(trash=True), owners),
        }

    def entry(self, id_: int, owners: Owners) -> Entry | None:
        return self.index.entry(id_, owners)

    def file(self, entry: Entry) -> Path | None:
        """The file of a picture, as it was when the index read it; None when it is gone, changed or a link."""
        path = self._outputs / entry.path
        try:
            if path.resolve(strict=True) != self._outputs.resolve() / entry.path:
                return None
            found = path.lstat()
        except (OSError, RuntimeError, ValueError):
            return None
        stamp = entry.said.stamp
        if files.is_ours(path) and (found.st_size, found.st_mtime_ns) == (stamp.size, stamp.changed):
            return path
        return None

    def thumbnail(self, entry: Entry) -> bytes | None:
        """A small JPEG; None where the file is gone, broken or too large for one.  A picture whose pixels cannot be read is
        marked as broken."""
        small = bool(entry.said.sha256) and not entry.said.broken and DECODED.hold(entry.said.width, entry.said.height)
        path = self.file(entry) if small else None
        if path is None:
            return None
        try:
            return self.thumbnails.get(entry.said.sha256, path)
        except OSError:
            return None
        except RequestError as error:
            self.index.mark_broken(entry, str(error))
            with self._lock:
                self._revision += 1
            return None

    def read(self, entry: Entry) -> Found | None:
        """What the picture says of how it was made; None when its file is gone.

        Raises:
            RequestError: it is broken.
        """
        path = self.file(entry)
        if path is None:
            return None
        try:
            data, _ = read_file(path)
        except OSError:
            return None
        if data is None:
            raise RequestError(f"the picture has more than {MAX_FILE >> 20} MiB, and is not read")
        return read_picture(data, bounds=WALKED)

    # ---- changing

    def edit(self, ids: Sequence[int], owners: Owners, change: Change) -> list[Entry]:
        """Write down about these pictures; they as they are now.

        Raises:
            RequestError: a tag or an album makes no sense, or there would be too many.
        """
        with self._editing:  # or of two changes at a time the later one takes the earlier one back
            entries = [entry for entry in self._named(ids, owners) if entry.said.sha256]
            changes = [(entry, changed(entry.written, change)) for entry in entries]
            self.notes.keep(note_of(replace(entry, written=written)) for entry, written in changes)
            return self.index.write(changes)

    def discard(self, ids: Sequence[int], owners: Owners) -> list[int]:
        """Put pictures into the trash; the ids of those that are there now."""
        token, gone = trash.new_token(self._clock()), []
        with self._moving:
            for entry in self._named(ids, owners):
                if entry.trashed is not None or self.file(entry) is None:
                    continue
                path = trash.discard(self._outputs, entry.path, token)
                found = trash.origin_of(path)
                self.index.move(entry, path, found[1] if found else self._clock())
                gone.append(entry.id)
        return gone

    def restore(self, ids: Sequence[int], owners: Owners) -> list[int]:
        """Take pictures out of the trash, to where they were; the ids of those that are there now."""
        back = []
        with self._moving:
            for entry in self._named(ids, owners):
                if entry.trashed is not None and self.file(entry) is not None:
                    self.index.move(entry, trash.restore(self._outputs, entry.path), None)
                    back.append(entry.id)
        return back

    def empty(self, owners: Owners, ids: Sequence[int] | None = None) -> int:
        """Delete pictures of the trash for good, all of them where `ids` is None; how many."""
        chosen = self.index.ids(Search(trash=True), owners, MAX_IDS) if ids is None else list(ids)
        return self._destroy(entry for entry in self._named(chosen, owners) if entry.trashed is not None)

    def forget(self, paths: Iterable[str]) -> None:
        """The files of these pictures were deleted.  Never raises: the next scan sees it too."""
        paths = list(paths)
        with suppress(AtelierError):
            entries = [entry for path in paths if (entry := self.index.at(path)) is not None]
            for entry in entries:
                if entry.said.sha256:
                    self.thumbnails.forget(entry.said.sha256)
            self.index.forget(paths)
            self._forget_notes(entries)

    # ---- inside

    def _named(self, ids: Sequence[int], owners: Owners) -> list[Entry]:
        if len(ids) > MAX_IDS:
            raise RequestError(f"{len(ids)} pictures were named; at most {MAX_IDS} are changed at a time")
        return self.index.entries(dict.fromkeys(ids), owners)

    def _destroy(self, entries: Iterable[Entry]) -> int:
        count = 0
        with self._moving:
            for entry in entries:
                trash.destroy(self._outputs, entry.path)
                if entry.said.sha256:
                    self.thumbnails.forget(entry.said.sha256)
                self.index.forget([entry.path])
                self._forget_notes([entry])
                count += 1
        return count

    def _forget_notes(self, entries: Iterable[Entry]) -> None:
        """Of pictures that were deleted for good; what cannot be written now costs a line in the file."""
        with suppress(OutputError):
            self.notes.keep((replace(note_of(entry), gone=True) for entry in entries), durable=False)

    def _run(self) -> None:
        """Under the lock."""
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._work, name="gallery", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """On the thread."""
        first, purged = time.monotonic() + FIRST_LOOK_S, -PURGE_S
        while True:
            with self._lock:
                wait = first - time.monotonic() if not self._passes and not self._wanted else PURGE_S
                if not self._saved and not self._wanted and not self._closing and wait > 0:
                    self._changed.wait(wait)
                if self._closing:
                    return
                if not self._passes and not self._wanted and time.monotonic() >= first:
                    self._wanted = "whole"
                wanted = self._looking = self._wanted
                self._wanted = ""  # what is asked for from now on may have changed behind this look
            self._guarded(self._take_saved)
            if wanted:
                self._guarded(partial(self._look_through, wanted))
                with self._lock:
                    self._passes, self._looked = self._passes + 1, time.monotonic()
                    self._looking = ""
                    self._changed.notify_all()
            if time.monotonic() - purged >= PURGE_S and self._passes:
                purged = time.monotonic()
                self._guarded(self._forget_old)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except AtelierError as error:
            log.warning("the gallery is not up to date: %s", error)
            self._problem = f"The list may not be up to date: {error}."
        except Exception:
            log.exception("while the gallery was brought up to date")
            self._problem = "The list may not be up to date; the log says why."
        else:
            self._problem = ""

    def _look_through(self, wanted: str) -> None:
        if not self._passes:
            self.index.check()
        generation = self.index.generation
        whole = wanted == "whole" or generation != self._generation
        for _ in range(2):
            if self._scan.run(whole) or generation != self._generation:
                with self._lock:
                    self._revision += 1
            if self.index.generation == generation or self._closing:
                break
            generation, whole = self.index.generation, True  # it was lost in the meantime
        self._generation = generation

    def _between(self) -> bool:
        """Between the batches of a scan: what was saved comes first; whether to stop."""
        self._take_saved()
        with self._lock:
            self._revision += 1
            return self._closing

    def _take_saved(self) -> None:
        with self._lock:
            saved = dict(self._saved)
            self._saved.clear()
        fresh = []
        for entry in self._scan.entries(saved, Remembered(), {}) if saved else ():
            there = self.index.at(entry.path)
            known = there if there is not None and there.said.sha256 == entry.said.sha256 else None
            if known is None or known.owner != saved[entry.path]:  # else a job was taken up again after a crash
                written = entry.written if known is None else known.written
                fresh.append(replace(entry, owner=saved[entry.path], written=written))
        if not fresh:
            return
        self.notes.keep((note_of(entry) for entry in fresh if entry.owner != OWNER), durable=False)
        self.index.put(fresh)
        with self._lock:
            self._revision += 1

    def _forget_old(self) -> None:
        due = self.index.trashed_before(self._clock() - self.trash_days * 86_400) if self.trash_days else []
        for entry in due:
            try:
                self._destroy([entry])
            except OutputError as error:  # tried again in an hour; the others go all the same
                log.warning("the trash keeps a picture that is due: %s", error)
        if self.thumbnails.full:
            self.thumbnails.trim()
