"""Callers' own names for their calls (`force_task_id`), and which of a caller's jobs is the current one.

Names live in memory, as they do in A1111: they are for watching a call that is under way.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from modules.app import App
from modules.jobs.views import JobView

MAX_NAMES = 4_000
"""Names that are remembered, of all callers; the oldest go first."""


class Tasks:
    """(user, name) -> job, or script.  Any thread may call."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, user: str, name: str, job_id: str) -> None:
        with self._lock:
            self._jobs[user, name] = job_id
            self._jobs.move_to_end((user, name))
            while len(self._jobs) > MAX_NAMES:
                self._jobs.popitem(last=False)

    def job_id(self, user: str, name: str) -> str:
        """The job, or the script, that the caller named so; else the name itself, which may be a job's id."""
        with self._lock:
            return self._jobs.get((user, name), name)

    def names(self, user: str) -> dict[str, str]:
        """The caller's names by job."""
        with self._lock:
            return {job: name for (owner, name), job in self._jobs.items() if owner == user}


def current_job(app: App, user: str) -> JobView | None:
    """The job that is painted for this caller now, else their next one; None when they have none."""
    jobs = app.queue(user).jobs
    return next((job for job in jobs if job.state == "running"), jobs[0] if jobs else None)
