"""A job list that SQLite cannot read is set aside, never removed, and what is still legible in it is taken over.

Pages of a database fail one by one, so every row is asked for by itself.  Pictures are files and need none of this.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

MOST = 1_000_000
"""Positions that are tried at most: a damaged counter may say anything."""


def set_aside(path: Path) -> Path:
    """Give the database and what belongs to it another name beside the old one; returns that of the database."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(path.with_name(path.name + suffix), target.with_name(target.name + suffix))
    return target


def salvage(damaged: Path, db: sqlite3.Connection) -> tuple[int, int]:
    """Copy what is legible in `damaged` into the empty list `db`.  Returns how many jobs and how many pictures."""
    jobs = pictures = 0
    try:
        source = sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    except sqlite3.Error:
        return 0, 0
    with closing(source):
        source.row_factory = sqlite3.Row
        for row in _jobs(source):
            if not _copy(row, "jobs", db):
                continue
            jobs += 1
            with suppress(sqlite3.Error):
                for picture in source.execute("SELECT * FROM pictures WHERE job = ? ORDER BY number", (row["id"],)):
                    pictures += _copy(picture, "pictures", db)
        for table in ("scripts", "script_cells", "forever"):
            with suppress(
                sqlite3.Error
            ):  # an older list has none; a script without all its cells goes on with those that are left
                for row in source.execute(f"SELECT * FROM {table}"):
                    _copy(row, table, db)
    return jobs, pictures


def _jobs(source: sqlite3.Connection) -> Iterator[sqlite3.Row]:
    """Every job that can be read, in order; what cannot is passed over."""
    last = 0
    try:
        for row in source.execute("SELECT * FROM jobs ORDER BY position"):
            last = row["position"]
            yield row
        return
    except (sqlite3.Error, IndexError):
        pass
    highest = last + 1000
    with suppress(sqlite3.Error, TypeError):
        highest = max(highest, source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()[0])
    for position in range(last + 1, min(highest, last + MOST) + 1):
        with suppress(sqlite3.Error):
            if row := source.execute("SELECT * FROM jobs WHERE position = ?", (position,)).fetchone():
                yield row


def _copy(row: sqlite3.Row, table: str, db: sqlite3.Connection) -> bool:
    """False when the row makes no sense: bits may have turned without SQLite noticing."""
    known = {column[1] for column in db.execute(f"PRAGMA table_info({table})")}
    names = [name for name in tuple(row.keys()) if name in known]
    marks = ", ".join("?" for _ in names)
    try:
        done = db.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})", [row[name] for name in names])
    except (sqlite3.Error, UnicodeError):
        return False
    return done.rowcount > 0
