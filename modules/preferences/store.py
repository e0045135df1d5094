"""What users have chosen and their presets of forms, in a SQLite file of its own; a value is on disk when a call returns.

A file that is damaged is put aside, never written over.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.errors import LimitError, OutputError, RequestError
from modules.preferences.preset_file import checked_fields, checked_name
from modules.preferences.table import BY_NAME, PREFERENCES

log = logging.getLogger("atelier")

MAX_PRESETS = 500
"""Presets of one user."""

_TABLES = """
CREATE TABLE IF NOT EXISTS preferences (user TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (user, name))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS presets (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, tab TEXT NOT NULL, name TEXT NOT NULL, fields TEXT NOT NULL,
    shared INTEGER NOT NULL DEFAULT 0, starts INTEGER NOT NULL DEFAULT 0, changed REAL NOT NULL, UNIQUE (user, tab, name)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Preset:
    """A tab's form under a name.

    `mine` says whether it is the asker's own; others' are seen when they are shared.  The form of a browser that remembers none
    begins with the one that `starts`.
    """

    id: str
    tab: str
    name: str
    fields: Mapping[str, Any]
    shared: bool
    mine: bool
    starts: bool
    changed: float


class PreferenceStore:
    """The file at `path`, None for one in memory.  Any thread may call."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._memory = _prepared(":memory:") if path is None else None

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()

    __del__ = close

    # ---- preferences

    def of(self, user: str) -> dict[str, Any]:
        """All preferences of a user; what they did not choose, or this version does not understand, has its default."""
        values: dict[str, Any] = {one.name: one.default for one in PREFERENCES}
        with self._open() as db:
            rows = db.execute("SELECT name, value FROM preferences WHERE user = ?", (user,)).fetchall()
        for name, value in rows:
            if name in BY_NAME:
                try:
                    values[name] = BY_NAME[name].read(json.loads(value))
                except (ValueError, RequestError):
                    log.warning("the preference %s of a user is not understood; its default is taken", name)
        return values

    def set(self, user: str, given: Mapping[str, Any]) -> None:
        """Choose; None goes back to the default.  All of them or none.

        Raises:
            RequestError: there is no such preference, or not with that value.
            OutputError: it cannot be written.
        """
        if unknown := [name for name in given if name not in BY_NAME]:
            raise RequestError(f"there is no preference {unknown[0][:60]!r}")
        read = {name: None if value is None else BY_NAME[name].read(value) for name, value in given.items()}
        with self._open() as db:
            for name, value in read.items():
                if value is None or value == BY_NAME[name].default:
                    db.execute("DELETE FROM preferences WHERE user = ? AND name = ?", (user, name))
                else:
                    db.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?)", (user, name, json.dumps(value)))

    # ---- presets

    def presets(self, user: str) -> list[Preset]:
        """One's own and those that others share, by tab and name."""
        with self._open() as db:
            rows = db.execute(
                "SELECT id, tab, name, fields, shared, user, starts, changed FROM presets WHERE user = ? OR shared"
                " ORDER BY tab, name COLLATE NOCASE, changed",
                (user,),
            ).fetchall()
        return [_preset(row, user) for row in rows]

    def keep_preset(self, user: str, tab: str, name: str, fields: Any, shared: bool = False, replace: bool = False) -> str:
        """Keep a form under a name; its id.

        Raises:
            RequestError: it makes no sense, or one's own preset of this name is there and not to be replaced.
            LimitError: there are too many.
            OutputError: it cannot be written.
        """
        name, kept = checked_name(name), json.dumps(checked_fields(tab, fields), ensure_ascii=False)
        with self._open() as db:
            there = db.execute("SELECT id FROM presets WHERE user = ? AND tab = ? AND name = ?", (user, tab, name)).fetchone()
            if there and not replace:
                raise RequestError(f"name: there is a preset {name!r} already; choose another name, or replace it")
            if not there and db.execute("SELECT COUNT(*) FROM presets WHERE user = ?", (user,)).fetchone()[0] >= MAX_PRESETS:
                raise LimitError(f"you have {MAX_PRESETS} presets, which is the most; delete one first")
            id_ = there[0] if there else secrets.token_hex(8)
            values = (id_, user, tab, name, kept, int(shared), time.time())
            db.execute(
                "INSERT INTO presets (id, user, tab, name, fields, shared, changed) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET fields = excluded.fields, changed = excluded.changed",
                values,
            )
        return str(id_)

    def change_preset(self, user: str, id_: str, name: str | None = None, shared: bool | None = None) -> bool:
        """Another name for one's own, or share it or not.  False when there is no such one.

        Raises:
            RequestError: the name makes no sense or is taken.
            OutputError: it cannot be written.
        """
        new = checked_name(name) if name is not None else None
        try:
            with self._open() as db:
                changed = db.execute(
                    "UPDATE presets SET name = COALESCE(?, name), shared = COALESCE(?, shared), changed = ?"
                    " WHERE id = ? AND user = ?",
                    (new, None if shared is None else int(shared), time.time(), id_, user),
                ).rowcount
        except sqlite3.IntegrityError:
            raise RequestError(f"name: there is a preset {new!r} already; choose another name") from None
        return changed > 0

    def start_with(self, user: str, id_: str, starts: bool) -> bool:
        """Have one's own be what the form of a new browser begins with, instead of any other of its tab; or no longer.

        False when there is no such one.

        Raises:
            OutputError: it cannot be written.
        """
        with self._open() as db:
            found = db.execute("SELECT tab FROM presets WHERE id = ? AND user = ?", (id_, user)).fetchone()
            if found is None:
                return False
            db.execute(
                "UPDATE presets SET starts = (id = ? AND ?) WHERE user = ? AND tab = ?", (id_, int(starts), user, *found)
            )
            return True

    def start_fields(self, user: str) -> dict[str, dict[str, Any]]:
        """By tab, the fields of the user's presets that start."""
        return {one.tab: dict(one.fields) for one in self.presets(user) if one.mine and one.starts}

    def delete_preset(self, user: str, id_: str, any_user: bool = False) -> bool:
        """Delete one's own, or with `any_user` a shared one of anybody.  False when there is no such one."""
        with self._open() as db:
            found = db.execute("DELETE FROM presets WHERE id = ? AND (user = ? OR (? AND shared))", (id_, user, any_user))
            return found.rowcount > 0

    # ---- inside

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction."""
        with self._lock:
            try:
                if self._memory is not None or self._path is None:
                    assert self._memory is not None
                    with self._memory:
                        yield self._memory
                    return
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with closing(_connected(self._path)) as db, db:
                    yield db
            except sqlite3.IntegrityError:
                raise
            except (OSError, sqlite3.Error) as error:
                raise OutputError(f"preferences and presets cannot be kept: {error}") from None


def _connected(path: Path) -> sqlite3.Connection:
    try:
        return _prepared(str(path))
    except sqlite3.OperationalError:  # locked, or its disk is full: it is well
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged")
        log.warning("%s is damaged (%s); it is put aside as %s", path.name, error, aside.name)
        path.replace(aside)
        return _prepared(str(path))


def _prepared(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10.0, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_TABLES)
    except BaseException:
        db.close()
        raise
    return db


def _preset(row: tuple[Any, ...], user: str) -> Preset:
    id_, tab, name, fields, shared, owner, starts, changed = row
    mine = owner == user
    return Preset(id_, tab, name, json.loads(fields), bool(shared), mine, mine and bool(starts), changed)
