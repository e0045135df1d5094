"""The tool runs of a server: a table in SQLite that survives restarts, and the threads that carry them out.

There are two lanes, each with a thread: downloads, which wait for the network, and all other tools, which compute.  In each,
runs are carried out one by one, in their order; none waits for the other lane's.

A run belongs to the user who started it.  What was under way when the server stopped starts again, a download where it was; a
run whose process was killed is tried again, a bounded number of times.  No torch: each run is a process of its own (`process`).
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modules.errors import AtelierError, LimitError, QueueError, RequestError
from modules.model_tools.places import Places
from modules.model_tools.process import Outcome, ToolFailed, ToolKilled, ToolProcess
from modules.model_tools.requests import GetModel, Request, load, parse
from modules.model_tools.work import Order, part_of

log = logging.getLogger("atelier")

Lane = Literal["downloads", "work"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ATTEMPTS = 3
"""Processes of one run that may be killed before it has failed."""
WAITING = 50
"""Runs of all users that may be unfinished."""
RETRY_SECONDS = 5.0
"""Until the list is tried again where it could not be written."""
KEPT = 200
"""Finished runs that are listed; older ones are forgotten."""

_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created REAL NOT NULL,
    finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    file TEXT NOT NULL DEFAULT '',
    notes TEXT NOT NULL DEFAULT '[]'
)
"""


@dataclass(frozen=True)
class RunView:
    """A run as its user sees it.  `progress` is 0 to 1, `doing` says in a word or two what is done now."""

    id: str
    request: Request
    state: State
    created: float
    finished: float | None
    error: str
    file: str
    notes: tuple[str, ...]
    progress: float = 0.0
    doing: str = ""


@dataclass
class _Running:
    """A run that is carried out now."""

    process: ToolProcess
    progress: float = 0.0
    doing: str = "starting"

    def say(self, doing: str, progress: float) -> None:
        self.progress, self.doing = progress, doing


