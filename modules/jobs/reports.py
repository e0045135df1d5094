"""What engines report about jobs: progress, previews, finished and failed images, and their own deaths."""

from __future__ import annotations

import io
import logging

from PIL import Image

from modules.catalogue import Catalogue
from modules.engine.messages import Done, Failed, PreviewImage, Progress
from modules.errors import QueueError
from modules.jobs.dispatch import ImageTask
from modules.jobs.live import LiveJobs
from modules.jobs.progress import reported
from modules.jobs.saver import Saver
from modules.jobs.sender import Sender
from modules.jobs.views import Preview
from modules.jobs.worker import Worker

log = logging.getLogger("atelier")


class Reports:
    """The `modules.jobs.worker.EngineEvents` of all workers: each is called on the thread of that worker's link."""

    def __init__(self, live: LiveJobs, sender: Sender, saver: Saver, catalogue: Catalogue) -> None:
        self.live, self._changes, self._workers = live, live.changes, live.workers
        self._sender, self._saver, self._catalogue = sender, saver, catalogue

    def ready(self, worker: Worker) -> None:
        default = self._catalogue.default_checkpoint()
        if not self.live.jobs and default is not None:
            worker.load(default.name)
        self._sender.dispatch()

    def died(self, worker: Worker, cause: str) -> None:
        """What was in flight there is begun again, elsewhere or after its restart; what killed it alone is given up."""
        with self._changes.recording:
            with self._changes.lock:
                lost = self.live.dispatcher.lost(worker.name)
            try:
                self.live.store.engine_died([*lost.blamed, *lost.given_up])
            except QueueError as problem:  # one attempt more, and nobody is stranded for it
                log.warning("that the engine died is not recorded: %s", problem)
            with self._changes.lock:
                for job in lost.retried:
                    live = self.live.jobs[job]
                    there = {task.index for task in self.live.dispatcher.in_flight(job)}
                    live.progress = {index: each for index, each in live.progress.items() if index in there}
                    self.live.touch(live)
                self._changes.wake()
            for job in lost.given_up:
                self.live.conclude(self.live.jobs[job], "failed", f"{cause}; it was tried twice")
        self._sender.dispatch()

    def gave_up(self, worker: Worker, cause: str) -> None:
        """When no worker is left, say so on every job rather than let them wait for ever."""
        with self._changes.recording:
            if not self._workers.given_up:
                return
            for live in list(self.live.jobs.values()):
                self.live.conclude(live, "failed", f"the engine could not start: {cause}")

    def progress(self, worker: Worker, progress: Progress) -> None:
        task = ImageTask.of(progress.task)
        with self._changes.lock:
            if live := self.live.painted_by(worker.name, task):
                live.progress[task.index] = reported(live.job.request, progress)
                self.live.touch(live)

    def preview(self, worker: Worker, preview: PreviewImage) -> None:
        task, jpeg = ImageTask.of(preview.task), _jpeg(preview)
        with self._changes.lock:
            if live := self.live.painted_by(worker.name, task):
                live.preview = Preview((live.preview.rev if live.preview else 0) + 1, jpeg)
                self.live.touch(live)

    def done(self, worker: Worker, done: Done) -> None:
        """Finished, whichever worker has it by now: one that was taken back and begun elsewhere is not painted twice for it."""
        task = ImageTask.of(done.task)
        with self._changes.lock:
            live = self.live.jobs.get(task.job)
            if live is None:
                return
            now_at = self.live.dispatcher.worker_of(task.job, task.index)
            if now_at is not None and now_at != worker.name:
                self._workers[now_at].cancel(task)
            self.live.dispatcher.keep(task.job, task.index, worker.name)
            self._saver.save(live, task.index, done)

    def failed(self, worker: Worker, failed: Failed) -> None:
        if failed.trace:
            log.error("%s", failed.trace)
        with self._changes.recording:
            live = self.live.painted_by(worker.name, ImageTask.of(failed.task))
            if live is not None:
                self.live.conclude(live, "failed", failed.error)
        self._sender.dispatch()


def _jpeg(preview: PreviewImage) -> bytes:
    image = Image.frombytes("RGB", (preview.width, preview.height), preview.pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
