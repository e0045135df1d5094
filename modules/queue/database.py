"""The job list's file: opened by one process, put back when it was removed, set aside when it is damaged; its transactions.

One connection writes, behind a lock that is held until what it wrote is on disk.  Another one reads, so that who looks does not
wait for that.  This file knows SQLite; what is in the tables is for `modules.queue.store`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modules.errors import QueueError
from modules.locks import ProcessLock
from modules.queue.migrations import migrate
from modules.queue.place import Place
from modules.queue.salvage import salvage, set_aside

log = logging.getLogger("atelier")


class _Damaged(Exception):
    """SQLite cannot read the file."""


class Database:
    """The job list in the file `path`; in memory, gone at the end, when `path` is None.  Any thread may call.

    `functions` are SQL functions of one argument, by name.

    A damaged file is set aside under another name, and what is still legible is taken over: `notice` then says so.  So it does
    when the file was removed or replaced while it was open, which is noticed with each write and with `check_place`: the list
    is then written anew under its name, and nothing is lost.

    Raises:
        QueueError: another process has it open, it was written by a newer version, or cannot be written.
    """

    def __init__(self, path: Path | None, functions: dict[str, Callable[[str], str]]) -> None:
        self._path, self._functions = path, functions
        self.notice = ""
        """What a person should know about how the list was opened, "" when all was well."""
        self.closed = False
        self._guard = threading.RLock()
        self._reading = threading.RLock()
        self._writer = 0
        """The thread whose transaction is open: what it reads is what it wrote."""
        self._process_lock: ProcessLock | None = None
        self._place = Place(path) if path is not None else None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._process_lock = ProcessLock(_lock_of(path))
        except BlockingIOError:
            raise QueueError(f"another Atelier is using {path}: stop it, or use another folder with --data-dir") from None
        except OSError as error:
            cause = error.strerror or error
            raise QueueError(f"the job list {path} cannot be opened: {cause}; check the folder, or use --data-dir") from None
        try:
            self.db = self._open_or_rebuild()
            self.reader = self._connect_reader()
            self._remember_place()
        except BaseException:
            self.release()
            raise

    # ---- reading and writing

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; durable when the block ends, otherwise with the next that is.

        Raises:
            QueueError: it cannot be written; nothing has changed.
        """
        with self._guard:
            self._keep_place()
            try:
                self.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self.db.execute("BEGIN IMMEDIATE")
                self._writer = threading.get_ident()
                try:
                    yield self.db
                    self.db.execute("COMMIT")
                except BaseException:
                    if self.db.in_transaction:
                        self.db.execute("ROLLBACK")
                    raise
                finally:
                    self._writer = 0
            except sqlite3.Error as error:
                raise self.explained(error) from None

    @contextmanager
    def snapshot(self) -> Iterator[Callable[[str, Sequence[Any]], list[sqlite3.Row]]]:
        """Queries that all see the same state: the last that was committed, or within a transaction its own.

        Raises:
            QueueError: it cannot be read.
        """
        try:
            if self._path is None or self._writer == threading.get_ident():
                with self._guard:
                    yield lambda query, values: self.db.execute(query, values).fetchall()
                return
            with self._reading:
                self.reader.execute("BEGIN")
                try:
                    yield lambda query, values: self.reader.execute(query, values).fetchall()
                finally:
                    self.reader.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self.explained(error) from None

    def check_place(self) -> None:
        """Notice that the file was removed or replaced, and write the list under its name again; cheap when all is well.

        Raises:
            QueueError: it cannot be written there now, or another Atelier has taken the place.
        """
        with self._guard:
            if not self.closed:
                self._keep_place()

    def close(self, last: Callable[[], None]) -> None:
        """Do `last`, then stop.  May be repeated."""
        with self._guard:
            if self.closed:
                return
            self.closed = True
            try:
                last()
            except QueueError as error:
                log.warning("while closing: %s", error)
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        with self._guard, self._reading:
            self.closed = True
            if self.reader is not self.db:
                self.reader.close()
            self.db.close()
            self.release()

    def release(self) -> None:
        """Another process may open the list."""
        if self._process_lock is not None:
            self._process_lock.release()
            self._process_lock = None

    # ---- opening

    def _open_or_rebuild(self) -> sqlite3.Connection:
        try:
            return self._open()
        except _Damaged as damage:
            assert self._path is not None, "what is in memory is not damaged"
            try:
                aside = set_aside(self._path)
            except OSError as error:
                raise QueueError(
                    f"the job list {self._path} is damaged ({damage}) and cannot be moved out of the way: {error.strerror}; "
                    "move it away and start again; finished pictures are files of their own and are not touched"
                ) from None
            db = self._open()
            jobs, pictures = salvage(aside, db)
            self.notice = (
                f"The job list was damaged ({damage}). It was kept as {aside.name}, and what could be read was taken over: "
                f"{jobs} jobs with {pictures} pictures. Finished pictures are files of their own and were not touched."
            )
            log.warning("%s", self.notice)
            return db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0)
        db.row_factory = sqlite3.Row
        for name, function in self._functions.items():
            db.create_function(name, 1, function, deterministic=True)
        return db

    def _open(self) -> sqlite3.Connection:
        db = self._connect()
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _Damaged(" ".join(str(verdict).split()))
            migrate(db)
        except (sqlite3.Error, ValueError, _Damaged) as error:
            db.close()
            if isinstance(error, _Damaged) or _is_damage(error):
                raise _Damaged(str(error)) from None
            raise self.explained(error, str(self._path)) from None
        return db

    def _connect_reader(self) -> sqlite3.Connection:
        if self._path is None:
            return self.db
        reader = self._connect()
        reader.execute("PRAGMA query_only = ON")
        return reader

    # ---- its place

    def _keep_place(self) -> None:
        """See `check_place`.  Under the guard."""
        if self._place is None or self._path is None or self._process_lock is None:
            return
        lost = self._place.lost()
        if not lost and not self._process_lock.lost():
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._process_lock.lost():
                old, self._process_lock = self._process_lock, ProcessLock(_lock_of(self._path))
                old.release()
            if lost:
                self._reopen(lost, self._place.restore(self.db))
        except BlockingIOError:
            raise QueueError(
                f"another Atelier has taken the job list {self._path.name} since its lock was removed; nothing more is "
                "accepted or begun here: stop one of the two"
            ) from None
        except (OSError, sqlite3.Error, _Damaged) as error:
            raise QueueError(
                f"the job list {self._path.name} was {lost or 'moved'} while Atelier ran and cannot be written again "
                f"({getattr(error, 'strerror', None) or error}); "
                "nothing more is accepted until it can: make room there, or put it back"
            ) from None

    def _reopen(self, lost: str, aside: Path | None) -> None:
        """Go on with the file that was written again."""
        with self._reading:
            old, self.db = (self.db, self.reader), self._open()
            self.reader = self._connect_reader()
        for connection in old:
            with suppress(sqlite3.Error):
                connection.close()
        self._remember_place()
        kept = f" What took its name was kept as {aside.name}." if aside is not None else ""
        self.notice = f"The job list was {lost} while Atelier ran. It was written again from memory, and nothing is lost.{kept}"
        log.warning("%s (%s)", self.notice, self._path)

    def _remember_place(self) -> None:
        if self._place is not None:
            for connection in (self.db, self.reader):  # from the first read on, SQLite's further files are there
                connection.execute("SELECT 1 FROM jobs LIMIT 1").fetchall()
            self._place.remember()

    # ---- errors

    def explained(self, error: Exception, name: str = "") -> QueueError:
        """Cause and remedy in plain words.  Clients read most of these, so the folder is told at the start alone."""
        text, name = str(error), name or (self._path.name if self._path is not None else "in memory")
        if "disk is full" in text:
            return QueueError(f"the job list {name} cannot be written: the disk is full; make room and try again")
        if "readonly" in text or "unable to open" in text:
            return QueueError(f"the job list {name} cannot be written: {text}; change its permissions, or use --data-dir")
        if "newer version" in text:
            return QueueError(f"the job list {name} was {text}; use that version, or another --data-dir")
        if _is_damage(error):
            return QueueError(f"the job list {name} is damaged ({text}): start again, and what is legible is taken over")
        return QueueError(f"the job list {name} did not answer: {text}")


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _is_damage(error: Exception) -> bool:
    """Not the disk, not the program: the file's own content."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError | sqlite3.ProgrammingError | sqlite3.IntegrityError
    )
