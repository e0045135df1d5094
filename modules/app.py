"""The façade that the tabs, the API and the command line share: submit, cancel, look, fetch.

The App is the workshop as its users see it: every method is one user's question or wish.  It knows neither HTTP nor tensors,
and never imports torch.  All methods may be called from any thread and return at once, except `events`, `start` and `close`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from modules.catalogue import weights_of
from modules.checkpoints.companions import EmbeddingInfo
from modules.checkpoints.files import CheckpointInfo
from modules.dispatch import SLOTS, Flight
from modules.engine.messages import Message
from modules.errors import EngineError, LimitError, RequestError
from modules.estimates import Quote, quote, steps_of
from modules.images.sources import Source
from modules.prompts.check import PromptCheck
from modules.queue.records import Job, Picture
from modules.request import GenerationRequest
from modules.views import EngineState, JobView, Load, PictureView, Preview, QueueView
from modules.workshop import Workshop

T = TypeVar("T")

MAX_KEY = 200
"""Characters of a submitter's own name for a job."""


class App(Workshop):
    """One studio.  Built from settings, and where needed from another link, outputs folder or an in-memory job list."""

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, on any thread, whenever a job or the engine changed; it must be quick and not raise.

        Returns how to end that.
        """
        with self._changed:
            self._listeners.append(listener)

        def end() -> None:
            with self._changed:
                self._listeners.remove(listener)

        return end

    @property
    def notice(self) -> str:
        """What everybody should know about this start, "" when all is well."""
        return self.store.notice

    def engine(self) -> EngineState:
        """The engine's state; its message also says why nothing is begun."""
        if self._held and self._engine.state == "ready":
            return replace(self._engine, message=f"Nothing is begun: {self._held}")
        return self._engine

    # ---- models

    def checkpoints(self) -> list[CheckpointInfo]:
        """All files in the models folders, usable ones first; the others say what their problem is."""
        return self.catalogue.checkpoints()

    def checkpoint(self, name: str | None) -> CheckpointInfo:
        """See `Catalogue.checkpoint`."""
        return self.catalogue.checkpoint(name)

    def default_checkpoint(self) -> CheckpointInfo | None:
        """See `Catalogue.default_checkpoint`."""
        return self.catalogue.default_checkpoint()

    def complete(self, fields: dict[str, Any]) -> GenerationRequest:
        """See `Catalogue.complete`."""
        return self.catalogue.complete(fields)

    def embeddings(self) -> list[EmbeddingInfo]:
        """See `Catalogue.embeddings`."""
        return self.catalogue.embeddings()

    def loras(self) -> list[str]:
        """See `Catalogue.loras`."""
        return self.catalogue.loras()

    def check_prompt(self, fields: dict[str, Any]) -> PromptCheck:
        """See `Catalogue.check_prompt`."""
        return self.catalogue.check_prompt(fields)

    def quote(self, fields: dict[str, Any]) -> Quote:
        """What a request with these fields would cost; reads a file's header.  Other fields than `COST_FIELDS` are ignored.

        Raises:
            RequestError: a field makes no sense.
        """
        request, info = self.catalogue.to_quote(fields)
        weights = weights_of(info, self.engine().dtype.partition(" ")[0])
        with self._changed:
            return quote(self._costs, request, self._resident, SLOTS, (info.defaults.width, info.defaults.height), weights)

    def unload(self) -> None:
        """Have the engine let go of its models; what is painted now keeps its own until it is done."""
        self.link.send(Message("unload"))

    def preload(self) -> None:
        """Have the engine bring the default checkpoint in before anybody asks for it."""
        default = self.default_checkpoint()
        if default is not None:
            self.link.send(Message("load", {"checkpoint": default.name}))

    # ---- one's own pictures to start from

    def keep_source(self, data: bytes, user: str) -> Source:
        """Keep a picture file (PNG, JPEG, WebP or AVIF) for requests to start from; they name it by its id.

        Raises:
            RequestError: it is no picture, too large or damaged.
            LimitError: pictures of unfinished jobs fill the place.
            OutputError: it could not be written.
        """
        return self.sourcing.sources.keep(data, user)

    def source(self, source: str, user: str) -> Path | None:
        """The PNG of one's own picture; None when it is not here (any more)."""
        return self.sourcing.path(source, user)

    # ---- one's own jobs

    def submit(self, fields: dict[str, Any], user: str, key: str = "", exact: bool = False) -> JobView:
        """Accept a job.  When this returns, the job is on disk and survives anything.

        With a "source" among the fields it is a picture from that picture, which this user kept before (`keep_source`).
        `key` is the submitter's own name for it: the same key again is the same job, whatever became of the first answer.
        With `exact`, the same key with other fields is refused.

        Raises:
            RequestError: a field makes no sense, or the key was used for something else.
            QueueError: the job list cannot be written; nothing is started.
            LimitError: too many jobs wait already; says in how many seconds to try again.
            OutputError: pictures could not be saved; nothing is started.
            EngineError: the studio is closing.
        """
        if self._closing:
            raise EngineError("the studio is closing; submit again when it is back")
        if len(key) > MAX_KEY:
            raise RequestError(f"the job's key has {len(key)} characters; {MAX_KEY} is the most")
        sent = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest() if key else ""
        if key and (there := self.store.with_key(key, user)) is not None:
            return self._view(_repeated(there, sent, exact))
        best = self.checkpoint(fields.get("checkpoint")).defaults
        request = self.complete(self.sourcing.sized(fields, user, (best.width, best.height)))
        self.sourcing.check(request, user)
        self.outputs.check_writable()
        with self._accepting:
            job, new = self._within_limits(lambda: self.store.accept(request, user, key, sent), user)
            if new:
                self._enliven(job)
        if new:
            self._take_up()
        return self._view(job if new else _repeated(job, sent, exact))

    def retry(self, job_id: str, user: str) -> bool:
        """Try one's own failed or cancelled job again, for the pictures that it lacks.  False when it is no such job.

        Raises:
            LimitError, OutputError, EngineError: as for `submit`.
            RequestError: the picture that it starts from is gone.
        """
        if self._closing:
            raise EngineError("the studio is closing; try again when it is back")
        if (ended := self.store.get(job_id, user)) is not None and ended.over:
            self.sourcing.check(ended.request, user)
        self.outputs.check_writable()
        with self._accepting:
            job = self._within_limits(lambda: self.store.retry(job_id, user), user)
            if job is not None:
                self._enliven(job)
        if job is not None:
            self._take_up()
        return job is not None

    def remove(self, job_id: str, user: str) -> bool:
        """Forget one's own job that is over; its pictures stay on disk.  False when it is no such job."""
        return self.store.remove(job_id, user)

    def delete(self, job_id: str, user: str, index: int | None = None) -> bool:
        """Delete one's own job that is over with its pictures' files, or one picture of it.  False when it is no such thing.

        Files go first: what is stopped in between is seen as a picture whose file is gone, and can be deleted again.  Pictures
        that it was made from stay, as others may have been made from them.

        Raises:
            OutputError: a file cannot be removed; nothing is forgotten of it then.
        """
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

    def move(self, job_id: str, user: str, to: int) -> bool:
        """Put one's own unfinished job to place `to` (from 0) among one's own.  False when it is no such job."""
        with self._changed:
            order = self.store.move(job_id, user, to)
            if order is None:
                return False
            self._dispatcher.arrange(order)
            self._forecast_at = float("-inf")
            self._wake()
        return True

    def pause(self, user: str, paused: bool) -> None:
        """Begin nothing more of this user, or go on.  What was begun is finished; what waits with the engine comes back."""
        with self._changed:
            self.store.pause(user, paused)
            (self._paused.add if paused else self._paused.discard)(user)
            for flight in self._dispatcher.pause(user, paused):
                if paused and flight.index not in self._live[flight.job].stages:
                    self._dispatcher.recall(flight)
                    self.link.send(Message("cancel", {"task": flight.task}))
            for live in self._live.values():
                if live.job.user == user:
                    live.rev += 1
            self._forecast_at = float("-inf")
            self._wake()
        self._dispatch()

    def cancel(self, job_id: str, user: str) -> bool:
        """Stop a job of this user; finished pictures stay.  False when there is no such job under way.

        Raises:
            QueueError: it cannot be recorded now; the job goes on.
        """
        with self._changed:
            live = self._live.get(job_id)
            if live is None or live.job.user != user:
                return False
            self._end(live, "cancelled")
        self._dispatch()
        return True

    def skip(self, job_id: str, user: str) -> bool:
        """Finish the picture of one's own job that is painted now with the step that runs, and go on with the others.

        The unfinished picture is kept like any other, with a note.  Of several with the engine it is the one nearest its end.
        False when none is.
        """
        with self._changed:
            live = self._live.get(job_id)
            flying = self._unfinished_flights(job_id)
            if live is None or live.job.user != user or not flying:
                return False
            self._finish(max(flying, key=lambda flight: live.stages.get(flight.index, (0, 1))[0]))
        return True

    def interrupt(self, job_id: str, user: str) -> bool:
        """Finish all pictures of one's own job that are painted now with the step that runs, and begin no others.

        A job of which nothing is painted yet is cancelled.  False when there is no such job under way.

        Raises:
            QueueError: it cannot be recorded now; the job goes on.
        """
        with self._changed:
            live = self._live.get(job_id)
            if live is None or live.job.user != user:
                return False
            flying = [flight for flight in self._dispatcher.flying() if flight.job == job_id]
            if flying or live.unsaved:
                live.left -= set(self._dispatcher.drop_waiting(job_id))
                for flight in self._unfinished_flights(job_id):
                    self._finish(flight)
                self._touch(live)
                return True
        return self.cancel(job_id, user)

    def _unfinished_flights(self, job_id: str) -> list[Flight]:
        """The images of a job that are with the engine and not about to be finished.  Under the lock."""
        live = self._live.get(job_id)
        finishing = live.finishing if live is not None else set()
        return [flight for flight in self._dispatcher.flying() if flight.job == job_id and flight.index not in finishing]

    def _finish(self, flight: Flight) -> None:
        self._live[flight.job].finishing.add(flight.index)
        self.link.send(Message("finish", {"task": flight.task}))

    # ---- looking

    def unfinished(self, job_id: str) -> bool:
        """Whether a job is not over.  Asks memory alone, so that many may wait for theirs."""
        with self._changed:
            return job_id in self._live

    def job(self, job_id: str, user: str) -> JobView | None:
        job = self.store.get(job_id, user)
        return self._view(job) if job is not None else None

    def jobs(self, user: str, limit: int = 50, before: str = "", words: str = "") -> list[JobView]:
        """This user's jobs, newest first; older ones than `before`, where a job of theirs is named, and with all `words` in
        their prompts."""
        return [self._view(job) for job in self.store.list_for(user, limit, before, words)]

    def queue(self, user: str) -> QueueView:
        """This user's unfinished jobs in the order in which they are made, and how much others have."""
        with self._changed:
            order = self._dispatcher.jobs()
            mine = [self._live[job].job.id for job, owner in order if owner == user and job in self._live]
            theirs = [self._live[job] for job, owner in order if owner != user and job in self._live]
            needs = self._estimated().needs
            seconds = sum(needs.get(live.job.id, math.inf) for live in theirs)
            others = Load(
                users=len({live.job.user for live in theirs}),
                jobs=len(theirs),
                pictures=sum(len(live.left) for live in theirs),
                seconds=None if math.isinf(seconds) else seconds,
            )
        views = [self._view(job) for job in self.store.get_all(mine)]
        return QueueView(
            jobs=tuple(view for view in views if not view.over),
            paused=user in self._paused,
            others=others,
            per_user=self.settings.jobs_per_user,
            total=self.settings.jobs_in_total,
        )

    def picture(self, job_id: str, index: int, user: str) -> PictureView | None:
        view = self.job(job_id, user)
        return next((p for p in view.pictures if p.index == index), None) if view else None

    def preview(self, job_id: str, user: str) -> Preview | None:
        """The newest preview; asking for it keeps previews being made for a few seconds."""
        with self._changed:
            live = self._live.get(job_id)
            if live is None or live.job.user != user:
                return None
            live.looked_at = time.monotonic()
        self._watch()
        return live.preview

    def events(self, job_id: str, user: str) -> Iterator[JobView]:
        """Views of a job as it changes, ending with the one in which it is over.  Blocks between them."""
        rev = 0
        while (view := self.job(job_id, user)) is not None:
            if view.rev != rev or view.over:
                rev = view.rev
                yield view
            if view.over:
                return
            with self._changed:
                live = self._live.get(job_id)
                if self._closing:
                    raise EngineError("the studio is closing; the job stays in the queue")
                if live is not None and live.rev == rev:
                    self._changed.wait(timeout=1.0)

    # ---- inside

    def _within_limits(self, accept: Callable[[], T], user: str) -> T:
        """Do `accept`; a refusal says when there may be a place."""
        try:
            return accept()
        except LimitError as refusal:
            with self._changed:
                ends = self._estimated().ends
                mine = [ends.get(live.job.id, math.inf) for live in self._live.values() if live.job.user == user]
            full = len(mine) >= self.settings.jobs_per_user
            soonest = min(mine if full else ends.values(), default=math.inf)
            if not math.isinf(soonest):
                refusal.retry_after = min(3600.0, max(1.0, soonest))
            raise

    def _view(self, job: Job) -> JobView:
        with self._changed:
            live = self._live.get(job.id)
            stages = list(live.stages.values()) if live else []
            ends = self._estimated().ends if live else {}
            position = self._dispatcher.positions().get(job.id, 0) if live else 0
            paused = live is not None and job.user in self._paused
            held = self._held if live else ""
        count, done = job.request.count, len(job.pictures)
        step, steps = max(stages, default=(0, steps_of(job.request)))
        progress = (done + sum(s / max(1, n) for s, n in stages)) / count if live else float(job.state == "done")
        eta = ends.get(job.id, math.inf)
        return JobView(
            id=job.id,
            state=job.state,
            position=position,
            count=count,
            done=done,
            step=step,
            steps=steps,
            progress=min(1.0, progress),
            eta_s=None if math.isinf(eta) else eta,
            rev=live.rev if live else 0,
            error=job.error,
            created=job.created,
            request=job.request,
            pictures=tuple(self._picture(picture) for picture in job.pictures),
            paused=paused,
            held=held,
        )

    def _picture(self, picture: Picture) -> PictureView:
        path = self.outputs.folder / picture.path
        return PictureView(picture.index, path.name, path, picture.infotext, picture.seed, picture.width, picture.height)


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
