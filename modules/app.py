"""The façade that the tabs, the API and the command line share: submit, cancel, look, fetch.

The App decides which images go to the engine and when, keeps each job's record in the queue, and saves finished pictures.  It
knows neither HTTP nor tensors, and never imports torch.  All methods may be called from any thread and return at once, except
`events`, `start` and `close`.
"""

from __future__ import annotations

import io
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from modules import __version__
from modules.checkpoints.files import CheckpointInfo, find, scan
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import find_schedule
from modules.dispatch import Dispatcher
from modules.engine.link import EngineLink, ProcessLink
from modules.engine.messages import Message
from modules.errors import AtelierError, EngineError, RequestError
from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs
from modules.queue.records import Job, Outcome, Picture
from modules.queue.store import JobStore
from modules.request import MAX_SEED, GenerationRequest, parse_request
from modules.settings import Settings
from modules.views import EngineState, JobView, PictureView, Preview

log = logging.getLogger("atelier")

WATCH_SECONDS = 3.0
"""A job counts as looked at for this long after its preview was asked for."""


@dataclass
class _Live:
    """A job that is not over: what only memory knows of it.  `stages` is (step, steps) of each image with the engine."""

    job: Job
    left: set[int]
    stages: dict[int, tuple[int, int]] = field(default_factory=dict)
    rev: int = 1
    started: float | None = None
    preview: Preview | None = None
    looked_at: float = float("-inf")


