"""Scripts in the job list's database: what was asked for, cell by cell, and which job makes which cell.

    script: running -> done | cancelled        done | cancelled -> running when cells are to be made again
    cell:   waiting -> queued -> done | failed | cancelled -> waiting

A cell's job is found again by its key (`job_key`) where the program stopped between the job's row and the cell's.  Which cell
is next and what becomes of the pictures is for `modules.scripts`.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

from modules.errors import LimitError
from modules.queue.database import Database

RunState = Literal["running", "done", "cancelled"]
CellState = Literal["waiting", "queued", "done", "failed", "cancelled"]
OVER: tuple[CellState, ...] = ("done", "failed", "cancelled")

KEPT = 50
"""Scripts of one user that are over and remembered, with the jobs of their cells; of older ones the pictures stay."""
RUNNING = 20
"""Scripts of one user that may be under way."""


@dataclass(frozen=True)
class StoredCell:
    """`changes` are the fields that differ from the script's base; `after` is the cell whose picture it starts from.  `attempt`
    counts how often it was made again; `pictures` are those of its job: index, seed, width and height of each."""

    number: int
    changes: dict[str, Any]
    after: int | None
    state: CellState
    attempt: int
    job: str
    error: str
    pictures: tuple[dict[str, int], ...]


@dataclass(frozen=True)
class StoredRun:
    """`plan` is what `modules.scripts` wrote of it; `sheets` are the grid pictures: name, width, height and title.  `revision`
    counts how often the grids were drawn."""

    id: str
    user: str
    plan: dict[str, Any]
    state: RunState
    created: float
    finished: float | None
    revision: int
    sheets: tuple[dict[str, Any], ...]
    error: str


def job_key(run: str, number: int, attempt: int) -> str:
    """The submitter's key of a cell's job: one job for each attempt, however often it is submitted."""
    return f"script-{run}-{number}-{attempt}"


class ScriptStore:
    """The scripts in a job list's database.  Any thread may call.

    Raises (all that writes):
        QueueError: it cannot be written; nothing has changed.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = database, clock

    def add(
        self, plan: dict[str, Any], cells: Sequence[tuple[dict[str, Any], int | None]], user: str, key: str
    ) -> tuple[StoredRun, bool]:
        """Accept a script, and whether it was made by this call: submitted again under the same `key` it is the same one.

        Raises:
            LimitError: the user has as many under way as may be.
        """
        run, new = uuid.uuid4().hex, True
        with self._file.transaction() as db:
            known = db.execute("SELECT id FROM scripts WHERE user = ? AND key = ?", (user, key)).fetchone() if key else None
            if known:
                run, new = known["id"], False
            else:
                _check_limit(db, user)
                db.execute(
                    "INSERT INTO scripts (id, user, key, plan, state, created) VALUES (?, ?, ?, ?, 'running', ?)",
                    (run, user, key or None, json.dumps(plan), self._clock()),
                )
                db.executemany(
                    "INSERT INTO script_cells (run, number, changes, after) VALUES (?, ?, ?, ?)",
                    [(run, number, json.dumps(changes), after) for number, (changes, after) in enumerate(cells)],
                )
                db.execute(
                    "DELETE FROM scripts WHERE user = ? AND state != 'running' AND position NOT IN "
                    "(SELECT position FROM scripts WHERE user = ? AND state != 'running' ORDER BY position DESC LIMIT ?)",
                    (user, user, KEPT),
                )
        found = self.get(run)
        assert found is not None
        return found, new

    def get(self, run: str, user: str | None = None) -> StoredRun | None:
        """The script of that id; None when there is none, or when `user` is given and it is another user's."""
        found = self._runs("WHERE id = ?", (run,))
        return found[0] if found and user in (None, found[0].user) else None

    def list_for(self, user: str) -> list[StoredRun]:
        """The user's scripts, newest first."""
        return self._runs("WHERE user = ? ORDER BY position DESC", (user,))

    def running(self) -> list[StoredRun]:
        """Everybody's scripts under way, oldest first."""
        return self._runs("WHERE state = 'running' ORDER BY position", ())

    def sheet_owners(self) -> dict[str, tuple[str, str]]:
        """User and SHA-256 of each remembered script's grid pictures, by their paths below the outputs folder."""
        with self._file.snapshot() as read:
            rows = read("SELECT user, sheets FROM scripts WHERE sheets != '[]'", ())
        found: dict[str, tuple[str, str]] = {}
        for row in rows:
            with suppress(ValueError, TypeError, KeyError, RecursionError):  # salvaged from a damaged file
                found |= {sheet["name"]: (row["user"], sheet["sha256"]) for sheet in json.loads(row["sheets"])}
        return found

    def cells(self, run: str) -> list[StoredCell]:
        """By number."""
        with self._file.snapshot() as read:
            rows = read("SELECT * FROM script_cells WHERE run = ? ORDER BY number", (run,))
        return [cell for row in rows if (cell := _cell(row)) is not None]

    def set_cell(
        self,
        run: str,
        number: int,
        state: CellState,
        job: str | None = None,
        error: str = "",
        pictures: Iterable[dict[str, int]] = (),
        attempt: int | None = None,
    ) -> None:
        """Record what a cell has come to; `attempt`: only if it is still that one's.  A `job` of None leaves it."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE script_cells SET state = ?, job = coalesce(?, job), error = ?, pictures = ? "
                "WHERE run = ? AND number = ? AND attempt = coalesce(?, attempt)",
                (state, job, error, json.dumps(list(pictures)), run, number, attempt),
            )

    def again(self, run: str, numbers: Sequence[int]) -> None:
        """Have these cells, which are over, made once more, and the script go on; its grids are drawn anew in any case.

        Raises:
            LimitError: as for `add`, where it is over.
        """
        with self._file.transaction() as db:
            found = db.execute("SELECT user, state FROM scripts WHERE id = ?", (run,)).fetchone()
            if found is not None and found["state"] != "running":
                _check_limit(db, found["user"])
            db.executemany(
                "UPDATE script_cells SET state = 'waiting', attempt = attempt + 1, job = '', error = '', pictures = '[]' "
                "WHERE run = ? AND number = ? AND state IN ('done', 'failed', 'cancelled')",
                [(run, number) for number in numbers],
            )
            going_on = "UPDATE scripts SET state = 'running', finished = NULL, error = '', revision = revision + 1 WHERE id = ?"
            db.execute(going_on, (run,))

    def finish(self, run: str, state: RunState, sheets: Sequence[dict[str, Any]] = (), error: str = "") -> bool:
        """End a script that is under way, with "cancelled" also its cells that are not over; False where it is not."""
        with self._file.transaction() as db:
            changed = db.execute(
                "UPDATE scripts SET state = ?, finished = ?, sheets = ?, revision = revision + 1, error = ? "
                "WHERE id = ? AND state = 'running'",
                (state, self._clock(), json.dumps(list(sheets)), error, run),
            ).rowcount
            if changed and state == "cancelled":
                not_over = "UPDATE script_cells SET state = 'cancelled' WHERE run = ? AND state IN ('waiting', 'queued')"
                db.execute(not_over, (run,))
        return bool(changed)

    def say(self, run: str, error: str) -> None:
        """What holds a script up for now, "" for nothing."""
        with self._file.transaction(durable=False) as db:
            db.execute("UPDATE scripts SET error = ? WHERE id = ?", (error, run))

    def remove(self, run: str, user: str) -> bool:
        """Forget one's own script that is over; its pictures stay.  False when there is no such one."""
        with self._file.transaction() as db:
            where = "DELETE FROM scripts WHERE id = ? AND user = ? AND state != 'running'"
            return bool(db.execute(where, (run, user)).rowcount)

    def _runs(self, which: str, values: Sequence[Any]) -> list[StoredRun]:
        with self._file.snapshot() as read:
            rows = read(f"SELECT * FROM scripts {which}", values)
        return [run for row in rows if (run := _run(row)) is not None]


