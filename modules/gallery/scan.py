"""The scan: what is in the outputs folder, compared with the index folder by folder, and read where it is new or changed.

A whole scan looks at every file's size and time; a quick one lists only the folders that changed, and looks at broken files
again, which may have been in the middle of being written.  Links are not followed; hidden folders but the trash are left out,
as is the folder of the pictures that others were painted from.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from modules.gallery.described import SUFFIXES, Described, Stamp, describe
from modules.gallery.index import Index
from modules.gallery.notes import Note, Notes, Remembered
from modules.gallery.schema import UNKNOWN, Entry, Written
from modules.gallery.trash import TRASH, origin_of

log = logging.getLogger("atelier")

SOURCES = "sources"
"""The folder below the outputs where pictures lie that others were painted from (`modules.jobs.input_images`)."""
BATCH = 64
"""Pictures that go into the index at a time."""
MAX_DEPTH = 16
"""Folders in folders that are looked into."""
_SETTLED_S = 2.0
"""Seconds after which a folder's time tells its changes apart."""
_YOUNG_S = 60.0
"""Seconds for which an empty file may be a name that its writer has reserved."""

Owned = Mapping[str, tuple[str, str]]
"""By path: the user whose job made the picture, and the SHA-256 that its file had."""


@dataclass(frozen=True)
class Progress:
    """`total` is 0 while nothing is scanned; `problem` says why pictures may be missing from the list."""

    done: int = 0
    total: int = 0
    problem: str = ""


@dataclass(frozen=True)
class _Listing:
    """A folder: its picture files, the folders in it, and its own time."""

    files: dict[str, Stamp]
    folders: list[str]
    changed: int


