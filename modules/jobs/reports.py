"""What engines report about jobs: progress, previews, finished and failed images, and their own deaths."""

from __future__ import annotations

import io
import logging
from pathlib import Path

from PIL import Image

from modules.catalogue import Catalogue
from modules.engine.extensions import used
from modules.engine.messages import Done, ExtensionLoaded, ExtensionRaised, ExtensionRefused, Failed, PreviewImage, Progress
from modules.errors import QueueError
from modules.extensions.service import Extensions
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

    def __init__(
        self, live: LiveJobs, sender: Sender, saver: Saver, catalogue: Catalogue, extensions: Extensions, data_dir: Path
    ) -> None:
        self.extensions, self._data_dir = extensions, data_dir
        self.live, self._changes, self._workers = live, live.changes, live.workers
        self._sender, self._saver, self._catalogue = sender, saver, catalogue

    def ready(self, worker: Worker) -> None:
        default = self._catalogue.default_checkpoint()
        if not self.live.jobs and default is not None:
            worker.load(default.name)
        self._sender.dispatch()

    def died(self, worker: Worker, cause: str, asked: bool) -> None:
        """What was in flight there is begun again, elsewhere or after its restart; what killed it alone is given up.

        An engine that was to end blames nobody; and where an extension is suspended for it, jobs are tried again without that.
        """
        in_use = used(self._data_dir, int(worker.name))
        if asked:
            self._taken_back(worker)
            return
        suspended = self.extensions.engine_died(in_use, cause)
        with self._changes.recording:
            with self._changes.lock:
                lost = self.live.dispatcher.lost(worker.name, excused=bool(suspended))
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

    def _taken_back(self, worker: Worker) -> None:
        """What was in flight with a worker waits again, in its order."""
        with self._changes.lock:
            for task in reversed([task for task in self.live.dispatcher.in_flight() if task.worker == worker.name]):
                self.live.dispatcher.recall(task)
                if live := self.live.jobs.get(task.job):
                    live.progress.pop(task.index, None)
                    self.live.touch(live)
            self._changes.wake()
        self._sender.dispatch()

    def extension(self, worker: Worker, said: ExtensionLoaded | ExtensionRefused | ExtensionRaised) -> None:
        match said:
            case ExtensionLoaded(name, hooks):
                self.extensions.engine_loaded(name, hooks)
            case ExtensionRefused(name, reason, hung):
                self.extensions.engine_refused(name, reason, hung)
            case ExtensionRaised(name, hook, error):
                self.extensions.engine_failed(name, hook, error)

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
        if done.extensions:
            self.extensions.did_well(done.extensions)

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
