"""The index of all pictures: one SQLite file with a full-text index, which can be lost and is then made again from the files.

One connection writes, behind a lock; a few others read.  A file that is damaged, of another version or gone is put aside and
begun anew; `generation` grows then, by which the gallery knows to fill it again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules.errors import OutputError
from modules.gallery import schema, sorting, words
from modules.gallery.described import Stamp, taken
from modules.gallery.schema import Entry, Written
from modules.gallery.search import LAST, Search

log = logging.getLogger("atelier")

READERS = 4
"""Connections that are kept open for looking."""
Owners = frozenset[str] | None
"""Whose pictures: of these users, None for everybody's."""

_PAGE = (
    f"SELECT {schema.ENTRY} FROM words CROSS JOIN pictures AS p ON p.id = words.rowid "
    "WHERE words MATCH ? AND words.rowid >= ? AND words.rowid < ? ORDER BY words.rowid {} LIMIT ?"
)
_COUNT = "SELECT count(*) FROM words WHERE words MATCH ? AND rowid >= ? AND rowid < ?"
_SIDES = (
    "WITH RECURSIVE sides (side) AS (SELECT min(side) FROM pictures WHERE side > 0 UNION ALL "
    "SELECT (SELECT min(side) FROM pictures WHERE side > sides.side) FROM sides WHERE sides.side IS NOT NULL) "
    "SELECT side FROM sides WHERE side IS NOT NULL"
)
_NAMES = (
    "WITH RECURSIVE named (one) AS (SELECT min({0}) FROM pictures WHERE owner = ?1 AND {0} > '' UNION ALL "
    "SELECT (SELECT min({0}) FROM pictures WHERE owner = ?1 AND {0} > named.one) FROM named WHERE named.one IS NOT NULL) "
    "SELECT one FROM named WHERE one IS NOT NULL"
)
_OWNERS = (
    "WITH RECURSIVE owners (one) AS (SELECT min(owner) FROM pictures UNION ALL "
    "SELECT (SELECT min(owner) FROM pictures WHERE owner > owners.one) FROM owners WHERE owners.one IS NOT NULL) "
    "SELECT one FROM owners WHERE one IS NOT NULL"
)
_FOLDERS = (
    "WITH RECURSIVE folders (one) AS (SELECT min(folder) FROM pictures UNION ALL "
    "SELECT (SELECT min(folder) FROM pictures WHERE folder > folders.one) FROM folders WHERE folders.one IS NOT NULL) "
    "SELECT one FROM folders WHERE one IS NOT NULL"
)


@dataclass(frozen=True)
class Page:
    """Pictures, and the cursor of those behind them, "" where these are the last."""

    entries: tuple[Entry, ...]
    next: str = ""


