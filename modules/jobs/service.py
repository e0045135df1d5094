"""The job service: accepts jobs, lets their owners order, pause, cancel and retry them, and puts together who carries them out.

JobService ── Looking     views of jobs, estimates
    ├── LiveJobs          the jobs that are not over, with the job list; Dispatcher: which image next, and where
    ├── Sender            begins images           ─→ Worker (engine, outbox), Worker, ...
    ├── Reports           what engines say        ←─
    └── Saver, Hold       finished pictures to disk, and what happens while it refuses
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from modules.catalogue import Catalogue, enlarging_factor
from modules.engine.extensions import sweep, used
from modules.engine.link import EngineLink
from modules.errors import EngineError, LimitError, RequestError
from modules.extensions.service import Extensions
from modules.images.outputs import Outputs
from modules.jobs.changes import Changes
from modules.jobs.dispatch import ImageTask
from modules.jobs.hold import Hold
from modules.jobs.input_images import InputImages
from modules.jobs.live import LiveJobs
from modules.jobs.looking import Forecasts, Looking
from modules.jobs.naming import facts_of
from modules.jobs.reports import Reports
from modules.jobs.saver import Saver
from modules.jobs.sender import Sender
from modules.jobs.views import EngineState, JobView
from modules.jobs.worker import Worker, Workers
from modules.prompts.library import Library
from modules.queue.records import Job
from modules.queue.store import JobStore
from modules.request import GenerationRequest, Upscaling
from modules.settings import Settings

T = TypeVar("T")

MAX_KEY = 200
"""Characters of a submitter's own name for a job."""


