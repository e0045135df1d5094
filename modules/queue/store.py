"""The job list: every accepted job and every finished picture in one SQLite file that survives `kill -9` and power loss.

    queued -> running -> done | failed | cancelled          running -> queued when the program stopped in between

When `add` returns, the job is on disk with its seed and checkpoint; when `picture_done` returns, so is the picture's row.  One
process holds the list (a second is refused), and within it one connection writes, behind a lock.  This file knows what is to be
made and what was made; who is next among users, and how pictures are painted or saved, is decided elsewhere.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from modules.errors import AtelierError, RequestError
from modules.queue.lock import ProcessLock
from modules.queue.migrations import migrate
from modules.request import GenerationRequest, Txt2Img, parse_request

log = logging.getLogger("atelier")

State = Literal["queued", "running", "done", "failed", "cancelled"]
Outcome = Literal["done", "failed", "cancelled"]

MAX_ATTEMPTS = 2
"""How often a job is begun without finishing a picture before it is given up: a poison job must not stop the queue."""
HISTORY = 1000
"""Finished jobs that are remembered; older ones are forgotten, their files stay."""

_GIVEN_UP = "the engine or the server died twice while making this picture; submit it again to have it tried once more"
_OVER = ("done", "failed", "cancelled")


class QueueError(AtelierError):
    """The job list cannot be opened, read or written."""


@dataclass(frozen=True)
class Picture:
    """A finished picture of a job.  `path` is below the outputs folder; `sha256` of the file in hex; sizes in pixels."""

    index: int
    path: str
    sha256: str
    infotext: str
    width: int
    height: int
    seed: int
    created: float


@dataclass(frozen=True)
class Job:
    """A request that a user submitted, and what became of it.

    `position` orders the queue (earlier is smaller, never reused).  Times are seconds since 1970, for people: nothing is
    ordered by them.  `attempts` counts how often it was begun since its last finished picture.  `error` is for the user, ""
    without one.
    """

    id: str
    user: str
    request: GenerationRequest
    state: State
    position: int
    created: float
    started: float | None
    finished: float | None
    error: str
    attempts: int
    pictures: tuple[Picture, ...]

    @property
    def over(self) -> bool:
        return self.state in _OVER


class Saved(Protocol):
    """What `picture_done` wants to know of a file; `modules.images.outputs.SavedImage` is one."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def infotext(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