def _check_limit(db: sqlite3.Connection, user: str) -> None:
    under_way = "SELECT count(*) FROM scripts WHERE user = ? AND state = 'running'"
    if db.execute(under_way, (user,)).fetchone()[0] >= RUNNING:
        raise LimitError(f"{RUNNING} scripts of yours are under way already; cancel one, or wait until one is done")


_PLAN = {"base": dict, "columns": list, "rows": list, "sheets": list, "order": list}
"""What is needed of a plan to go on with it."""


def _run(row: sqlite3.Row) -> StoredRun | None:
    """None where it cannot be read: another version wrote it, or it was salvaged from a damaged file."""
    try:
        plan, sheets = json.loads(row["plan"]), tuple(json.loads(row["sheets"]))
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(plan, dict) or not all(isinstance(plan.get(name), kind) for name, kind in _PLAN.items()):
        return None
    return StoredRun(
        id=row["id"],
        user=row["user"],
        plan=plan,
        state=cast(RunState, row["state"]),
        created=row["created"],
        finished=row["finished"],
        revision=row["revision"],
        sheets=sheets,
        error=row["error"],
    )


def _cell(row: sqlite3.Row) -> StoredCell | None:
    """None where it cannot be read."""
    try:
        changes, pictures = json.loads(row["changes"]), tuple(json.loads(row["pictures"]))
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(changes, dict):
        return None
    return StoredCell(
        number=row["number"],
        changes=changes,
        after=row["after"],
        state=cast(CellState, row["state"]),
        attempt=row["attempt"],
        job=row["job"],
        error=row["error"],
        pictures=pictures,
    )
