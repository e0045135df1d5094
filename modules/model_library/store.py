"""What is remembered between runs: descriptions and hashes of files, and the users' favourites, in a SQLite file.

Descriptions and hashes are a cache: without it, or where it is damaged, they are made again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from modules.model_library.described import Described

log = logging.getLogger("atelier")

MAX_KEPT = 50_000
"""Descriptions; what was written longest ago goes first."""

_TABLES = """
CREATE TABLE IF NOT EXISTS described (id TEXT PRIMARY KEY, stamp TEXT NOT NULL, said TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS hashes (id TEXT PRIMARY KEY, stamp TEXT NOT NULL, autov3 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS favourites (user TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user, id)) WITHOUT ROWID;
"""


class ModelStore:
    """The file at `path`, opened for each use.  Any thread may call; nothing raises but `set_favourite`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._favourites: dict[str, frozenset[str]] = {}

    def described(self) -> dict[str, tuple[str, Described]]:
        """(stamp, description) by id."""
        found = {}
        for id_, stamp, said in self._rows("SELECT id, stamp, said FROM described"):
            try:
                found[id_] = stamp, Described.of(json.loads(said))
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def keep_described(self, described: Iterable[tuple[str, str, Described]]) -> None:
        """Remember (id, stamp, description) of files."""
        rows = [(id_, stamp, json.dumps(said.kept(), ensure_ascii=False)) for id_, stamp, said in described]
        try:
            with self._open() as db:
                db.executemany("INSERT OR REPLACE INTO described VALUES (?, ?, ?)", rows)
                db.execute("DELETE FROM described WHERE rowid <= (SELECT MAX(rowid) FROM described) - ?", (MAX_KEPT,))
        except (OSError, sqlite3.Error, ValueError) as error:
            log.warning("what model files say is not remembered: %s", error)

    def autov3(self) -> dict[str, tuple[str, str]]:
        """(stamp, hash of what is behind the header) by id."""
        return {id_: (stamp, digest) for id_, stamp, digest in self._rows("SELECT id, stamp, autov3 FROM hashes")}

    def keep_autov3(self, id_: str, stamp: str, digest: str) -> None:
        try:
            with self._open() as db:
                db.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", (id_, stamp, digest))
        except (OSError, sqlite3.Error) as error:
            log.warning("the hash of a model file is not remembered: %s", error)

    def favourites(self, user: str) -> frozenset[str]:
        """The ids of this user's."""
        with self._lock:
            if user not in self._favourites:
                rows = self._rows("SELECT id FROM favourites WHERE user = ?", user)
                self._favourites[user] = frozenset(id_ for (id_,) in rows)
            return self._favourites[user]

    def set_favourite(self, user: str, id_: str, favourite: bool) -> None:
        """
        Raises:
            OSError, sqlite3.Error: it cannot be written.
        """
        with self._lock, self._open() as db:
            if favourite:
                db.execute("INSERT OR REPLACE INTO favourites VALUES (?, ?)", (user, id_))
            else:
                db.execute("DELETE FROM favourites WHERE user = ? AND id = ?", (user, id_))
            self._favourites.pop(user, None)

    def _rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        try:
            with self._open() as db:
                return db.execute(query, values).fetchall()
        except (OSError, sqlite3.Error) as error:
            log.warning("what is remembered of model files cannot be read: %s", error)
            return []

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction.  A file that is no database is put aside."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as db, db:
            yield db

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._prepared()
        except sqlite3.OperationalError:  # locked, or its disk is full: it is well
            raise
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged (%s); it is put aside as %s.damaged", self._path.name, error, self._path.name)
            self._path.replace(self._path.with_name(self._path.name + ".damaged"))
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=10.0)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_TABLES)
        except BaseException:
            db.close()
            raise
        return db