class Scan:
    """One after the other, on one thread.

    Args:
        outputs: the folder.
        index, notes: what is filled, and what is known beside the files.
        owned: which pictures are whose, as far as the job list knows.
        between: called after each batch, for what cannot wait; a true answer ends the scan.
        own: the data folder, which may lie in the outputs: its thumbnails are no pictures.
    """

    def __init__(
        self, outputs: Path, index: Index, notes: Notes, owned: Callable[[], Owned], between: Callable[[], bool], own: Path
    ) -> None:
        self._outputs, self._index, self._notes = outputs, index, notes
        self._owned, self._between, self._own = owned, between, own
        self._listed: dict[str, tuple[int, list[str]]] = {}  # folder -> its time when it was last compared, the folders in it
        self.progress = Progress()

    def run(self, whole: bool) -> bool:
        """Bring the index to what is there; whether it was not that before."""
        if whole:
            self._listed.clear()
        fresh, gone, lost, unreadable = self._compare()
        if not whole:
            fresh = list(dict.fromkeys([*fresh, *self._changed_broken()]))
        if gone:
            self._index.forget(gone)
        problem = f"The folder {unreadable[0] or self._outputs.name!r} could not be read." if unreadable else ""
        self.progress = Progress(0, len(fresh), problem)
        if fresh:
            self._read(fresh)
        self.progress = Progress(problem=problem)
        return bool(fresh or gone or lost)

    def entries(self, paths: Iterable[str], remembered: Remembered, owned: Owned) -> list[Entry]:
        """The pictures at these paths, as far as they are there."""
        found = []
        for path in paths:
            said = describe(self._outputs / path, path)
            if said is not None:
                found.append(_entry(path, said, remembered, owned))
        return found

    # ---- inside

    def _read(self, fresh: list[str]) -> None:
        remembered, owned = self._notes.read(), self._owned()
        for at in range(0, len(fresh), BATCH):
            entries = [self._still_owned(entry) for entry in self.entries(fresh[at : at + BATCH], remembered, owned)]
            self._index.put(entries)
            learnt = [entry for entry in entries if entry.owner and owned.get(entry.path, ("", ""))[0] == entry.owner]
            self._remember([entry for entry in learnt if remembered.find(entry.said.sha256, entry.path) is None])
            self.progress = Progress(min(at + BATCH, len(fresh)), len(fresh), self.progress.problem)
            if self._between():
                self._listed.clear()  # what was not read is found again
                return

    def _still_owned(self, entry: Entry) -> Entry:
        """Whose it is, where that was recorded after this scan asked: it was saved in the meantime."""
        there = self._index.at(entry.path) if entry.owner == UNKNOWN else None
        if there is None or there.said.sha256 != entry.said.sha256:
            return entry
        return replace(entry, owner=there.owner)

    def _remember(self, entries: list[Entry]) -> None:
        """Whose they are: the job list forgets old jobs, and the index can be lost."""
        notes = [Note(entry.said.sha256, entry.path, entry.owner, Written()) for entry in entries]
        self._notes.keep(notes, durable=False)

    def _compare(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Paths of new or changed files, of those that are gone, folders that are gone, and those that could not be listed."""
        fresh: list[str] = []
        gone: list[str] = []
        unreadable: list[str] = []
        seen: set[str] = set()
        waiting = [("", 0)]
        while waiting:
            folder, depth = waiting.pop()
            seen.add(folder)
            try:
                listing = self._look(folder)
            except OSError as error:
                log.warning("the gallery cannot read the folder %s: %s", folder or self._outputs, error.strerror or error)
                unreadable.append(folder)
                continue
            below = listing.folders if listing is not None else self._listed[folder][1]
            if depth < (MAX_DEPTH + 2 if _within(folder, (TRASH,)) else MAX_DEPTH):  # there each has its whole path
                waiting += [(f"{folder}/{name}".lstrip("/"), depth + 1) for name in below]
            if listing is not None:
                known = self._index.known(folder)
                paths = {name: f"{folder}/{name}".lstrip("/") for name in (*listing.files, *known)}
                new = [name for name, stamp in listing.files.items() if name not in known or known[name][0] != stamp]
                fresh += [paths[name] for name in new if _is_meant(paths[name])]
                gone += [paths[name] for name in known if name not in listing.files]
        lost = [folder for folder in self._index.folders() if folder not in seen and not _within(folder, unreadable)]
        if lost:
            self._index.forget_folders(lost)
            for folder in lost:
                self._listed.pop(folder, None)
        return sorted(fresh), gone, lost, unreadable

    def _look(self, folder: str) -> _Listing | None:
        """What is in a folder; None where nothing came or went since it was last compared.

        Raises:
            OSError: it cannot be listed.
        """
        place = self._outputs / folder
        changed = os.stat(place, follow_symlinks=False).st_mtime_ns if folder else os.stat(place).st_mtime_ns
        if folder in self._listed and self._listed[folder][0] == changed:
            return None
        listing = _list(place, folder, changed)
        listing.folders[:] = [name for name in listing.folders if not self._is_own(place / name)]
        settled = time.time() - changed / 1e9 > _SETTLED_S
        self._listed[folder] = (changed if settled else -1, listing.folders)
        return listing

    def _is_own(self, place: Path) -> bool:
        try:
            return place.name == self._own.name and place.samefile(self._own)
        except OSError:
            return False

    def _changed_broken(self) -> list[str]:
        changed = []
        for path, stamp in self._index.broken().items():
            try:
                found = (self._outputs / path).lstat()
            except OSError:
                continue
            if stamp != Stamp(found.st_size, found.st_mtime_ns):
                changed.append(path)
        return changed


def _list(place: Path, folder: str, changed: int) -> _Listing:
    found: dict[str, Stamp] = {}
    folders = []
    with os.scandir(place) as entries:
        for entry in entries:
            name = entry.name
            if not _is_text(name) or (name.startswith(".") and not (name == TRASH and not folder)):
                continue
            if entry.is_dir(follow_symlinks=False):
                if folder or name != SOURCES:
                    folders.append(name)
            elif os.path.splitext(name)[1].lower() in SUFFIXES and entry.is_file(follow_symlinks=False):
                try:
                    there = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it went while we looked
                if there.st_size or time.time() - there.st_mtime > _YOUNG_S:
                    found[name] = Stamp(there.st_size, there.st_mtime_ns)
    return _Listing(found, folders, changed)


def _is_text(name: str) -> bool:
    """Whether a name can be written down: those of other encodings cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_meant(path: str) -> bool:
    """Whether a file belongs into the list: of the trash's folder, only what was put there by us."""
    return not path.startswith(f"{TRASH}/") or origin_of(path) is not None


def _within(folder: str, others: Iterable[str]) -> bool:
    return any(not other or folder == other or folder.startswith(f"{other}/") for other in others)


def _entry(path: str, said: Described, remembered: Remembered, owned: Owned) -> Entry:
    """A picture with whose it is and what was written down about it."""
    discarded = origin_of(path)
    origin, trashed = discarded if discarded is not None else (path, None)
    note = remembered.find(said.sha256, origin)
    user, digest = owned.get(origin, ("", ""))
    if user and digest == said.sha256:
        owner = user
    elif note is not None:
        owner = note.owner
    else:
        owner = UNKNOWN if said.ours else ""
    return Entry(path, owner, said, note.written if note is not None else Written(), origin, trashed)