class App:
    """One studio: a queue, a folder of outputs and an engine behind a link.

    Args:
        settings: resolved settings.
        link: how to reach an engine; None starts one as a process of its own.
        outputs: where pictures go; None takes the outputs folder of the settings.
        durable: keep the job list on disk.  One process at a time can; what runs beside a server keeps its list in memory.
    """

    def __init__(
        self, settings: Settings, link: EngineLink | None = None, outputs: Outputs | None = None, durable: bool = True
    ) -> None:
        self.settings = settings
        self.outputs = outputs or Outputs(settings.outputs_dir)
        self.store = JobStore(
            settings.data_dir / "jobs.sqlite" if durable else None,
            history=settings.history,
            per_user=settings.jobs_per_user,
            total=settings.jobs_in_total,
        )
        self.link: EngineLink = link or ProcessLink(engine_configuration(settings), settings.data_dir / "engine.log")
        self._engine = EngineState("starting", "The engine is starting.")
        self._dispatcher = Dispatcher()
        self._live: dict[str, _Live] = {}
        self._watched: set[str] = set()
        self._changed = threading.Condition()
        self._savers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._closing = False

    # ---- life

    def start(self) -> None:
        """Take up the jobs that an earlier run left, and start the engine."""
        self.outputs.sweep()
        for job in self.store.recover():
            self._enliven(self._adopt(job))
        self.link.start(self._on_message)

    def close(self) -> None:
        """Stop the engine.  Unfinished jobs stay in the queue for the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.link.close()
        self._savers.shutdown(wait=True)
        self.store.close()

    def engine(self) -> EngineState:
        return self._engine

    # ---- models

    def checkpoints(self) -> list[CheckpointInfo]:
        """All files in the models folders, usable ones first; the others say what their problem is."""
        return sorted(scan(self.settings.models_dirs), key=lambda info: (bool(info.problem), info.name.lower()))

    def checkpoint(self, name: str | None) -> CheckpointInfo:
        """The usable checkpoint of that name, or the one that is used when nobody names one.

        Raises:
            RequestError: there is none, or it cannot be used.
        """
        if name:
            info = find(self.settings.models_dirs, name)
        else:
            default = self.default_checkpoint()
            if default is None:
                folders = ", ".join(str(folder) for folder in self.settings.models_dirs)
                raise RequestError(f"no checkpoint found; put an SD 1.x .safetensors file into {folders}")
            info = default
        if info.problem:
            raise RequestError(f"checkpoint {info.name!r} cannot be used: {info.problem}")
        return info

    def default_checkpoint(self) -> CheckpointInfo | None:
        """The checkpoint of the newest job if it is still here, else the first usable one."""
        usable = [info for info in self.checkpoints() if not info.problem]
        latest = self.store.latest_checkpoint()
        return next((info for info in usable if info.name == latest), usable[0] if usable else None)

    # ---- jobs

    def complete(self, fields: dict[str, Any]) -> GenerationRequest:
        """A full request from some fields: names resolved, a seed drawn, the rest from the checkpoint's defaults.

        Raises:
            RequestError: a field makes no sense; the message says which and what is allowed.
        """
        info = self.checkpoint(fields.get("checkpoint"))
        defaults = {
            "width": info.defaults.width,
            "height": info.defaults.height,
            "steps": info.defaults.steps,
            "cfg_scale": info.defaults.cfg_scale,
            "sampler": info.defaults.sampler,
            "schedule": info.defaults.schedule,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        request = parse_request({**defaults, **given, "checkpoint": info.name})
        sampler, schedule_in_name = find_sampler(request.sampler)
        schedule = find_schedule(schedule_in_name or request.schedule)
        seed = request.seed if request.seed >= 0 else secrets.randbelow(MAX_SEED + 1)
        return request.model_copy(update={"sampler": sampler.name, "schedule": schedule.label, "seed": seed})

    def submit(self, fields: dict[str, Any], user: str) -> JobView:
        """Accept a job.  When this returns, the job is on disk and survives anything.

        Raises:
            RequestError: a field makes no sense.
            OutputError: pictures could not be saved; nothing is started.
        """
        request = self.complete(fields)
        self.outputs.check_writable()
        job = self.store.add(request, user)
        self._enliven(job)
        if self._engine.state == "failed":
            self._set_engine(EngineState("restarting", "The engine is starting again."))
            self.link.start(self._on_message)
        self._dispatch()
        view = self.job(job.id, user)
        assert view is not None
        return view

    def cancel(self, job_id: str, user: str) -> bool:
        """Stop a job of this user; finished pictures stay.  False when there is no such job under way."""
        with self._changed:
            live = self._live.get(job_id)
            if live is None or live.job.user != user:
                return False
            self._end(live, "cancelled")
        self._dispatch()
        return True

    def job(self, job_id: str, user: str) -> JobView | None:
        job = self.store.get(job_id)
        return self._view(job) if job is not None and job.user == user else None

    def jobs(self, user: str, limit: int = 50) -> list[JobView]:
        """This user's jobs, newest first."""
        return [self._view(job) for job in self.store.list_for(user, limit)]

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

    # ---- what the engine says

    def _on_message(self, message: Message) -> None:
        """On the link's thread: quick, and never raising."""
        try:
            handler = getattr(self, f"_on_{message.kind}", None)
            if handler is None:
                log.warning("the engine said %r, which nobody understands", message.kind)
            else:
                handler(message)
        except Exception:
            log.exception("while handling %r of the engine", message.kind)

    def _on_hello(self, message: Message) -> None:
        data = message.data
        state = EngineState("ready", "Ready.", data["device"], data["dtype"], data["attention"])
        self._set_engine(state)
        log.info("device: %s", state.device)
        log.info("dtype: %s", state.dtype)
        log.info("attention: %s", state.attention)
        self._watch(anew=True)
        default = self.default_checkpoint()
        if not self._live and default is not None:
            self.link.send(Message("load", {"checkpoint": default.name}))
        self._dispatch()

    def _on_loading(self, message: Message) -> None:
        self._set_engine(replace(self._engine, message=f"Loading {message.data['checkpoint']} …"))

    def _on_loaded(self, message: Message) -> None:
        self._set_engine(replace(self._engine, message="Ready."))

    def _on_died(self, message: Message) -> None:
        cause = message.data["cause"]
        log.error("%s", cause)
        with self._changed:
            self._engine = EngineState("restarting", f"The engine is starting again: {cause}.")
            retried, given_up = self._dispatcher.lost()
            self.store.engine_died([*retried, *given_up])
            for job_id in retried:
                self._live[job_id].stages.clear()
                self._touch(self._live[job_id])
            for job_id in given_up:
                self._end(self._live[job_id], "failed", f"{cause}; it was tried twice")
            self._changed.notify_all()

    def _on_gave_up(self, message: Message) -> None:
        """It will not come up by itself: say so on every job rather than let them wait for ever."""
        cause = message.data["cause"]
        with self._changed:
            self._engine = EngineState("failed", f"The engine could not start: {cause}")
            for live in list(self._live.values()):
                self._end(live, "failed", f"the engine could not start: {cause}")

    def _on_progress(self, message: Message) -> None:
        with self._changed:
            if found := self._find(message):
                live, index = found
                live.stages[index] = (message.data["step"], message.data["steps"])
                live.started = live.started or time.monotonic()
                self._touch(live)

    def _on_preview(self, message: Message) -> None:
        jpeg = _jpeg(message)
        with self._changed:
            if found := self._find(message):
                live, _ = found
                live.preview = Preview((live.preview.rev if live.preview else 0) + 1, jpeg)
                self._touch(live)

    def _on_done(self, message: Message) -> None:
        with self._changed:
            if found := self._find(message):
                self._savers.submit(self._save, *found, message)

    def _on_failed(self, message: Message) -> None:
        if message.data["trace"]:
            log.error("%s", message.data["trace"])
        with self._changed:
            if found := self._find(message):
                self._end(found[0], "failed", message.data["error"])
        self._dispatch()

    def _on_cancelled(self, message: Message) -> None:
        """Nothing to do: the job's record was closed when its owner asked."""

    # ---- inside

    def _enliven(self, job: Job) -> None:
        with self._changed:
            left = set(range(job.request.count)) - {picture.index for picture in job.pictures}
            if not left:
                self.store.finish(job.id, "done")
                return
            self._live[job.id] = _Live(job, left)
            self._dispatcher.add(job.id, job.user, sorted(left))

    def _adopt(self, job: Job) -> Job:
        """Pictures that an earlier run saved and did not live to record are taken over, not painted again."""
        for index in set(range(job.request.count)) - {picture.index for picture in job.pictures}:
            seed = job.request.image(index).seed
            if saved := self.outputs.find(job.id, index, seed, job.created):
                self.store.picture_done(job.id, index, saved, seed)
        return self.store.get(job.id) or job

    def _dispatch(self) -> None:
        """Send the engine what it has places for."""
        with self._changed:
            if self._engine.state != "ready" or self._closing:
                return
            for flight in self._dispatcher.take():
                live = self._live[flight.job]
                if live.job.state == "queued":
                    live.job = self.store.mark_running(flight.job)
                    self._touch(live)
                request = live.job.request.image(flight.index)
                data = {"task": flight.task, "user": live.job.user, "request": request.model_dump()}
                self.link.send(Message("submit", data))
        self._watch()

    def _save(self, live: _Live, index: int, message: Message) -> None:
        """On the saver's thread: picture to disk, then its row, then the world may know."""
        data, job = message.data, live.job
        info = GenerationInfo(
            request=job.request.image(index),
            model_name=data["model_name"],
            model_hash=data["model_hash"],
            schedule_label=data["schedule"],
            version=f"Atelier {__version__}",
        )
        try:
            saved = self.outputs.save(
                message.blob, data["width"], data["height"], info, job=job.id, index=index, when=job.created
            )
            self.store.picture_done(job.id, index, saved, info.request.seed)
            error = ""
        except AtelierError as problem:
            error = str(problem)
        except Exception as problem:
            log.exception("while saving a picture")
            error = f"the picture could not be saved: {problem}"
        with self._changed:
            self._dispatcher.landed(job.id, index)
            if self._live.get(job.id) is live:
                live.stages.pop(index, None)
                live.left.discard(index)
                if error:
                    self._end(live, "failed", error)
                elif not live.left:
                    self._end(live, "done")
                else:
                    self._touch(live)
        self._dispatch()

    def _end(self, live: _Live, state: Outcome, error: str = "") -> None:
        """Close a job's record and take its images back from the engine.  Under the lock."""
        self._live.pop(live.job.id, None)
        for flight in self._dispatcher.remove(live.job.id):
            self.link.send(Message("cancel", {"task": flight.task}))
        self.store.finish(live.job.id, state, error)
        self._changed.notify_all()

    def _find(self, message: Message) -> tuple[_Live, int] | None:
        job_id, _, index = message.data["task"].rpartition(".")
        live = self._live.get(job_id)
        return (live, int(index)) if live is not None else None

    def _touch(self, live: _Live) -> None:
        live.rev += 1
        self._changed.notify_all()

    def _set_engine(self, state: EngineState) -> None:
        with self._changed:
            self._engine = state
            self._changed.notify_all()

    def _watch(self, anew: bool = False) -> None:
        """Tell the engine which tasks somebody looks at: the one nearest its end of each job that is looked at."""
        now = time.monotonic()
        with self._changed:
            watched = set()
            for live in self._live.values():
                if now - live.looked_at < WATCH_SECONDS:
                    flying = [flight for flight in self._dispatcher.flying() if flight.job == live.job.id]
                    if flying:
                        watched.add(max(flying, key=lambda f: live.stages.get(f.index, (0, 1))[0]).task)
            if watched == self._watched and not anew:
                return
            self._watched = watched
        self.link.send(Message("watch", {"tasks": sorted(watched)}))

    def _view(self, job: Job) -> JobView:
        with self._changed:
            live = self._live.get(job.id)
            position = self._dispatcher.position(job.id) if live else 0
            stages = list(live.stages.values()) if live else []
        count, done = job.request.count, len(job.pictures)
        step, steps = max(stages, default=(0, job.request.steps))
        progress = (done + sum(s / max(1, n) for s, n in stages)) / count if live else float(job.state == "done")
        progress = min(1.0, progress)
        eta = None
        if live and live.started is not None and 0 < progress < 1:
            eta = (time.monotonic() - live.started) * (1 - progress) / progress
        pictures = tuple(self._picture(picture) for picture in job.pictures)
        return JobView(
            id=job.id,
            state=job.state,
            position=position,
            count=count,
            done=done,
            step=step,
            steps=steps,
            progress=progress,
            eta_s=eta,
            rev=live.rev if live else 0,
            error=job.error,
            created=job.created,
            request=job.request,
            pictures=pictures,
        )

    def _picture(self, picture: Picture) -> PictureView:
        path = self.outputs.folder / picture.path
        return PictureView(picture.index, path.name, path, picture.infotext, picture.seed, picture.width, picture.height)


def engine_configuration(settings: Settings) -> dict[str, Any]:
    """The fields of the engine's `configure` message."""
    return {
        "models_dirs": [str(folder) for folder in settings.models_dirs],
        "cache_dir": str(settings.data_dir),
        "device": settings.device,
        "dtype": settings.dtype,
        "attention": settings.attention,
        "exact": settings.exact,
    }


def _jpeg(message: Message) -> bytes:
    image = Image.frombytes("RGB", (message.data["width"], message.data["height"]), message.blob)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