class JobService:
    """Jobs, and the workers that paint them.  `modules.app.App` documents what its users may ask.

    Args:
        settings: limits.
        links: how to reach engines; each becomes a worker.
        store, outputs, input_images, library, catalogue: the job list, and where things come from and go.
        durable: hold jobs while a disk refuses their pictures; otherwise they fail.
        kept: see `Saver`.
        extensions: hear what engines say of them; none unless given.
    """

    def __init__(
        self,
        settings: Settings,
        links: Sequence[EngineLink],
        store: JobStore,
        outputs: Outputs,
        input_images: InputImages,
        library: Library,
        catalogue: Catalogue,
        durable: bool,
        kept: Callable[[str, str], None] = lambda path, user: None,
        extensions: Extensions | None = None,
    ) -> None:
        extensions = extensions or Extensions((), settings.data_dir, packages=False)
        self.settings, self.store, self.outputs, self.input_images, self.catalogue = (
            settings,
            store,
            outputs,
            input_images,
            catalogue,
        )
        self.changes = Changes()
        self.workers = Workers(
            [
                Worker(str(number), link, store, self.changes, f"worker {number + 1}: " if len(links) > 1 else "")
                for number, link in enumerate(links)
            ]
        )
        self.hold = Hold(self.changes, outputs, store, self._look_again, self._save_backlog)
        self.live = LiveJobs(store, self.changes, self.workers, self.hold)
        self.forecasts = Forecasts(self.live)
        self.sender = Sender(self.live, library, input_images)
        self.saver = Saver(self.live, outputs, input_images, durable, self.sender.dispatch, kept)
        self.reports = Reports(self.live, self.sender, self.saver, catalogue, extensions, settings.data_dir)
        self.looking = Looking(self.live, self.forecasts, outputs, self.sender, settings.jobs_per_user, settings.jobs_in_total)

    def start(self) -> None:
        """Take up the jobs that an earlier run left, and start the engines."""
        sweep(self.settings.data_dir)
        for job in self.store.recover():
            self.live.take_up(self._adopt(job))
        self.hold.watch()
        for worker in self.workers.all:
            worker.start(self.reports)

    def close(self) -> None:
        """Stop the engines.  Unfinished jobs stay in the list; what is finished by now is still saved."""
        with self.changes.lock:
            again, self.changes.closing = self.changes.closing, True
            self.changes.wake()
        self.hold.close()
        with ThreadPoolExecutor(max_workers=len(self.workers.all), thread_name_prefix="close-worker") as together:
            list(together.map(Worker.close, self.workers.all))  # each may take seconds to stop
        for number in range(len(self.workers.all)):
            used(self.settings.data_dir, number)  # its file goes with the engine
        self.sender.close()
        self.saver.close(last_try=not again)

    def settle(self, timeout: float | None = None) -> None:
        """Wait until what was done by now has had its effect: pictures saved, uploads read, messages handed over."""
        self.saver.settle(timeout)
        self.sender.settle(timeout)

    # ---- accepting

    def prepared(self, fields: dict[str, Any], user: str) -> GenerationRequest:
        """The request that these fields are.

        Raises:
            RequestError: they make no sense, or a picture that it starts from is not here.
        """
        if "upscaler_1" not in fields:
            info = self.catalogue.checkpoint(fields.get("checkpoint"))
            best = info.defaults
            fields = self.input_images.sized(fields, user, (best.width, best.height), enlarging_factor(info))
        request = self.catalogue.complete(fields)
        self.input_images.check(request, user)
        return request

    def submit(self, fields: dict[str, Any], user: str, key: str, exact: bool) -> JobView:
        self._check_open("submit")
        if len(key) > MAX_KEY:
            raise RequestError(f"the job's key has {len(key)} characters; {MAX_KEY} is the most")
        sent = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest() if key else ""
        if key and (there := self.store.with_key(key, user)) is not None:
            with self.changes.recording:  # if it is being accepted just now, it has its place in memory afterwards
                return self.looking.view(_repeated(there, sent, exact))
        request = self.prepared(fields, user)
        self.outputs.check_writable()
        with self.changes.recording:  # of several submitters with one key, all find the job in its place
            job, new = self._within_limits(lambda: self.store.accept(request, user, key, sent), user)
            if new:
                self.live.take_up(job)
        if new:
            self._taken_up()
        return self.looking.view(job if new else _repeated(job, sent, exact))

    def retry(self, job_id: str, user: str) -> bool:
        self._check_open("try")
        if (ended := self.store.get(job_id, user)) is not None and ended.over:
            self.input_images.check(ended.request, user)
        self.outputs.check_writable()
        with self.changes.recording:
            job = self._within_limits(lambda: self.store.retry(job_id, user), user)
            if job is not None:
                self.live.take_up(job)
        if job is not None:
            self._taken_up()
        return job is not None

    # ---- what is over

    def delete(self, job_id: str, user: str, index: int | None) -> bool:
        job = self.store.get(job_id, user)
        if job is None or not job.over:
            return False
        if index is None:
            for picture in job.pictures:
                self.outputs.delete(picture.path)
            return self.store.remove(job_id, user)
        if (one := next((picture for picture in job.pictures if picture.index == index), None)) is None:
            return False
        self.outputs.delete(one.path)
        return self.store.forget_picture(job_id, index, user)

    # ---- order

    def move(self, job_id: str, user: str, to: int) -> bool:
        with self.changes.recording:
            order = self.store.move(job_id, user, to)
            if order is None:
                return False
            with self.changes.lock:
                self.live.dispatcher.arrange(order)
                self.forecasts.expire()
                self.changes.wake()
        return True

    def pause(self, user: str, paused: bool) -> None:
        with self.changes.recording:
            self.store.pause(user, paused)
            with self.changes.lock:
                (self.live.paused.add if paused else self.live.paused.discard)(user)
                for task in self.live.dispatcher.pause(user, paused):
                    if paused and task.index not in self.live.jobs[task.job].progress:
                        self.live.dispatcher.recall(task)
                        self.workers.of(task).cancel(task)
                for live in self.live.jobs.values():
                    if live.job.user == user:
                        live.rev += 1
                self.forecasts.expire()
                self.changes.wake()
        self.sender.dispatch()

    # ---- ending

    def cancel(self, job_id: str, user: str) -> bool:
        with self.changes.recording:
            live = self.live.get(job_id, user)
            if live is None:
                return False
            self.live.end(live, "cancelled")
        self.sender.dispatch()
        return True

    def skip(self, job_id: str, user: str) -> bool:
        with self.changes.lock:
            live, tasks = self.live.get(job_id, user), self._to_finish(job_id)
            if live is None or not tasks or isinstance(live.job.request, Upscaling):
                return False
            task = max(tasks, key=lambda task: live.steps_done(task.index))
            live.skipping.add(task.index)
            self._finish(task)
            self.live.touch(live)
        return True

    def interrupt(self, job_id: str, user: str) -> bool:
        with self.changes.recording:
            with self.changes.lock:
                live = self.live.get(job_id, user)
                if live is None:
                    return False
                busy = self.live.dispatcher.busy(job_id) and not isinstance(
                    live.job.request, Upscaling
                )  # half of it is nothing
            if busy:
                self.store.interrupt(job_id)
            with self.changes.lock:
                still = busy and self.live.get(job_id, user) is live
                if still and self.live.dispatcher.busy(job_id):  # its engine may have died
                    live.interrupted = True
                    live.left -= set(self.live.dispatcher.drop_waiting(job_id))
                    for task in self._to_finish(job_id):
                        self._finish(task)
                    self.live.touch(live)
                    return True
            return self.cancel(job_id, user)

    def _to_finish(self, job_id: str) -> list[ImageTask]:
        """The images of a job that are in flight and not about to be finished.  Under the lock."""
        live = self.live.jobs.get(job_id)
        finishing = live.finishing if live is not None else set()
        return [task for task in self.live.dispatcher.in_flight(job_id) if task.index not in finishing]

    def _finish(self, task: ImageTask) -> None:
        self.live.jobs[task.job].finishing.add(task.index)
        self.workers.of(task).finish(task)

    # ---- engines

    def engine(self) -> EngineState:
        """The state of the engine that is best off; its message also says why nothing is begun."""
        with self.changes.lock:
            state, held = self.workers.state, self.hold.reason
        if held and state.state == "ready":
            return replace(state, message=f"Nothing is begun: {held}")
        return state

    def restart_engines(self, why: str) -> None:
        """Start all engines anew; what they were painting is begun again."""
        for worker in self.workers.all:
            worker.restart(why)

    def drop_extension(self, name: str) -> None:
        """Have all engines go on without an extension."""
        for worker in self.workers.all:
            worker.drop_extension(name)

    # ---- inside

    def _adopt(self, job: Job) -> Job:
        """Pictures that an earlier run saved and did not live to record are taken over, not painted again."""
        for index in set(range(job.request.count)) - {picture.index for picture in job.pictures}:
            seed = job.request.image(index).seed
            if saved := self.outputs.find(job.id, index, seed, job.created, facts_of(job, index)):
                self.store.picture_done(job.id, index, saved, seed)
        return self.store.get(job.id) or job

    def _taken_up(self) -> None:
        """A job was accepted just now, and is in its place."""
        with self.changes.lock:
            restart = list(self.workers.all) if self.workers.given_up else []
            for worker in restart:
                worker.state = EngineState("restarting", "The engine is starting again.")
            self.forecasts.expire()
            self.changes.wake()
        for worker in restart:
            worker.start(self.reports)
        self.sender.dispatch()

    def _within_limits(self, accept: Callable[[], T], user: str) -> T:
        """Do `accept`; an error says when there may be a place."""
        try:
            return accept()
        except LimitError as error:
            with self.changes.lock:
                ends = self.forecasts.now().ends
                mine = [ends.get(live.job.id, math.inf) for live in self.live.jobs.values() if live.job.user == user]
            full = len(mine) >= self.settings.jobs_per_user
            soonest = min(mine if full else ends.values(), default=math.inf)
            if not math.isinf(soonest):
                error.retry_after = min(3600.0, max(1.0, soonest))
            raise

    def _check_open(self, what: str) -> None:
        if self.changes.closing:
            raise EngineError(f"the server is closing; {what} again when it is back")

    def _look_again(self) -> None:
        self.sender.dispatch()

    def _save_backlog(self) -> bool:
        if self.live.backlog:
            self.saver.save_kept()
            return True
        return False


def _repeated(job: Job, sent: str, exact: bool) -> Job:
    """The job that was submitted under this key before.

    Raises:
        RequestError: it was submitted with other fields, and that matters.
    """
    if exact and job.sent and job.sent != sent:
        raise RequestError(
            "this Idempotency-Key was used for another request; send a new key with each new request, and the old one only to "
            "repeat the same"
        )
    return job