class ToolRuns:
    """All runs of one data folder.  Any thread may call.

    Args:
        path: the SQLite file; None keeps the list in memory.  The job list's lock keeps other processes off.
        folders: models folders.
        cache: where hashes of files are remembered.
        start_process: makes the process of an order; tests give another.
        changed: called when a run has made a file.
        public_only: whether downloads may not reach into private networks.
    """

    def __init__(
        self,
        path: Path | None,
        folders: Sequence[Path],
        cache: Path,
        start_process: Callable[[Order], ToolProcess] = ToolProcess,
        changed: Callable[[], None] = lambda: None,
        public_only: bool = False,
    ) -> None:
        self.places, self._path, self._cache = Places(folders, public_only=public_only), path, cache
        self._start_process, self._changed = start_process, changed
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._db: sqlite3.Connection | None = None
        self._running: dict[str, _Running] = {}
        self._threads: list[threading.Thread] = []
        self._closing = False

    # ---- users

    def start(self, fields: dict[str, Any], user: str) -> RunView:
        """Accept a run; when this returns it is on disk and survives a restart.

        Raises:
            RequestError: it makes no sense, a name is not here, or the new file's name is taken.
            LimitError: too many wait already.
            QueueError: the list cannot be written.
        """
        request = parse(fields)
        run = secrets.token_hex(8)
        order = self.places.order(request, run, self._cache)
        with self._lock:
            unfinished = self._rows("state IN ('queued', 'running')")
            if len(unfinished) >= WAITING:
                raise LimitError(f"{WAITING} runs of model tools wait already; cancel some, or wait for them")
            for row in unfinished:
                if self._part(row) == order.part:
                    raise RequestError("another run downloads this already; wait for it, or cancel it")
                if not isinstance(request, GetModel) and self._target(row) == order.target:
                    raise RequestError(f"another run makes {order.target.name} already; choose another name")
            values = (run, user, request.model_dump_json(), time.time())
            self._write("INSERT INTO runs (id, user, request, state, created) VALUES (?, ?, ?, 'queued', ?)", values)
            self._wake.notify_all()
            view = self.run(run, user)
        assert view is not None
        return view

    def runs(self, user: str) -> list[RunView]:
        """One's own runs, newest first."""
        with self._lock:
            return [view for row in self._rows("user = ? ORDER BY position DESC", (user,)) if (view := self._view(row))]

    def run(self, run: str, user: str) -> RunView | None:
        with self._lock:
            return next((self._view(row) for row in self._rows("id = ? AND user = ?", (run, user))), None)

    def others(self, user: str) -> int:
        """How many unfinished runs other users have."""
        with self._lock:
            return len(self._rows("user != ? AND state IN ('queued', 'running')", (user,)))

    def cancel(self, run: str, user: str) -> bool:
        """End one's own unfinished run; nothing of its file is left.  False when there is no such run under way."""
        with self._lock:
            where = "id = ? AND user = ? AND state IN ('queued', 'running')"
            if not self._rows(where, (run, user)):
                return False
            self._write(f"UPDATE runs SET state = 'cancelled', finished = ? WHERE {where}", (time.time(), run, user))
            running = self._running.get(run)
        if running is not None:
            running.process.end()
        self._sweep_cancelled(run)
        return True

    def forget(self, run: str, user: str) -> bool:
        """Take one's own finished run off the list; its file stays.  False when there is no such run."""
        with self._lock:
            where = "id = ? AND user = ? AND state NOT IN ('queued', 'running')"
            there = bool(self._rows(where, (run, user)))
            if there:
                self._sweep_cancelled(run)
                self._write(f"DELETE FROM runs WHERE {where}", (run, user))
            return there

    # ---- the process

    def begin(self) -> None:
        """Take up what an earlier server left, and carry out what comes."""
        with self._lock:
            for row in self._rows("state = 'running'"):
                if not isinstance(self._request(row), GetModel):  # a download goes on with what is there
                    self._sweep(row)
            self._write("UPDATE runs SET state = 'queued' WHERE state = 'running'", ())
            for row in self._rows("state = 'cancelled'"):
                self._sweep_cancelled(row["id"])
        lanes: tuple[Lane, ...] = ("downloads", "work")
        for lane in lanes:
            self._threads.append(threading.Thread(target=self._loop, args=(lane,), name=f"model tools: {lane}", daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """End what runs, which starts again with the next server."""
        with self._lock:
            self._closing = True
            self._wake.notify_all()
            processes = [running.process for running in self._running.values()]
        for process in processes:
            process.end()
        for thread in self._threads:
            thread.join(timeout=30)
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _loop(self, lane: Lane) -> None:
        while (row := self._next(lane)) is not None:
            try:
                self._carry_out(row)
            except QueueError as error:
                log.warning("model tools: %s", error)
                time.sleep(RETRY_SECONDS)
            except Exception as error:  # one run must not keep the others from theirs
                log.exception("a run of a model tool ended in an error of ours")
                self._end(row["id"], "failed", error=f"an error of Atelier's own: {type(error).__name__}; the log has more")

    def _next(self, lane: Lane) -> sqlite3.Row | None:
        """The next run of a lane, as soon as there is one; None when this ends."""
        with self._lock:
            while not self._closing:
                for row in self._rows("state = 'queued' ORDER BY position"):
                    if self._lane(row) == lane:
                        return row
                self._wake.wait()
        return None

    def _lane(self, row: sqlite3.Row) -> Lane:
        return "downloads" if isinstance(self._request(row), GetModel) else "work"

    def _carry_out(self, row: sqlite3.Row) -> None:
        run = row["id"]
        try:
            order = self.places.order(load(row["request"]), run, self._cache)
        except AtelierError as error:
            self._end(run, "failed", error=str(error))
            return
        process = self._start_process(order)
        with self._lock:
            if self._closing or not self._rows("id = ? AND state = 'queued'", (run,)):
                return
            self._write("UPDATE runs SET state = 'running' WHERE id = ?", (run,))
            running = self._running[run] = _Running(process)
        try:
            outcome = process.run(running.say)
        except ToolFailed as error:
            self._end(run, "failed", error=str(error))
        except ToolKilled as error:
            self._killed(row, str(error))
        else:
            self._end(run, "done", outcome)
            self._changed()
        finally:
            with self._lock:
                self._running.pop(run, None)

    def _killed(self, row: sqlite3.Row, reason: str) -> None:
        with self._lock:
            if self._closing:
                return  # it stays "running", and the next server takes it up
            attempts = row["attempts"] + 1
            if attempts >= ATTEMPTS:
                self._end(row["id"], "failed", error=f"{reason}; it was tried {ATTEMPTS} times")
            else:
                log.warning("model tools: %s; it is tried again", reason)
                query = "UPDATE runs SET state = 'queued', attempts = ? WHERE id = ? AND state = 'running'"
                self._write(query, (attempts, row["id"]))

    def _end(self, run: str, state: State, outcome: Outcome | None = None, error: str = "") -> None:
        """Record the end of a run, unless it was cancelled meanwhile."""
        file, notes = (outcome.file, json.dumps(outcome.notes)) if outcome else ("", "[]")
        with self._lock:
            self._write(
                "UPDATE runs SET state = ?, finished = ?, error = ?, file = ?, notes = ? WHERE id = ? AND "
                "(state IN ('queued', 'running') OR ? = 'done')",
                (state, time.time(), error, file, notes, run, state),
            )
            self._write(
                "DELETE FROM runs WHERE state NOT IN ('queued', 'running') AND position NOT IN "
                "(SELECT position FROM runs ORDER BY position DESC LIMIT ?)",
                (KEPT,),
            )

    def _sweep_cancelled(self, run: str) -> None:
        """Remove what a run that does not go on has left, unless it is a download that another run may go on with."""
        with self._lock:
            for row in self._rows("id = ? AND state IN ('cancelled', 'failed')", (run,)):
                others = self._rows("id != ? AND state IN ('queued', 'running', 'failed')", (run,))
                if self._part(row) not in [self._part(other) for other in others]:
                    self._sweep(row)

    def _sweep(self, row: sqlite3.Row) -> None:
        """Remove what a run had written."""
        part = self._part(row)
        with suppress(OSError):
            if part is not None and part.is_dir():
                shutil.rmtree(part)
            elif part is not None:
                part.unlink(missing_ok=True)

    def _request(self, row: sqlite3.Row) -> Request | None:
        try:
            return load(row["request"])
        except RequestError:  # another version wrote it
            return None

    def _part(self, row: sqlite3.Row) -> Path | None:
        request, target = self._request(row), self._target(row)
        return part_of(target, row["id"], request) if request is not None and target is not None else None

    def _target(self, row: sqlite3.Row) -> Path | None:
        try:
            request = self._request(row)
            return self.places.target(request) if request is not None else None
        except RequestError:  # what it was made of is gone
            return None

    # ---- the file

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(_TABLE)
        return self._db

    def _rows(self, where: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        try:
            with closing(self._connection().execute(f"SELECT * FROM runs WHERE {where}", values)) as cursor:
                return cursor.fetchall()
        except (sqlite3.Error, OSError) as error:
            raise QueueError(f"the list of model tools cannot be read ({error}); check the data folder") from None

    def _write(self, query: str, values: tuple[Any, ...]) -> None:
        try:
            self._connection().execute(query, values).close()
        except (sqlite3.Error, OSError) as error:
            raise QueueError(f"the list of model tools cannot be written ({error}); check the data folder") from None

    def _view(self, row: sqlite3.Row) -> RunView | None:
        """None for a run that another version has written and this one does not understand."""
        try:
            request = load(row["request"])
        except RequestError:
            return None
        running = self._running.get(row["id"])
        progress, doing = (running.progress, running.doing) if running is not None else (0.0, "")
        return RunView(
            id=row["id"],
            request=request,
            state=row["state"],
            created=row["created"],
            finished=row["finished"],
            error=row["error"],
            file=row["file"],
            notes=tuple(json.loads(row["notes"])),
            progress=1.0 if row["state"] == "done" else progress,
            doing=doing,
        )
