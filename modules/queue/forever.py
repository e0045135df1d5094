"""Generation without an end ("generate forever") in the job list's database: for each user at most one, with what it makes.

It is on as long as `on` says so, also over a restart.  Which job is made next is for `modules.scripts.forever`.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modules.queue.database import Database


@dataclass(frozen=True)
class StoredForever:
    """`fields` are those of each job; `number` counts the jobs that were submitted, `jobs` are those that are not over,
    `pictures` counts what the others made.  `error` says why it ended by itself, or waits; "" otherwise."""

    id: str
    user: str
    fields: dict[str, Any]
    on: bool
    number: int
    jobs: tuple[str, ...]
    pictures: int
    started: float
    error: str


class ForeverStore:
    """Any thread may call.

    Raises (all that writes):
        QueueError: it cannot be written; nothing has changed.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = database, clock

    def start(self, fields: dict[str, Any], user: str) -> StoredForever:
        """Begin anew, in place of what the user has."""
        run = StoredForever(uuid.uuid4().hex, user, fields, True, 0, (), 0, self._clock(), "")
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO forever (user, id, fields, started) VALUES (?, ?, ?, ?)",
                (user, run.id, json.dumps(fields), run.started),
            )
        return run

    def get(self, user: str) -> StoredForever | None:
        """The user's, on or ended; None where there was none."""
        found = self._rows("WHERE user = ?", (user,))
        return found[0] if found else None

    def going(self) -> list[StoredForever]:
        """Everybody's that are on."""
        return self._rows("WHERE going = 1 ORDER BY started", ())

    def record(self, run: StoredForever) -> None:
        """What has become of it; where another one took its place, nothing changes."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE forever SET going = ?, number = ?, jobs = ?, pictures = ?, error = ? WHERE id = ?",
                (run.on, run.number, json.dumps(run.jobs), run.pictures, run.error, run.id),
            )

    def _rows(self, which: str, values: Sequence[Any]) -> list[StoredForever]:
        with self._file.snapshot() as read:
            rows = read(f"SELECT * FROM forever {which}", values)
        return [run for row in rows if (run := _run(row)) is not None]


def _run(row: sqlite3.Row) -> StoredForever | None:
    """None where it cannot be read: it was salvaged from a damaged file."""
    try:
        fields, jobs = json.loads(row["fields"]), json.loads(row["jobs"])
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(jobs, list) or not all(isinstance(job, str) for job in jobs):
        return None
    counted = (row["number"], tuple(jobs), row["pictures"])
    return StoredForever(row["id"], row["user"], fields, bool(row["going"]), *counted, row["started"], row["error"])