class Index:
    """The file at `path`.  Any thread may call.

    Raises (all methods):
        OutputError: its disk refuses, or it is busy for seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._idle: list[tuple[int, sqlite3.Connection]] = []
        self.generation = 0
        """Grows when the index is begun anew."""

    # ---- looking

    def page(self, search: Search, owners: Owners, sort: str = "newest", cursor: str = "", limit: int = 60) -> Page:
        """Pictures that fit, in the order of `sort`, behind those of the page that gave `cursor`."""
        if sort == "rating":
            return self._best(search, owners, cursor, limit)
        if sort in sorting.BY:
            return self._sorted(search, owners, sort, cursor, limit)
        at = int(cursor or 0)
        least, most = search.least, search.most
        if cursor:
            least, most = (at + 1, most) if sort == "oldest" else (least, min(most, at))
        order = "ASC" if sort == "oldest" else "DESC"
        rows = self._rows(_PAGE.format(order), (search.match(owners), least, most, limit + 1))
        return _page(rows, limit, lambda last: str(last.id))

    def _sorted(self, search: Search, owners: Owners, sort: str, cursor: str, limit: int) -> Page:
        """By a column: the ids of all that fit are sorted, and only those of the page are read."""
        query, bounds = sorting.query(sort, cursor)
        rows = self._rows(query, (search.match(owners), search.least, search.most, *bounds, limit + 1))
        found = tuple(self.entries([row[0] for row in rows[:limit]], None))
        return Page(found, sorting.cursor(sort, found[-1]) if found and len(rows) > limit else "")

    def _best(self, search: Search, owners: Owners, cursor: str, limit: int) -> Page:
        """By rating, of each the newest first: one query for each, as they stand in the order of the index."""
        rating, _, at = cursor.partition("-")
        highest, most = (int(rating), int(at)) if cursor else (5, LAST)
        rows: list[sqlite3.Row] = []
        for one in range(highest, -1, -1):
            bound = min(search.most, most if one == highest else LAST)
            asked = (search.match(owners, words.rating_word(one)), search.least, bound, limit + 1 - len(rows))
            rows += self._rows(_PAGE.format("DESC"), asked)
            if len(rows) > limit:
                break
        return _page(rows, limit, lambda last: f"{last.written.rating}-{last.id}")

    def count(self, search: Search, owners: Owners) -> int:
        return int(self._rows(_COUNT, (search.match(owners), search.least, search.most))[0][0])

    def ids(self, search: Search, owners: Owners, limit: int) -> list[int]:
        """The ids of the newest that fit."""
        query = "SELECT rowid FROM words WHERE words MATCH ? AND rowid >= ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
        return [row[0] for row in self._rows(query, (search.match(owners), search.least, search.most, limit))]

    def entry(self, id_: int, owners: Owners) -> Entry | None:
        return next(iter(self.entries([id_], owners)), None)

    def entries(self, ids: Iterable[int], owners: Owners) -> list[Entry]:
        """Those of these ids that there are, and that are of these owners, in this order."""
        wanted = list(ids)
        query = f"SELECT {schema.ENTRY} FROM pictures AS p WHERE p.id IN (SELECT value FROM json_each(?))"
        found = {row["id"]: schema.read(row) for row in self._rows(query, (json.dumps(wanted),))}
        there = (found[id_] for id_ in wanted if id_ in found)
        return [entry for entry in there if owners is None or entry.owner in owners]

    def at(self, path: str) -> Entry | None:
        folder, _, name = path.rpartition("/")
        rows = self._rows(f"SELECT {schema.ENTRY} FROM pictures AS p WHERE p.folder = ? AND p.name = ?", (folder, name))
        return schema.read(rows[0]) if rows else None

    def sides(self) -> list[int]:
        """The longer sides that pictures have."""
        return [row[0] for row in self._rows(_SIDES, ())]

    def names(self, column: str, owners: Owners) -> list[str]:
        """What "model" or "sampler" is called in these owners' pictures."""
        assert column in ("model", "sampler")
        found = {row[0] for owner in self._each(owners) for row in self._rows(_NAMES.format(column), (owner,))}
        return sorted(found, key=str.casefold)

    def labels(self, kind: str, owners: Owners) -> list[tuple[str, int]]:
        """Tags or albums with how many pictures, those in the trash left out."""
        counts: dict[str, int] = {}
        query = (
            "SELECT l.label, count(*) FROM labels AS l CROSS JOIN pictures AS p ON p.id = l.picture "
            "WHERE l.kind = ? AND l.owner = ? AND p.trashed IS NULL GROUP BY l.label"
        )
        for owner in self._each(owners):
            for label, count in self._rows(query, (kind, owner)):
                counts[label] = counts.get(label, 0) + count
        return sorted(counts.items(), key=lambda one: one[0].casefold())

    def _each(self, owners: Owners) -> list[str]:
        return sorted(owners) if owners is not None else [row[0] for row in self._rows(_OWNERS, ())]

    # ---- what the scan compares with

    def known(self, folder: str) -> dict[str, tuple[Stamp, bool]]:
        """By name, of the files in a folder: their stamps, and whether they are broken."""
        rows = self._rows("SELECT name, size, changed, broken FROM pictures WHERE folder = ?", (folder,))
        return {row["name"]: (Stamp(row["size"], row["changed"]), bool(row["broken"])) for row in rows}

    def folders(self) -> list[str]:
        """All folders that pictures of the index are in."""
        return [row[0] for row in self._rows(_FOLDERS, ())]

    def broken(self) -> dict[str, Stamp]:
        """Stamps of broken pictures by their paths, the newest 1000."""
        query = "SELECT folder, name, size, changed FROM pictures WHERE broken != '' ORDER BY id DESC LIMIT 1000"
        rows = self._rows(query, ())
        return {f"{row['folder']}/{row['name']}".lstrip("/"): Stamp(row["size"], row["changed"]) for row in rows}

    def trashed_before(self, moment: float) -> list[Entry]:
        """What went to the trash before `moment`, in seconds since 1970."""
        rows = self._rows(f"SELECT {schema.ENTRY} FROM pictures AS p WHERE p.trashed < ? ORDER BY p.trashed", (moment,))
        return [schema.read(row) for row in rows]

    # ---- writing

    def put(self, entries: Iterable[Entry]) -> None:
        """Take pictures in, each in the place of the one that has its path."""
        with self._transaction() as db:
            for entry in entries:
                there = db.execute(
                    "SELECT id FROM pictures WHERE folder = ? AND name = ?", (entry.folder, entry.name)
                ).fetchone()
                if there is not None:
                    schema.remove(db, there["id"])
                id_ = taken(entry.origin or entry.path, entry.said.stamp.changed)
                while db.execute("SELECT 1 FROM pictures WHERE id = ?", (id_,)).fetchone() is not None:
                    id_ += 1
                schema.insert(db, replace(entry, id=id_))

    def forget(self, paths: Iterable[str]) -> None:
        """Pictures whose files are gone."""
        with self._transaction() as db:
            for path in paths:
                folder, _, name = path.rpartition("/")
                for row in db.execute("SELECT id FROM pictures WHERE folder = ? AND name = ?", (folder, name)).fetchall():
                    schema.remove(db, row["id"])

    def forget_folders(self, folders: Iterable[str]) -> None:
        with self._transaction() as db:
            for folder in folders:
                for row in db.execute("SELECT id FROM pictures WHERE folder = ?", (folder,)).fetchall():
                    schema.remove(db, row["id"])

    def write(self, changes: Sequence[tuple[Entry, Written]]) -> list[Entry]:
        """Write down what people say of pictures; returns those that are still there, as they are now."""
        now = []
        with self._transaction() as db:
            for entry, written in changes:
                values = (written.rating, int(written.favourite), entry.id)
                if db.execute("UPDATE pictures SET rating = ?, favourite = ? WHERE id = ?", values).rowcount:
                    db.execute("DELETE FROM labels WHERE picture = ?", (entry.id,))
                    schema.insert_labels(db, replace(entry, written=written))
                    now.append(self._refresh(db, entry.id))
        return now

    def move(self, entry: Entry, path: str, trashed: float | None) -> None:
        """Its file lies at `path` now."""
        origin = (entry.origin or entry.path) if trashed is not None else path
        moved = replace(entry, path=path)
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM pictures WHERE id = ?", (entry.id,)).fetchone() is None:
                return  # a scan came between: it finds the file where it is now
            place = (moved.folder, moved.name)
            others = "SELECT id FROM pictures WHERE folder = ? AND name = ? AND id != ?"
            for row in db.execute(others, (*place, entry.id)).fetchall():
                schema.remove(db, row["id"])  # found by a scan there before this was recorded
            change = "UPDATE pictures SET folder = ?, name = ?, origin = ?, trashed = ? WHERE id = ?"
            db.execute(change, (*place, origin, trashed, entry.id))
            self._refresh(db, entry.id)

    def mark_broken(self, entry: Entry, reason: str) -> None:
        """Its pixels turned out not to be readable."""
        with self._transaction() as db:
            if db.execute("UPDATE pictures SET broken = ? WHERE id = ?", (reason, entry.id)).rowcount:
                self._refresh(db, entry.id)

    def check(self) -> None:
        """Read all of it; what is damaged is begun anew."""
        if self._rows("PRAGMA quick_check(1)", ())[0][0] != "ok":
            self._begin_anew("its pages do not fit together", self.generation)

    def close(self) -> None:
        with self._guard:
            self._let_go()

    # ---- inside

    def _refresh(self, db: sqlite3.Connection, id_: int) -> Entry:
        """Bring a picture's words to what its row says, which may be newer than what the caller knew; returns the picture."""
        entry = schema.read(db.execute(f"SELECT {schema.ENTRY} FROM pictures AS p WHERE p.id = ?", (id_,)).fetchone())
        name, tags = words.cut(entry.title), words.cut("\n".join(entry.written.tags))
        values = (name, tags, schema.facts_of(entry), id_)
        db.execute("UPDATE words SET name = ?, tags = ?, facts = ? WHERE rowid = ?", values)
        return entry

    def _rows(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        for again in (False, True):
            generation = self.generation
            try:
                with self._reader() as db:
                    return db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                self._mend(error, generation, again)
        raise AssertionError("unreachable")

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            self._opened()
            generation, db = self._idle.pop() if self._idle else (self.generation, None)
        if db is None:
            db = self._connect()
        try:
            yield db
        except BaseException:
            db.close()
            raise
        with self._guard:
            if generation == self.generation and len(self._idle) < READERS and self._db is not None:
                self._idle.append((generation, db))
                return
        db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing.  What fails because of the file is not repeated: the scan does it again."""
        with self._guard:
            db = self._begun()
            generation = self.generation
            try:
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                self._mend(error, generation, False)

    def _begun(self) -> sqlite3.Connection:
        """The connection that writes, in a transaction.  Under the guard."""
        for again in (False, True):
            generation = self.generation
            try:
                db = self._opened()
                db.execute("BEGIN IMMEDIATE")
                return db
            except sqlite3.Error as error:
                self._mend(error, generation, again)
        raise AssertionError("unreachable")

    def _mend(self, error: sqlite3.Error, generation: int, again: bool) -> None:
        """Begin anew where the file is to blame.

        Raises:
            OutputError: it is not, or that did not help.
        """
        lost = "no such table" in str(error) or "no such column" in str(error)
        busy = isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError | sqlite3.IntegrityError) and not lost
        if busy or again:
            raise OutputError(
                f"the gallery's index did not answer: {error}; try again, or look whether its disk is full"
            ) from None
        self._begin_anew(str(error), generation)

    def _begin_anew(self, why: str, generation: int) -> None:
        with self._guard:
            if generation != self.generation:
                return  # another thread just did
            self._let_go()
            log.warning("the gallery's index is made again from the pictures: %s", why)
            with suppress(OSError):
                self._path.replace(self._path.with_name(self._path.name + ".damaged"))
            for suffix in ("-wal", "-shm"):
                with suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink()
            self.generation += 1

    def _let_go(self) -> None:
        for _, reader in self._idle:
            reader.close()
        self._idle.clear()
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection:
        """The connection that writes.  Under the guard."""
        if self._db is not None:
            if self._path.exists():
                return self._db
            self._begin_anew("its file is gone", self.generation)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the gallery's index cannot be made: {error.strerror or error}; change --data-dir") from None
        try:
            self._db = self._prepared()
        except sqlite3.OperationalError as error:
            raise OutputError(f"the gallery's index cannot be opened: {error}; look at the data folder and its disk") from None
        except sqlite3.DatabaseError as error:
            self._begin_anew(str(error), self.generation)
            self._db = self._prepared()
        return self._db

    def _prepared(self) -> sqlite3.Connection:
        db = self._connect()
        try:
            db.execute("PRAGMA journal_mode = WAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, schema.VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, and this program writes {schema.VERSION}")
            if version == 0:
                schema.make(db)
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -16000")
        return db


def _page(rows: list[sqlite3.Row], limit: int, cursor: Callable[[Entry], str]) -> Page:
    entries = tuple(schema.read(row) for row in rows[:limit])
    return Page(entries, cursor(entries[-1]) if len(rows) > limit else "")
