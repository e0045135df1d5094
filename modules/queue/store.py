"""The job list: every accepted job and every finished picture in one SQLite file that survives `kill -9` and power loss.

    queued -> running -> done | failed | cancelled          running -> queued when the program stopped in between
                         failed | cancelled -> queued       when the owner wants it tried again

When `add` returns, the job is on disk with its seed and checkpoint; when `picture_done` returns, so is the picture's row.  One
process holds the list (a second is refused): its lock is the lease of everything that runs.  This file knows what is to be made
and what was made; the file itself is `modules.queue.database`'s, and who is next among users, and how pictures are painted or
saved, is decided elsewhere.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from modules.errors import LimitError, QueueError
from modules.queue.database import Database
from modules.queue.forever import ForeverStore
from modules.queue.owners import merge_owners
from modules.queue.records import OVER, Job, Outcome, folded_prompt, read_job, signed, unreadable
from modules.queue.scripts import ScriptStore
from modules.request import GenerationRequest

MAX_ATTEMPTS = 2
"""Engines that may die over a job before it is given up: a poison job must not stop the queue."""
HISTORY = 1000
"""Finished jobs that are remembered; older ones are forgotten, their files stay.  Jobs of remembered scripts stay as well."""

MAX_WORDS = 16
"""Words that are looked for in prompts; more are ignored."""

_GIVEN_UP = "the engine died twice while making this picture; retry to have it tried once more"

Cost = tuple[str, str, str, int, int, int, float]
"""device, kind of work, checkpoint, width, height, rows, seconds: a row of `modules.engine.costs`, kept for the next start."""


class NotQueued(QueueError):
    """A job cannot begin because it does not wait (any more)."""


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

    `per_user` and `total` limit the unfinished jobs; `history` is how many finished ones are remembered.

    What becomes of a damaged, removed or replaced file is told at `modules.queue.database.Database`.

    Raises:
        QueueError: another process has it open, it was written by a newer version, or cannot be written.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        history: int = HISTORY,
        per_user: int | None = None,
        total: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._history, self._clock = history, clock
        self._per_user, self._total = per_user, total
        self._file = Database(path, {"folded_prompt": folded_prompt})
        self.scripts = ScriptStore(self._file, clock)
        """Scripts and their cells, in the same database."""
        self.forever = ForeverStore(self._file, clock)
        """Generation without an end, in the same database."""

    def limit(self, per_user: int | None, total: int | None, history: int) -> None:
        """Other limits from now on, as in the constructor; what is over them now stays."""
        self._per_user, self._total, self._history = per_user, total, history

    @property
    def notice(self) -> str:
        """What a person should know about how the list was opened, "" when all was well."""
        return self._file.notice

    # ---- submitting and looking

    def add(self, request: GenerationRequest, user: str, key: str = "", sent: str = "") -> Job:
        """Accept a job.  On disk when this returns.  Seed and checkpoint are resolved before.

        `key` is the submitter's own name for the job, if any: submitted again under the same key, it is the same job.  `sent`
        is a digest of what was submitted, kept with it.

        Raises:
            LimitError: the user has, or all have, as many unfinished jobs as may be.
        """
        return self.accept(request, user, key, sent)[0]

    def accept(self, request: GenerationRequest, user: str, key: str = "", sent: str = "") -> tuple[Job, bool]:
        """`add`, and whether the job was made by this very call; of calls with one key, exactly one makes it."""
        job, new = uuid.uuid4().hex, True
        with self._transaction() as db:
            if key and (there := db.execute("SELECT id FROM jobs WHERE user = ? AND key = ?", (user, key)).fetchone()):
                job, new = there["id"], False
            else:
                self._check_limits(db, user)
                db.execute(
                    "INSERT INTO jobs (id, user, request, state, created, key, sent, place) "
                    "VALUES (?, ?, ?, 'queued', ?, ?, ?, (SELECT coalesce(max(place), 0) + 1 FROM jobs))",
                    (job, user, request.model_dump_json(), self._clock(), key or None, sent),
                )
        return self._present(job), new

    def with_key(self, key: str, user: str) -> Job | None:
        """The job that the user submitted under this key, if it is remembered."""
        found = self._jobs("WHERE user = ? AND key = ?", (user, key))
        return found[0] if found else None

    def get(self, job: str, user: str | None = None) -> Job | None:
        """The job of that id; None when there is none, or when `user` is given and it is another user's."""
        found = self._jobs("WHERE id = ?", (job,))
        return found[0] if found and user in (None, found[0].user) else None

    def get_all(self, jobs: Sequence[str]) -> list[Job]:
        """Those of these ids that there are, in this order."""
        found = {job.id: job for job in self._jobs("WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(jobs)),))}
        return [found[job] for job in jobs if job in found]

    def list_for(self, user: str, limit: int = 50, before: str = "", words: str = "") -> list[Job]:
        """The user's jobs, newest first; only those older than the job `before`, where one is named that is theirs, and only
        those whose prompt has each of `words`, whatever the case."""
        older = self._rows("SELECT position FROM jobs WHERE id = ? AND user = ?", (before, user)) if before else []
        if before and not older:
            return []
        newest = older[0]["position"] if older else 2**62
        wanted = words.casefold().split()[:MAX_WORDS]
        says = " AND instr(folded_prompt(request), ?)" * len(wanted)
        which = f"WHERE user = ? AND position < ?{says} ORDER BY position DESC LIMIT ?"
        return self._jobs(which, (user, newest, *wanted, limit))

    def refers(self, upload: str, user: str) -> bool:
        """Whether a remembered job of this user began with the picture of that id (`modules.images.uploads`)."""
        found = self._jobs("WHERE user = ? AND instr(request, ?) LIMIT 100", (user, json.dumps(upload)))
        return any(upload in getattr(job.request, "pictures", {}).values() for job in found)

    def picture_owners(self) -> dict[str, tuple[str, str]]:
        """User and SHA-256 of each remembered picture, scripts' grids included, by its path below the outputs folder."""
        found = "SELECT pictures.path, jobs.user, pictures.sha256 FROM pictures JOIN jobs ON jobs.id = pictures.job"
        painted = {row["path"]: (row["user"], row["sha256"]) for row in self._rows(found, ())}
        return self.scripts.sheet_owners() | painted

    def unfinished(self) -> list[Job]:
        """Everybody's queued and running jobs in the order of the queue."""
        return self._jobs("WHERE state IN ('queued', 'running') ORDER BY place, position", ())

    def latest_checkpoint(self) -> str | None:
        """The checkpoint that the newest job asked for; pictures that are only enlarged ask for none."""
        found = self._jobs("WHERE instr(request, ?) = 0 ORDER BY position DESC LIMIT 1", ('"upscaler_1"',))
        return found[0].request.checkpoint if found else None

    # ---- the life of a job

    def mark_running(self, job: str) -> Job:
        """Begin a queued job.

        Raises:
            NotQueued: it does not wait (any more); it may have been cancelled.
        """
        with self._transaction(durable=False) as db:  # after a power cut it waits again, as it would anyway
            changed = db.execute(
                "UPDATE jobs SET state = 'running', started = coalesce(started, ?) WHERE id = ? AND state = 'queued'",
                (self._clock(), job),
            ).rowcount
        if not changed:
            state = found.state if (found := self.get(job)) else "unknown"
            raise NotQueued(f"job {job} cannot begin: it is {state}, not queued")
        return self._present(job)

    def interrupt(self, job: str) -> None:
        """Make no picture of an unfinished job beside those that are painted now, whatever happens before it ends."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET interrupted = 1 WHERE id = ? AND state IN ('queued', 'running')", (job,))

    def engine_died(self, jobs: Iterable[str]) -> None:
        """An engine died while it painted these: one more attempt of each is used up."""
        with self._transaction() as db:
            db.executemany("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", [(job,) for job in jobs])

    def picture_done(self, job: str, index: int, saved: Saved, seed: int, last: bool = False) -> bool:
        """Record that picture `index` is on disk, and with the `last` one that the job is done.

        False when it was recorded before: the first row stands.  A finished picture is progress, so the attempts count anew.
        """
        with self._transaction() as db:
            added = db.execute(
                "INSERT INTO pictures (job, number, path, sha256, infotext, width, height, seed, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, number) DO NOTHING",
                (job, index, saved.name, saved.sha256, saved.infotext, saved.width, saved.height, signed(seed), self._clock()),
            ).rowcount
            db.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job,))
            if last:
                self._end(db, job, "done")
                self._forget_old(db)
        return bool(added)

    def finish(self, job: str, state: Outcome, error: str = "") -> Job | None:
        """End a job that is not over yet; one that is stays as it ended.  Returns it; None when there is no such job."""
        if state not in OVER:
            raise ValueError(f"a job ends as one of {', '.join(OVER)}, not {state!r}")
        with self._transaction() as db:
            self._end(db, job, state, error)
            ended = self.get(job)
            self._forget_old(db)
        return ended

    def cancel(self, job: str, user: str) -> Job | None:
        """End one's own job; may be repeated.  None when there is none of that id, or it is another user's."""
        return self.finish(job, "cancelled") if self.get(job, user) else None

    # ---- what owners may do to the order of things

    def retry(self, job: str, user: str) -> Job | None:
        """Queue one's own failed or cancelled job again, last, to make what it lacks.  None when it is no such job.

        Raises:
            LimitError: as for `add`.
        """
        with self._transaction() as db:
            mine = db.execute("SELECT state FROM jobs WHERE id = ? AND user = ?", (job, user)).fetchone()
            if mine is None or mine["state"] not in ("failed", "cancelled"):
                return None
            self._check_limits(db, user)
            db.execute(
                "UPDATE jobs SET state = 'queued', error = '', attempts = 0, interrupted = 0, finished = NULL, "
                "place = (SELECT max(place) + 1 FROM jobs) WHERE id = ?",
                (job,),
            )
        return self._present(job)

    def forget_picture(self, job: str, index: int, user: str) -> bool:
        """Forget one picture of one's own job that is over, and the job with its last one.  False when there is no such one."""
        over = "SELECT id FROM jobs WHERE id = ? AND user = ? AND state NOT IN ('queued', 'running')"
        with self._transaction() as db:
            gone = db.execute(f"DELETE FROM pictures WHERE number = ? AND job IN ({over})", (index, job, user)).rowcount
            if gone:
                db.execute("DELETE FROM jobs WHERE id = ? AND NOT EXISTS (SELECT 1 FROM pictures WHERE job = ?)", (job, job))
        return gone > 0

    def remove(self, job: str, user: str) -> bool:
        """Forget one's own job that is over; its files stay.  False when it is no such job."""
        with self._transaction() as db:
            gone = db.execute("DELETE FROM jobs WHERE id = ? AND user = ? AND state NOT IN ('queued', 'running')", (job, user))
        return gone.rowcount > 0

    def move(self, job: str, user: str, to: int) -> list[str] | None:
        """Put one's own unfinished job to place `to` (from 0) among one's own; places beyond the end are the end.

        Others' places stay: the user's jobs change seats among themselves.  Returns the user's unfinished jobs in their new
        order, None when the job is no such job.
        """
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id, place FROM jobs WHERE user = ? AND state IN ('queued', 'running') ORDER BY place, position", (user,)
            ).fetchall()
            order = [row["id"] for row in rows]
            if job not in order:
                return None
            order.remove(job)
            order.insert(max(0, to), job)
            seats = zip((row["place"] for row in rows), order, strict=True)
            db.executemany("UPDATE jobs SET place = ? WHERE id = ?", seats)
        return order

    def pause(self, user: str, paused: bool) -> None:
        """Whether nothing more of this user is to be begun."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO pauses VALUES (?)" if paused else "DELETE FROM pauses WHERE user = ?", (user,))

    def paused(self) -> set[str]:
        """The users who paused."""
        return {row["user"] for row in self._rows("SELECT user FROM pauses", ())}

    def merge_owners(self) -> list[str]:
        """For an instance without accounts: see `modules.queue.owners`."""
        with self._transaction() as db:
            return merge_owners(db)

    # ---- what works took

    def costs(self) -> list[Cost]:
        return [tuple(row) for row in self._rows("SELECT * FROM costs", ())]

    def keep_costs(self, costs: Iterable[Cost]) -> None:
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO costs VALUES (?, ?, ?, ?, ?, ?, ?)", costs)

    # ---- starting and stopping

    def recover(self) -> list[Job]:
        """Once at start: take up what an earlier run left.  Returns all jobs that wait now, in the order of the queue.

        What was running waits again at its old place, without blame: that the program stopped says nothing about the job.  What
        had all its pictures is done, and what `MAX_ATTEMPTS` engines died over has failed.  What was interrupted is done with
        the pictures that it has, and cancelled where it has none.
        """
        for job in self.unfinished():
            with self._transaction() as db:
                row = db.execute("SELECT request, interrupted FROM jobs WHERE id = ?", (job.id,)).fetchone()
                if row["interrupted"]:
                    self._end(db, job.id, "done" if job.pictures else "cancelled")
                elif problem := unreadable(row["request"]):
                    self._end(db, job.id, "failed", f"this version cannot carry out the stored request: {problem}")
                elif len(job.pictures) >= job.request.count:
                    self._end(db, job.id, "done")
                elif job.attempts >= MAX_ATTEMPTS:
                    self._end(db, job.id, "failed", _GIVEN_UP)
                else:
                    db.execute("UPDATE jobs SET state = 'queued' WHERE id = ?", (job.id,))
        with self._transaction() as db:
            self._forget_old(db)
        return self.unfinished()

    def check_place(self) -> None:
        """Notice that the file was removed or replaced, and write the list under its name again; cheap when all is well.

        Raises:
            QueueError: it cannot be written there now, or another Atelier has taken the place.
        """
        self._file.check_place()

    def check_writable(self) -> None:
        """Find out whether the list could be written now; writes and takes back.

        Raises:
            QueueError: it could not, and why.
        """
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO pauses VALUES ('')")
            db.execute("DELETE FROM pauses WHERE user = ''")

    def close(self) -> None:
        """Stop.  What is running waits for the next start.  May be repeated."""

        def last() -> None:
            with self._transaction() as db:
                db.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

        self._file.close(last)

    # ---- inside

    @contextmanager
    def _transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with self._file.transaction(durable) as db:
            yield db

    def _end(self, db: sqlite3.Connection, job: str, state: Outcome, error: str = "") -> None:
        db.execute(
            "UPDATE jobs SET state = ?, error = ?, finished = ? WHERE id = ? AND state IN ('queued', 'running')",
            (state, error, self._clock(), job),
        )

    def _check_limits(self, db: sqlite3.Connection, user: str) -> None:
        total, own = db.execute(
            "SELECT count(*), coalesce(sum(user = ?), 0) FROM jobs WHERE state IN ('queued', 'running')", (user,)
        ).fetchone()
        if self._per_user is not None and own >= self._per_user:
            raise LimitError(f"you have {own} jobs in the queue, and {self._per_user} is the most; wait until one is finished")
        if self._total is not None and total >= self._total:
            raise LimitError(f"{total} jobs are in the queue, and {self._total} is the most; wait until one is finished")

    def _forget_old(self, db: sqlite3.Connection) -> None:
        db.execute(
            "DELETE FROM jobs WHERE position IN (SELECT position FROM jobs WHERE state IN ('done', 'failed', 'cancelled') "
            "AND id NOT IN (SELECT job FROM script_cells) ORDER BY position DESC LIMIT -1 OFFSET ?)",
            (self._history,),
        )

    def _rows(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._file.snapshot() as read:
            return read(query, values)

    def _jobs(self, which: str, values: Sequence[Any]) -> list[Job]:
        """In two statements however many there are; rows become objects outside the lock."""
        pictures: dict[str, list[sqlite3.Row]] = {}
        with self._file.snapshot() as read:
            rows = read(f"SELECT * FROM jobs {which}", values)
            ids = json.dumps([row["id"] for row in rows])
            found = "SELECT * FROM pictures WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, number"
            for picture in read(found, (ids,)) if rows else []:
                pictures.setdefault(picture["job"], []).append(picture)
        return [read_job(row, pictures.get(row["id"], [])) for row in rows]

    def _present(self, job: str) -> Job:
        if (found := self.get(job)) is None:
            raise QueueError(f"job {job} is not in the list")
        return found