class JobStore:
    """The job list in the file `path`; in memory, gone at the end, when `path` is None.  Any thread may call.

    Raises:
        QueueError: another process has it open, it is damaged, written by a newer version, or cannot be written.
    """

    def __init__(self, path: Path | None, *, history: int = HISTORY, clock: Callable[[], float] = time.time) -> None:
        self._path, self._history, self._clock = path, history, clock
        self._guard = threading.RLock()
        self._closed = False
        self._process_lock: ProcessLock | None = None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._process_lock = ProcessLock(path.with_name(path.name + ".lock"))
        except BlockingIOError:
            raise QueueError(f"another Atelier is using {path}: stop it, or use another folder with --data-dir") from None
        except OSError as error:
            cause = error.strerror or error
            raise QueueError(f"the job list {path} cannot be opened: {cause}; check the folder, or use --data-dir") from None
        try:
            self._db = self._open()
        except BaseException:
            self._release()
            raise

    # ---- submitting and looking

    def add(self, request: GenerationRequest, user: str) -> Job:
        """Accept a job.  On disk when this returns.  Seed and checkpoint are resolved before."""
        job = uuid.uuid4().hex
        with self._transaction() as db:
            db.execute(
                "INSERT INTO jobs (id, user, request, state, created) VALUES (?, ?, ?, 'queued', ?)",
                (job, user, request.model_dump_json(), self._clock()),
            )
        return self._present(job)

    def get(self, job: str, user: str | None = None) -> Job | None:
        """The job of that id; None when there is none, or when `user` is given and it is somebody else's."""
        found = self._jobs("WHERE id = ?", (job,))
        return found[0] if found and user in (None, found[0].user) else None

    def list_for(self, user: str, limit: int = 50) -> list[Job]:
        """The user's jobs, newest first."""
        return self._jobs("WHERE user = ? ORDER BY position DESC LIMIT ?", (user, limit))

    def unfinished(self) -> list[Job]:
        """Everybody's queued and running jobs in the order of the queue."""
        return self._jobs("WHERE state IN ('queued', 'running') ORDER BY position", ())

    def next_queued(self) -> Job | None:
        """The oldest job that waits."""
        found = self._jobs("WHERE state = 'queued' ORDER BY position LIMIT 1", ())
        return found[0] if found else None

    def latest_checkpoint(self) -> str | None:
        """The checkpoint that the newest job asked for."""
        found = self._jobs("ORDER BY position DESC LIMIT 1", ())
        return found[0].request.checkpoint if found else None

    # ---- the life of a job

    def mark_running(self, job: str) -> Job:
        """Begin a queued job: one more attempt.

        Raises:
            QueueError: it does not wait (any more); it may have been cancelled.
        """
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = coalesce(started, ?) "
                "WHERE id = ? AND state = 'queued'",
                (self._clock(), job),
            ).rowcount
        if not changed:
            state = found.state if (found := self.get(job)) else "unknown"
            raise QueueError(f"job {job} cannot begin: it is {state}, not queued")
        return self._present(job)

    def picture_done(self, job: str, index: int, saved: Saved, seed: int) -> bool:
        """Record that picture `index` is on disk.  False when it was recorded before: the first row stands.

        A finished picture is progress, so the attempts count from one again.
        """
        with self._transaction() as db:
            added = db.execute(
                "INSERT INTO pictures (job, number, path, sha256, infotext, width, height, seed, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, number) DO NOTHING",
                (job, index, saved.name, saved.sha256, saved.infotext, saved.width, saved.height, seed, self._clock()),
            ).rowcount
            db.execute("UPDATE jobs SET attempts = 1 WHERE id = ? AND attempts > 1", (job,))
        return bool(added)

    def finish(self, job: str, state: Outcome, error: str = "") -> Job | None:
        """End a job that is not over yet; one that is stays as it ended.  Returns it; None when there is no such job."""
        if state not in _OVER:
            raise ValueError(f"a job ends as one of {', '.join(_OVER)}, not {state!r}")
        with self._transaction() as db:
            self._end(db, job, state, error)
        ended = self.get(job)
        self._forget_old()
        return ended

    def cancel(self, job: str, user: str) -> Job | None:
        """End one's own job; may be repeated.  None when there is none of that id, or it is somebody else's."""
        return self.finish(job, "cancelled") if self.get(job, user) else None

    def release(self, job: str) -> None:
        """Put a running job back without blame: it was interrupted, it did not fail."""
        with self._transaction() as db:
            self._put_back(db, "id = ?", (job,))

    def recover(self) -> list[Job]:
        """Once at start: take up what an earlier run left.  Returns all jobs that wait now, in the order of the queue.

        What was running waits again at its old place, unless it was begun `MAX_ATTEMPTS` times in vain; what had all its
        pictures is done.
        """
        for job in self.unfinished():
            with self._transaction() as db:
                if problem := self._unreadable(job.id):
                    self._end(db, job.id, "failed", f"this version cannot carry out the stored request: {problem}")
                elif len(job.pictures) >= job.request.count:
                    self._end(db, job.id, "done")
                elif job.state == "running" and job.attempts >= MAX_ATTEMPTS:
                    self._end(db, job.id, "failed", _GIVEN_UP)
                elif job.state == "running":
                    db.execute("UPDATE jobs SET state = 'queued' WHERE id = ?", (job.id,))
        self._forget_old()
        return self.unfinished()

    def close(self) -> None:
        """Stop.  What is running waits for the next start, without blame.  May be repeated."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            try:
                with self._transaction() as db:
                    self._put_back(db, "1", ())
            except QueueError as error:
                log.warning("while closing: %s", error)
            self._db.close()
            self._release()

    # ---- inside

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(" ".join(str(verdict).split()))
            migrate(db)
        except (sqlite3.Error, ValueError) as error:
            db.close()
            raise self._explained(error) from None
        return db

    def _release(self) -> None:
        if self._process_lock is not None:
            self._process_lock.release()
            self._process_lock = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when the block ends."""
        with self._guard:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._explained(error) from None

    def _end(self, db: sqlite3.Connection, job: str, state: Outcome, error: str = "") -> None:
        db.execute(
            "UPDATE jobs SET state = ?, error = ?, finished = ? WHERE id = ? AND state IN ('queued', 'running')",
            (state, error, self._clock(), job),
        )

    def _put_back(self, db: sqlite3.Connection, which: str, values: Sequence[Any]) -> None:
        db.execute(f"UPDATE jobs SET state = 'queued', attempts = attempts - 1 WHERE state = 'running' AND {which}", values)

    def _forget_old(self) -> None:
        with self._transaction() as db:
            db.execute(
                "DELETE FROM jobs WHERE position IN (SELECT position FROM jobs WHERE state IN ('done', 'failed', 'cancelled') "
                "ORDER BY position DESC LIMIT -1 OFFSET ?)",
                (self._history,),
            )

    def _rows(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._guard:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._explained(error) from None

    def _jobs(self, which: str, values: Sequence[Any]) -> list[Job]:
        with self._guard:
            rows = self._rows(f"SELECT * FROM jobs {which}", values)
            return [_job(row, self._rows("SELECT * FROM pictures WHERE job = ? ORDER BY number", (row["id"],))) for row in rows]

    def _present(self, job: str) -> Job:
        if (found := self.get(job)) is None:
            raise QueueError(f"job {job} is not in the list")
        return found

    def _unreadable(self, job: str) -> str:
        try:
            parse_request(json.loads(self._rows("SELECT request FROM jobs WHERE id = ?", (job,))[0]["request"]))
        except (RequestError, ValueError, TypeError) as error:
            return str(error)
        return ""

    def _explained(self, error: Exception) -> QueueError:
        """Cause and remedy in plain words."""
        text = str(error)
        if "disk is full" in text:
            return QueueError(f"the job list {self._path} cannot be written: the disk is full; make room and try again")
        if "readonly" in text or "unable to open" in text:
            return QueueError(f"the job list {self._path} cannot be written: {text}; change its permissions, or use --data-dir")
        if "newer version" in text:
            return QueueError(f"the job list {self._path} was {text}; use that version, or another --data-dir")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, (sqlite3.OperationalError, sqlite3.ProgrammingError)
        ):
            return QueueError(
                f"the job list {self._path} is damaged ({text}): move it away and start again; finished pictures are files of "
                "their own and are not touched"
            )
        return QueueError(f"the job list {self._path} did not answer: {text}")


def _job(row: sqlite3.Row, pictures: list[sqlite3.Row]) -> Job:
    return Job(
        id=row["id"],
        user=row["user"],
        request=_request(row["request"]),
        state=cast(State, row["state"]),
        position=row["position"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        error=row["error"],
        attempts=row["attempts"],
        pictures=tuple(_picture(picture) for picture in pictures),
    )


def _picture(row: sqlite3.Row) -> Picture:
    return Picture(
        index=row["number"],
        path=row["path"],
        sha256=row["sha256"],
        infotext=row["infotext"],
        width=row["width"],
        height=row["height"],
        seed=row["seed"],
        created=row["created"],
    )


def _request(text: str) -> GenerationRequest:
    """The stored request.  One of another version is shown as far as it is understood; `recover` keeps it from being run."""
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        return Txt2Img()
    with suppress(RequestError):
        return parse_request(data)
    understood = {}
    for name, value in data.items():
        with suppress(RequestError):
            parse_request({name: value})
            understood[name] = value
    return parse_request({**understood, "count": 1})
