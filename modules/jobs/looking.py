"""Jobs as their owners see them: views of jobs and of the queue, made from memory and the job list; and their estimates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from modules.errors import EngineError
from modules.images.outputs import Outputs
from modules.jobs.dispatch import SLOTS
from modules.jobs.estimates import Forecast, Pending, forecast
from modules.jobs.live import LiveJobs
from modules.jobs.progress import not_begun
from modules.jobs.sender import Sender
from modules.jobs.views import JobView, Load, PictureView, Preview, QueueView
from modules.queue.records import Job, Picture

ESTIMATE_SECONDS = 0.5
"""Estimates are worked out at most once in this time, for everybody."""


class Forecasts:
    """When unfinished jobs end; of those that are paused, or while no worker is ready, nothing is known."""

    def __init__(self, live: LiveJobs) -> None:
        self._live = live
        self._forecast, self._at = Forecast(), float("-inf")

    def now(self) -> Forecast:
        """Under the lock."""
        now = time.monotonic()
        if now - self._at >= ESTIMATE_SECONDS:
            ready, pending = self._live.workers.ready(), []
            for job_id, user in self._live.dispatcher.jobs() if ready else ():
                live = self._live.jobs[job_id]
                begun = sum(each.share for index, each in live.progress.items() if index in live.left)
                if user not in self._live.paused:
                    pending.append(Pending(job_id, user, live.job.request, len(live.left), begun))
            self._forecast, self._at = forecast([worker.known for worker in ready], pending, SLOTS), now
        return self._forecast

    def expire(self) -> None:
        """The queue is another one now."""
        self._at = float("-inf")


class Looking:
    """What may be asked of jobs.

    Args:
        live: the jobs that are not over; its job list has all of them.
        forecasts: their estimates.
        outputs: where pictures are.
        sender: told which jobs are looked at.
        per_user, total: how many unfinished jobs there may be.
    """

    def __init__(
        self, live: LiveJobs, forecasts: Forecasts, outputs: Outputs, sender: Sender, per_user: int, total: int
    ) -> None:
        self.live, self._changes, self._forecasts = live, live.changes, forecasts
        self._outputs, self._sender, self._per_user, self._total = outputs, sender, per_user, total

    def limit(self, per_user: int, total: int) -> None:
        """Other limits from now on, as in the constructor."""
        self._per_user, self._total = per_user, total

    def unfinished(self, job_id: str) -> bool:
        with self._changes.lock:
            return job_id in self.live.jobs

    def job(self, job_id: str, user: str) -> JobView | None:
        job = self.live.store.get(job_id, user)
        return self.view(job) if job is not None else None

    def jobs(self, user: str, limit: int, before: str, words: str) -> list[JobView]:
        return [self.view(job) for job in self.live.store.list_for(user, limit, before, words)]

    def queue(self, user: str) -> QueueView:
        with self._changes.lock:
            order = self.live.dispatcher.jobs()
            mine = [job for job, owner in order if owner == user and job in self.live.jobs]
            theirs = [self.live.jobs[job] for job, owner in order if owner != user and job in self.live.jobs]
            needs = self._forecasts.now().needs
            seconds = sum(needs.get(live.job.id, math.inf) for live in theirs)
            others = Load(
                users=len({live.job.user for live in theirs}),
                jobs=len(theirs),
                pictures=sum(len(live.left) for live in theirs),
                seconds=None if math.isinf(seconds) else seconds,
            )
        views = [self.view(job) for job in self.live.store.get_all(mine)]
        return QueueView(
            jobs=tuple(view for view in views if not view.over),
            paused=user in self.live.paused,
            others=others,
            per_user=self._per_user,
            total=self._total,
        )

    def preview(self, job_id: str, user: str) -> Preview | None:
        with self._changes.lock:
            live = self.live.get(job_id, user)
            if live is None:
                return None
            live.looked_at = time.monotonic()
            self._sender.watch()
            return live.preview

    def events(self, job_id: str, user: str) -> Iterator[JobView]:
        rev = 0
        while (view := self.job(job_id, user)) is not None:
            if view.rev != rev or view.over:
                rev = view.rev
                yield view
            if view.over:
                return
            with self._changes.lock:
                live = self.live.jobs.get(job_id)
                if self._changes.closing:
                    raise EngineError("the server is closing; the job stays in the queue")
                if live is not None and self.live.rev(live) == rev:
                    self._changes.lock.wait(timeout=1.0)

    def view(self, job: Job) -> JobView:
        if job.over and job.id in self.live.jobs:  # recorded just now: let memory catch up, so that the two agree
            with self._changes.recording:
                pass
        with self._changes.lock:
            live = self.live.jobs.get(job.id)
            rev = self.live.rev(live) if live else 0
            images = list(live.progress.values()) if live else []
            ends = self._forecasts.now().ends if live else {}
            position = self.live.dispatcher.positions().get(job.id, 0) if live else 0
            paused = live is not None and job.user in self.live.paused
            held = self.live.hold.reason if live else ""
            skipping, interrupted = (bool(live.skipping), live.interrupted) if live else (False, False)
            doing = self.live.workers.doing(self.live.dispatcher.in_flight(job.id)) if live else ""
        count, done = job.request.count, len(job.pictures)
        furthest = max(images, key=lambda image: image.step, default=not_begun(job.request))
        progress = (done + sum(image.share for image in images)) / count if live else float(job.state == "done")
        eta = ends.get(job.id, math.inf)
        return JobView(
            id=job.id,
            state=job.state,
            position=position,
            count=count,
            done=done,
            step=furthest.step,
            steps=furthest.steps,
            stage=furthest.stage,
            stages=furthest.stages,
            stage_step=furthest.stage_step,
            stage_steps=furthest.stage_steps,
            progress=min(1.0, progress),
            eta_s=None if math.isinf(eta) else eta,
            rev=rev,
            error=job.error,
            created=job.created,
            request=job.request,
            pictures=tuple(self._picture(picture) for picture in job.pictures),
            doing=doing,
            paused=paused,
            skipping=skipping,
            interrupted=interrupted,
            held=held,
        )

    def _picture(self, picture: Picture) -> PictureView:
        path = self._outputs.folder / picture.path
        return PictureView(picture.index, path.name, path, picture.infotext, picture.seed, picture.width, picture.height)
