"""How the job list's tables came to be what they are: named functions, each applied once, in order, never edited afterwards."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable

Migration = Callable[[sqlite3.Connection], None]


def m001_jobs_and_pictures(db: sqlite3.Connection) -> None:
    # `position` is the order of the queue and is never reused; clocks may jump, it does not.
    db.execute(
        """
        CREATE TABLE jobs (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            user TEXT NOT NULL,
            request TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
            created REAL NOT NULL,
            started REAL,
            finished REAL,
            error TEXT NOT NULL DEFAULT '',
            attempts INTEGER NOT NULL DEFAULT 0
        )
        """
    )
    db.execute("CREATE INDEX jobs_by_state ON jobs (state, position)")
    db.execute("CREATE INDEX jobs_by_user ON jobs (user, position)")
    db.execute(
        """
        CREATE TABLE pictures (
            job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            path TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            infotext TEXT NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            seed INTEGER NOT NULL,
            created REAL NOT NULL,
            PRIMARY KEY (job, number)
        ) WITHOUT ROWID
        """
    )


def m002_places_keys_pauses(db: sqlite3.Connection) -> None:
    # `place` is the order of the queue, which owners may change among their own jobs; `key` lets a client submit again
    # without submitting twice.
    db.execute("ALTER TABLE jobs ADD COLUMN place INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE jobs SET place = position")
    db.execute("ALTER TABLE jobs ADD COLUMN key TEXT")
    db.execute("CREATE UNIQUE INDEX jobs_by_key ON jobs (user, key) WHERE key IS NOT NULL")
    db.execute("CREATE TABLE pauses (user TEXT PRIMARY KEY) WITHOUT ROWID")


def m003_costs(db: sqlite3.Connection) -> None:
    # What works of the engine took, so that the first estimate after a restart is as good as the last one before it.
    db.execute(
        """
        CREATE TABLE costs (
            device TEXT NOT NULL,
            work TEXT NOT NULL,
            checkpoint TEXT NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            seconds REAL NOT NULL,
            PRIMARY KEY (device, work, checkpoint, width, height, rows)
        ) WITHOUT ROWID
        """
    )


def m004_what_was_sent(db: sqlite3.Connection) -> None:
    # A digest of what the client submitted, so that the same key with something else can be told from a repetition.
    db.execute("ALTER TABLE jobs ADD COLUMN sent TEXT NOT NULL DEFAULT ''")


def m005_pictures_by_role(db: sqlite3.Connection) -> None:
    # Requests named the init image and the mask by fields of their own, `source` and `mask`; now `pictures` has them by role.
    # What is no object of that kind stays as it is: reading it says what is wrong with it.
    named = db.execute("SELECT position, request FROM jobs WHERE instr(request, '\"source\"')").fetchall()
    for position, text in named:
        try:
            fields = json.loads(text)
            if isinstance(fields, dict) and isinstance(fields.get("source"), str) and "pictures" not in fields:
                source, mask = fields.pop("source"), fields.pop("mask", None)
                fields["pictures"] = {"init": source} | ({"mask": mask} if mask is not None else {})
                db.execute("UPDATE jobs SET request = ? WHERE position = ?", (json.dumps(fields), position))
        except (ValueError, RecursionError):
            continue


def m006_scripts(db: sqlite3.Connection) -> None:
    # A script (such as an X/Y/Z plot) and its cells, each of which becomes a job; so that it goes on after a restart.
    db.execute(
        """
        CREATE TABLE scripts (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            user TEXT NOT NULL,
            key TEXT,
            plan TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
            created REAL NOT NULL,
            finished REAL,
            revision INTEGER NOT NULL DEFAULT 0,
            sheets TEXT NOT NULL DEFAULT '[]',
            error TEXT NOT NULL DEFAULT ''
        )
        """
    )
    db.execute("CREATE UNIQUE INDEX scripts_by_key ON scripts (user, key) WHERE key IS NOT NULL")
    db.execute("CREATE INDEX scripts_by_user ON scripts (user, position)")
    db.execute(
        """
        CREATE TABLE script_cells (
            run TEXT NOT NULL REFERENCES scripts (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            changes TEXT NOT NULL,
            after INTEGER,
            state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'queued', 'done', 'failed', 'cancelled')),
            attempt INTEGER NOT NULL DEFAULT 0,
            job TEXT NOT NULL DEFAULT '',
            error TEXT NOT NULL DEFAULT '',
            pictures TEXT NOT NULL DEFAULT '[]',
            PRIMARY KEY (run, number)
        ) WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX script_cells_by_job ON script_cells (job)")


def m007_interrupted(db: sqlite3.Connection) -> None:
    # A job that was interrupted makes no further pictures, after a restart neither.
    db.execute("ALTER TABLE jobs ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0")


def m008_forever(db: sqlite3.Connection) -> None:
    # Generation without an end, at most one for each user; so that it goes on after a restart.
    db.execute(
        """
        CREATE TABLE forever (
            user TEXT PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            fields TEXT NOT NULL,
            going INTEGER NOT NULL DEFAULT 1,
            number INTEGER NOT NULL DEFAULT 0,
            jobs TEXT NOT NULL DEFAULT '[]',
            pictures INTEGER NOT NULL DEFAULT 0,
            started REAL NOT NULL,
            error TEXT NOT NULL DEFAULT ''
        ) WITHOUT ROWID
        """
    )


MIGRATIONS: tuple[Migration, ...] = (
    m001_jobs_and_pictures,
    m002_places_keys_pauses,
    m003_costs,
    m004_what_was_sent,
    m005_pictures_by_role,
    m006_scripts,
    m007_interrupted,
    m008_forever,
)


def migrate(db: sqlite3.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> list[str]:
    """Apply what is missing, each in a transaction of its own.  Returns the names of those applied.

    Raises:
        ValueError: the database knows migrations that this program does not: it belongs to a newer one.
    """
    db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied REAL NOT NULL)")
    known = {row[0] for row in db.execute("SELECT name FROM migrations")}
    if unknown := known - {migration.__name__ for migration in migrations}:
        raise ValueError(f"made by a newer version (it has {', '.join(sorted(unknown))})")
    missing = [migration for migration in migrations if migration.__name__ not in known]
    for migration in missing:
        db.execute("BEGIN IMMEDIATE")
        try:
            migration(db)
            db.execute("INSERT INTO migrations VALUES (?, ?)", (migration.__name__, time.time()))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
    return [migration.__name__ for migration in missing]
