"""What cannot be read from the pictures themselves: what people wrote down, and whose they are.

A text file in the data folder, `gallery-notes.jsonl`, beside the index and independent of it: a JSON object a line, the whole
of what is known of one picture, the last line of a picture counts, and of one that was deleted for good none does.  A picture
is known by the SHA-256 of its bytes, so that one that was moved or renamed keeps what was written, and among equal ones by its
path.  A line that is damaged costs itself alone.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.errors import OutputError
from modules.gallery.schema import UNKNOWN, Entry, Written

log = logging.getLogger("atelier")

MAX_LINE = 1 << 16
SPARE_LINES = 2000
"""Lines that may be out of date beside as many as count, before the file is written anew."""


@dataclass(frozen=True)
class Note:
    """What is known of a picture; `path` is where it was, below the outputs.  `gone`: it was deleted for good, and its lines
    before this one do not count."""

    sha256: str
    path: str
    owner: str
    written: Written
    gone: bool = False

    def line(self) -> bytes:
        given: dict[str, Any] = {"sha256": self.sha256, "path": self.path, "owner": self.owner}
        written = self.written
        if self.gone:
            given |= {"owner": "", "gone": True}
            written = Written()
        if written.favourite:
            given["favourite"] = True
        if written.rating:
            given["rating"] = written.rating
        given |= {name: list(labels) for name, labels in (("tags", written.tags), ("albums", written.albums)) if labels}
        return json.dumps(given, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def note_of(entry: Entry) -> Note:
    return Note(entry.said.sha256, entry.origin or entry.path, entry.owner, entry.written)


class Remembered:
    """The notes as they were when they were read."""

    def __init__(self, notes: Iterable[Note] = ()) -> None:
        self._by_bytes: dict[str, dict[str, Note]] = {}
        for note in notes:
            known = self._by_bytes.setdefault(note.sha256, {})
            known.pop(note.path, None)
            if not note.gone:
                known[note.path] = note

    def __len__(self) -> int:
        return sum(map(len, self._by_bytes.values()))

    def all(self) -> list[Note]:
        return [note for notes in self._by_bytes.values() for note in notes.values()]

    def find(self, sha256: str, path: str) -> Note | None:
        """What is known of the picture with these bytes.

        That at this path, else the newest of its equals; whose it is, is then known only where all of them are one user's.
        """
        known = self._by_bytes.get(sha256) if sha256 else None
        if not known:
            return None
        if path in known:
            return known[path]
        newest = list(known.values())[-1]
        if len({note.owner for note in known.values()}) > 1:
            return Note(sha256, path, UNKNOWN, Written())
        return newest


class Notes:
    """The file at `path`.  Any thread may call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def keep(self, notes: Iterable[Note], durable: bool = True) -> None:
        """Add to the file; durable ones survive power loss when this returns.

        Raises:
            OutputError: they cannot be written.
        """
        lines = b"".join(note.line() for note in notes if note.sha256)
        if not lines:
            return
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab+") as file:
                    if file.tell() and not _ends_well(file):
                        lines = b"\n" + lines  # a line that was cut off by a crash stays one of its own
                    file.write(lines)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
            except OSError as error:
                raise OutputError(
                    f"{self._path.name} cannot be written: {error.strerror or error}; make room in the data folder"
                ) from None

    def read(self) -> Remembered:
        """All of them; the file is written anew where most of its lines are out of date."""
        with self._lock:
            try:
                lines = self._path.read_bytes().split(b"\n")
            except FileNotFoundError:
                return Remembered()
            except OSError as error:
                log.warning("%s cannot be read: %s", self._path.name, error)
                return Remembered()
            notes = [note for line in lines if line.strip() and (note := _read(line)) is not None]
            remembered = Remembered(notes)
            damaged = len(notes) < sum(1 for line in lines if line.strip())
            if damaged:
                log.warning("some lines of %s are damaged and are passed over", self._path.name)
            elif len(notes) > 2 * len(remembered) + SPARE_LINES:
                self._rewrite(remembered)
            return remembered

    def _rewrite(self, remembered: Remembered) -> None:
        part = self._path.with_name(self._path.name + ".part")
        try:
            with part.open("wb") as file:
                file.writelines(note.line() for note in remembered.all())
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written anew: %s", self._path.name, error)
            with suppress(OSError):
                part.unlink()


def _ends_well(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _read(line: bytes) -> Note | None:
    if len(line) > MAX_LINE:
        return None
    try:
        given = json.loads(line)
        tags, albums = given.get("tags", []), given.get("albums", [])
        texts = (given["sha256"], given["path"], given["owner"], *tags, *albums)
        rating, favourite, gone = given.get("rating", 0), given.get("favourite", False), given.get("gone") is True
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not all(isinstance(text, str) for text in texts) or rating not in range(6) or not isinstance(favourite, bool):
        return None
    written = Written(favourite, int(rating), tuple(tags), tuple(albums))
    return Note(given["sha256"], given["path"], given["owner"], written, gone)
