"""Generate forever: one request submitted as ordinary jobs without an end, until its user ends it.

One job is painted and one waits, so that the device has no pause, the limit of the queue is not used up, and other users' turns
come as they would.  It is recorded, so that it goes on without the page, after a reload and a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modules.errors import AtelierError, RequestError
from modules.queue.forever import ForeverStore, StoredForever
from modules.scripts.host import Host
from modules.scripts.watching import Watcher

log = logging.getLogger("atelier")

MOST_IN_QUEUE = 2
"""Jobs of one user that are in the queue for this: the one that is painted, and the next."""


@dataclass(frozen=True)
class ForeverView:
    """As its user sees it.  `pictures` are finished; `seed` is the one that all jobs have, None where each draws its own.
    `error` says why it ended by itself, or why nothing is submitted now."""

    on: bool
    pictures: int
    started: float
    jobs: tuple[str, ...]
    prompt: str
    seed: int | None
    error: str


class Forever:
    """Of all users of one data folder.  Any thread may call.

    Args:
        store: the records.
        host: the App, whose jobs are made.
    """

    def __init__(self, store: ForeverStore, host: Host) -> None:
        self.store, self._host = store, host
        self.let_in: Callable[[str], bool] = lambda user: True
        """Whether a user may still submit: it ends for an account that is removed or disabled.  Set by the server."""
        self._lock = threading.RLock()
        self._live: dict[str, StoredForever] = {}
        self._watcher = Watcher("forever", host.listen, self.look, lambda: bool(self._live))

    # ---- users

    def start(self, fields: Mapping[str, Any], user: str) -> ForeverView:
        """Submit this request again and again from now on, in place of what the user has on; its first job is in the queue when
        this returns.

        Raises:
            RequestError: the fields make no sense; what was on stays.
            AtelierError: as for `App.submit`.
        """
        self._host.prepared(dict(fields), user)
        with self._lock:
            if (before := self._live.get(user)) is not None:
                self._end(before)
            run = self._live[user] = self.store.start(dict(fields), user)
            try:
                self._submit(run)
            except AtelierError as error:
                self._end(run, str(error))
                raise
        view = self.view(user)
        assert view is not None
        return view

    def stop(self, user: str) -> bool:
        """Submit no more; what is painted is finished, what waits is cancelled.  False where nothing was on."""
        with self._lock:
            run = self._live.get(user)
            if run is None:
                return False
            self._end(run)
        return True

    def view(self, user: str) -> ForeverView | None:
        """The user's, on or ended; None where there was none."""
        with self._lock:
            run = self._live.get(user) or self.store.get(user)
        if run is None:
            return None
        seed = run.fields.get("seed")
        fixed = seed if isinstance(seed, int) and seed >= 0 else None
        painted = [job for name in run.jobs if (job := self._host.job(name, user)) is not None]
        pictures = run.pictures + sum(job.done for job in painted)
        prompt = str(run.fields.get("prompt") or "")
        return ForeverView(run.on, pictures, run.started, run.jobs if run.on else (), prompt, fixed, run.error)

    # ---- the process

    def begin(self) -> None:
        """Go on with what an earlier run left."""
        with self._lock:
            for run in self.store.going():
                self._live.setdefault(run.user, run)
        self._watcher.begin()

    def close(self) -> None:
        """Stop; what is on goes on with the next start."""
        self._watcher.close()

    def look(self) -> None:
        """Take in what jobs have come to, and submit what is next of each user."""
        with self._lock:
            users = list(self._live)
        for user in users:
            if self._watcher.closing:
                return
            try:
                with self._lock:
                    if (run := self._live.get(user)) is not None:
                        self._go_on(run)
            except AtelierError as error:
                log.warning("generate forever: %s", error)
            except Exception:  # one user's must not keep the others from theirs
                log.exception("generate forever was held up by an error of ours")

    # ---- inside, under the lock

    def _go_on(self, run: StoredForever) -> None:
        if not self.let_in(run.user):
            self._end(run, "the account may not paint any more")
            return
        run, failed = self._taken_in(run)
        if failed:
            self._end(run, failed)
        elif len(run.jobs) < MOST_IN_QUEUE and not any(self._waits(job, run.user) for job in run.jobs):
            self._submit_or_say(run)

    def _taken_in(self, run: StoredForever) -> tuple[StoredForever, str]:
        """The run without the jobs that are over, and why one of them failed, "" where none did."""
        left, pictures, failed = [], run.pictures, ""
        for name in run.jobs:
            job = None if self._host.unfinished(name) else self._host.job(name, run.user)
            if self._host.unfinished(name) or (job is not None and not job.over):
                left.append(name)
            elif job is not None:
                pictures += job.done
                failed = job.error or "a picture failed" if job.state == "failed" else failed
        if len(left) < len(run.jobs):
            run = self._keep(replace(run, jobs=tuple(left), pictures=pictures))
        return run, failed

    def _waits(self, name: str, user: str) -> bool:
        job = self._host.job(name, user)
        return job is not None and job.state == "queued"

    def _submit_or_say(self, run: StoredForever) -> None:
        try:
            self._submit(run)
        except RequestError as error:
            self._end(run, str(error))
        except AtelierError as error:  # a full queue, a full disk: tried again
            if run.error != str(error):
                self._keep(replace(run, error=str(error)))

    def _submit(self, run: StoredForever) -> None:
        """The next job.  Its key follows from what is recorded: stopped in between, the same key finds the same job."""
        job = self._host.submit(dict(run.fields), run.user, f"forever-{run.id}-{run.number}")
        self._keep(replace(run, number=run.number + 1, jobs=(*run.jobs, job.id), error=""))

    def _keep(self, run: StoredForever) -> StoredForever:
        """Record first, then memory."""
        self.store.record(run)
        self._live[run.user] = run
        return run

    def _end(self, run: StoredForever, error: str = "") -> None:
        run, _ = self._taken_in(run)
        painted = []
        for name in run.jobs:
            if self._waits(name, run.user):
                self._host.cancel(name, run.user)
            else:
                painted.append(name)
        self.store.record(replace(run, on=False, jobs=tuple(painted), error=error))
        self._live.pop(run.user, None)
