"""The sender: begins images.  Takes them from the dispatcher, records that their jobs run, finishes their prompts and hands
them, with the pictures that they start from, to their workers; and tells workers which of them are looked at."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from PIL import Image

from modules.engine.messages import Submit
from modules.errors import AtelierError, QueueError
from modules.jobs.dispatch import ImageTask
from modules.jobs.input_images import InputImages, named
from modules.jobs.live import LiveJob, LiveJobs
from modules.prompts.library import Finished, Library
from modules.queue.store import NotQueued

log = logging.getLogger("atelier")

WATCH_SECONDS = 3.0
"""A job counts as looked at for this long after its preview was asked for."""

AHEAD = 2
"""Checkpoints of jobs to come that workers are told of."""


class Sender:
    """See the module.

    Args:
        live: the jobs.
        library: finishes prompts with styles and wildcards.
        input_images: reads the pictures that jobs start from.
    """

    def __init__(self, live: LiveJobs, library: Library, input_images: InputImages) -> None:
        self.live, self._changes, self._hold = live, live.changes, live.hold
        self._workers, self._library, self._input_images = live.workers, library, input_images
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-input")

    def close(self) -> None:
        self._readers.shutdown(wait=True, cancel_futures=True)

    def settle(self, timeout: float | None = None) -> None:
        """Wait until pictures are read and messages handed over, of all that was begun by now."""
        self._readers.submit(lambda: None).result(timeout)
        self._workers.settle(timeout)

    def dispatch(self) -> None:
        """Begin what there are places for."""
        while self._begin_some():
            pass
        with self._changes.lock:
            self.watch()
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Have workers read the checkpoints that jobs to come need.  Under the lock."""
        upcoming = self.live.dispatcher.upcoming()[:AHEAD]
        for worker in self._workers.ready():
            worker.look_ahead(upcoming)

    def watch(self) -> None:
        """Have previews made: of each job that is looked at, of the image that was nearest its end when looking began.

        It stays that one until it is over: images of a job take turns, and whichever is ahead now has its next step last.
        Under the lock.
        """
        now = time.monotonic()
        watched = set[str]().union(*(worker.watched for worker in self._workers.all))
        wanted: dict[str, set[str]] = {worker.name: set() for worker in self._workers.all}
        for live in self.live.jobs.values():
            tasks = self.live.dispatcher.in_flight(live.job.id) if now - live.looked_at < WATCH_SECONDS else []
            if tasks:
                ahead = max(tasks, key=lambda task: (task.id in watched, live.steps_done(task.index)))
                wanted[ahead.worker].add(ahead.id)
        for worker in self._workers.all:
            worker.watch(wanted[worker.name])

    # ---- inside

    def _begin_some(self) -> bool:
        """One round of `dispatch`.  True when a job failed in it, so that there are places again."""
        with self._changes.recording:
            if self._changes.closing or not self._hold.may_begin():
                return False
            with self._changes.lock:
                ready = {worker.name: worker.resident for worker in self._workers.ready()}
                tasks = self.live.dispatcher.take(ready, ready)
            failed = False
            for number, task in enumerate(tasks):
                live = self.live.jobs.get(task.job)
                if live is None or live.ending:  # another image of it just failed
                    continue
                try:
                    self._begin(live, task)
                except NotQueued as error:
                    problem = str(error)
                except QueueError as error:  # taken and not begun: they wait again, in their order
                    with self._changes.lock:
                        for back in reversed(tasks[number:]):
                            self.live.dispatcher.recall(back)
                        self._hold.begin(str(error))
                    return False
                except AtelierError as error:  # styles and wildcards may have changed since it was accepted
                    problem = str(error)
                except Exception as error:
                    log.exception("while beginning a picture")
                    problem = f"the picture could not be begun: {error}"
                else:
                    continue
                self.live.conclude(live, "failed", problem)
                failed = True
            return failed

    def _begin(self, live: LiveJob, task: ImageTask) -> None:
        """Send one image to its worker, and record that its job runs: the engine need not wait for that.

        Raises:
            QueueError: the job list cannot be written; the image was taken back from the worker.
            AtelierError: its prompts cannot be finished.
        """
        finished = self._library.finish(live.job.request.image(task.index))
        message = None if named(finished.request) else _submit(live, task, finished)
        with self._changes.lock:
            live.words[task.index] = finished
            if message is None:
                self._readers.submit(self._send_with_pictures, live, task, finished)
            else:
                self._send(live, task, message)
        if live.job.state != "queued":
            return
        try:
            running = self.live.store.mark_running(task.job)
        except QueueError:
            with self._changes.lock:
                live.words.pop(task.index, None)
                self._workers.of(task).cancel(task)
            raise
        with self._changes.lock:
            live.job = running
            self.live.touch(live)

    def _send(self, live: LiveJob, task: ImageTask, message: Submit) -> None:
        """Under the lock.  An image that is to be finished at once may be sent anew, after an engine's death for example."""
        worker = self._workers.of(task)
        worker.send(message)
        if task.index in live.finishing:
            worker.finish(task)

    def _send_with_pictures(self, live: LiveJob, task: ImageTask, finished: Finished) -> None:
        """On the reader's thread, because decoding and packing large pictures takes a while."""
        error, message = "", None
        try:
            message = _submit(live, task, finished, self._input_images.read(finished.request, live.job.user))
        except AtelierError as problem:
            error = str(problem)
        except Exception as problem:
            log.exception("while reading the init image of a picture")
            error = f"the picture to start from could not be read: {problem}"
        with self._changes.recording:
            with self._changes.lock:
                # Meanwhile it may have been cancelled, recalled or even sent anew, and the engine may have died
                same = self.live.jobs.get(task.job) is live and live.words.get(task.index) is finished
                if not same or self.live.dispatcher.worker_of(task.job, task.index) != task.worker:
                    return
                if message is not None:
                    self._send(live, task, message)
            if message is None:
                self.live.conclude(live, "failed", error)
        if message is None:
            self.dispatch()


def _submit(
    live: LiveJob, task: ImageTask, finished: Finished, pictures: Mapping[str, Image.Image] = MappingProxyType({})
) -> Submit:
    """The message that begins an image."""
    return Submit.of(task.id, live.job.user, finished.request.model_dump(), pictures)
