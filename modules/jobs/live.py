"""The jobs that are not over: what only memory knows of them, kept in step with the job list."""

from __future__ import annotations

from dataclasses import dataclass, field

from modules.engine.messages import Done
from modules.errors import QueueError
from modules.jobs.changes import Changes
from modules.jobs.dispatch import Dispatcher, ImageTask
from modules.jobs.hold import Hold
from modules.jobs.progress import ImageProgress
from modules.jobs.views import Preview
from modules.jobs.worker import Workers
from modules.prompts.library import Finished
from modules.queue.records import Job, Outcome
from modules.queue.store import JobStore


@dataclass
class LiveJob:
    """A job that is not over.

    `left` are its images that are not saved.  Of each image in flight, `progress` is what was reported last and `words` its
    prompts as they were sent; `finishing` are those that are to end with the step that runs, `skipping` those of them that
    the user skipped, and `interrupted` that the user wants no more of it.  `unsaved` has the engine's messages of finished
    images that the disk refused, and `ending` how the job ends once that can be recorded.
    """

    job: Job
    left: set[int]
    progress: dict[int, ImageProgress] = field(default_factory=dict)
    words: dict[int, Finished] = field(default_factory=dict)
    finishing: set[int] = field(default_factory=set)
    skipping: set[int] = field(default_factory=set)
    interrupted: bool = False
    unsaved: dict[int, Done] = field(default_factory=dict)
    ending: tuple[Outcome, str] | None = None
    rev: int = 1
    preview: Preview | None = None
    looked_at: float = float("-inf")

    def forget(self, index: int) -> None:
        """The image is over."""
        for each in (self.progress, self.words, self.unsaved):
            each.pop(index, None)
        self.finishing.discard(index)
        self.skipping.discard(index)
        self.left.discard(index)

    def steps_done(self, index: int) -> int:
        """Of an image, over all its stages."""
        there = self.progress.get(index)
        return there.step if there else 0


class LiveJobs:
    """Memory and job list together: what changes both is done here, record first.

    Methods that record are called under `Changes.recording` or take it; those that only look or note are called under
    `Changes.lock`, as each says.
    """

    def __init__(self, store: JobStore, changes: Changes, workers: Workers, hold: Hold) -> None:
        self.store, self.changes, self.workers, self.hold = store, changes, workers, hold
        self.dispatcher = Dispatcher(workers=[worker.name for worker in workers.all])
        self.jobs: dict[str, LiveJob] = {}
        self.paused = store.paused()
        for user in self.paused:
            self.dispatcher.pause(user, True)

    # ---- under the lock

    def get(self, job_id: str, user: str) -> LiveJob | None:
        """One's own job; None when there is no such one under way."""
        live = self.jobs.get(job_id)
        return live if live is not None and live.job.user == user else None

    def painted_by(self, worker: str, task: ImageTask) -> LiveJob | None:
        """The job of an image that is in flight to this worker; None when it is not, so that what the worker says is late."""
        return self.jobs.get(task.job) if self.dispatcher.worker_of(task.job, task.index) == worker else None

    def touch(self, live: LiveJob) -> None:
        live.rev += 1
        self.changes.wake()

    def rev(self, live: LiveJob) -> int:
        return live.rev + self.hold.rev

    @property
    def backlog(self) -> bool:
        """Whether something waits for a disk that refused it."""
        return any(live.unsaved or live.ending for live in self.jobs.values())

    # ---- recording

    def take_up(self, job: Job) -> None:
        """A job that is on disk joins the queue."""
        with self.changes.recording:
            left = set(range(job.request.count)) - {picture.index for picture in job.pictures}
            with self.changes.lock:
                live = self.jobs[job.id] = LiveJob(job, left)
                if left:
                    checkpoint = job.request.checkpoint or ""
                    self.dispatcher.add(job.id, job.user, sorted(left), suspect=job.attempts > 0, checkpoint=checkpoint)
            if not left:
                self.conclude(live, "done")

    def end(self, live: LiveJob, state: Outcome, error: str = "") -> None:
        """Close a job's record and take its images back from workers.

        Raises:
            QueueError: the record cannot be written; nothing has changed.
        """
        with self.changes.recording:
            self.store.finish(live.job.id, state, error)
            with self.changes.lock:
                self.forget(live)

    def conclude(self, live: LiveJob, state: Outcome, error: str = "") -> None:
        """`end` for what is over whatever the disk says; what cannot be recorded now is recorded later."""
        try:
            self.end(live, state, error)
        except QueueError as problem:
            with self.changes.lock:
                live.ending = (state, error)
                self._take_back(live)
                self.hold.begin(str(problem))

    def forget(self, live: LiveJob) -> None:
        """A job whose end is recorded leaves memory, and its images their workers.  Under the lock."""
        self.jobs.pop(live.job.id, None)
        self._take_back(live)
        self.changes.wake()

    def _take_back(self, live: LiveJob) -> None:
        for task in self.dispatcher.remove(live.job.id):
            self.workers.of(task).cancel(task)
