"""The façade that the tabs, the API and the command line share: submit, cancel, look, fetch.

The App decides which images go to the engine and when, keeps each job's record in the queue, and saves finished pictures.  It
knows neither HTTP nor tensors, and never imports torch.  All methods may be called from any thread and return at once, except
`events`, `start` and `close`.
"""

from __future__ import annotations

import io
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from PIL import Image

from modules import __version__
from modules.checkpoints.files import CheckpointInfo, find, scan
from modules.diffusion.samplers import find_sampler
from modules.diffusion.samplers.relevance import relevant
from modules.diffusion.schedules import find_schedule
from modules.dispatch import SLOTS, Dispatcher
from modules.engine.costs import Call, CostModel
from modules.engine.link import EngineLink, ProcessLink
from modules.engine.messages import Message
from modules.errors import AtelierError, EngineError, LimitError, RequestError
from modules.estimates import Forecast, Pending, forecast
from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs
from modules.prompts.check import PromptCheck, check, network_notes
from modules.prompts.compose import take_networks
from modules.prompts.library import Finished, Library, infotext_items
from modules.queue.records import Job, Outcome, Picture
from modules.queue.store import JobStore
from modules.request import MAX_SEED, GenerationRequest, parse_request
from modules.settings import Settings
from modules.views import EngineState, JobView, Load, PictureView, Preview, QueueView

log = logging.getLogger("atelier")

T = TypeVar("T")

WATCH_SECONDS = 3.0
"""A job counts as looked at for this long after its preview was asked for."""
ESTIMATE_SECONDS = 0.5
"""Estimates are worked out at most once in this time, for everybody."""
COSTS_SECONDS = 60.0
"""At most once in this time, what was learned about costs goes to disk."""
PROMPT_FIELDS = (
    "prompt",
    "negative_prompt",
    "styles",
    "seed",
    "steps",
    "sampler",
    "emphasis",
    "comments",
    "old_prompt_editing",
)
"""Fields of a request that decide what its prompts mean."""
HOLD_SECONDS = 5.0
"""How often it is looked whether pictures could be saved; while they could not, nothing is begun."""
MAX_KEY = 200
"""Characters of a submitter's own name for a job."""


@dataclass
class _Live:
    """A job that is not over: what only memory knows of it.

    Of each image with the engine, `stages` is (step, steps) and `words` its prompts as they were sent.
    """

    job: Job
    left: set[int]
    stages: dict[int, tuple[int, int]] = field(default_factory=dict)
    words: dict[int, Finished] = field(default_factory=dict)
    rev: int = 1
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
        self.library = Library(settings.data_dir)
        self._engine = EngineState("starting", "The engine is starting.")
        self._dispatcher = Dispatcher()
        self._live: dict[str, _Live] = {}
        self._watched: set[str] = set()
        self._paused = self.store.paused()
        self._costs, self._device, self._resident = CostModel(), "", ""
        self._costs_kept = time.monotonic()
        self._forecast, self._forecast_at = Forecast(), float("-inf")
        self._held, self._looked, self._timer = "", float("-inf"), threading.Timer(0, lambda: None)
        self._listeners: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._savers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._closing = False

    # ---- life

    def start(self) -> None:
        """Take up the jobs that an earlier run left, and start the engine."""
        self.outputs.sweep()
        for user in self._paused:
            self._dispatcher.pause(user, True)
        for job in self.store.recover():
            self._enliven(self._adopt(job))
        self.link.start(self._on_message)

    def close(self) -> None:
        """Stop the engine.  Unfinished jobs stay in the queue for the next start; what is finished by now is still saved."""
        with self._changed:
            self._closing = True
            self._timer.cancel()
            self._wake()
        self.link.close()
        self._savers.shutdown(wait=True)
        self._keep_costs()
        self.store.close()

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
        found: dict[str, Any] = {"sampler": sampler.name, "schedule": schedule.label, "seed": seed}
        if request.variation_strength > 0 and request.variation_seed < 0:
            found["variation_seed"] = secrets.randbelow(MAX_SEED + 1)
        request = relevant(request.model_copy(update=found))
        self.library.finish(request.image(0))
        return request

    def check_prompt(self, fields: dict[str, Any]) -> PromptCheck:
        """What is understood of the prompts in `fields`; of other fields only those that matter to them are looked at.

        Raises:
            RequestError: such a field makes no sense.
        """
        given = {name: fields[name] for name in PROMPT_FIELDS if fields.get(name) is not None}
        request = parse_request(given)
        sampler, _ = find_sampler(request.sampler)
        return check(request, self.library, sampler.step_ends(request.steps), sampler.prompt_steps(request.steps))

    def submit(self, fields: dict[str, Any], user: str, key: str = "") -> JobView:
        """Accept a job.  When this returns, the job is on disk and survives anything.

        `key` is the submitter's own name for it: the same key again is the same job, whatever became of the first answer.

        Raises:
            RequestError: a field makes no sense.
            LimitError: too many jobs wait already; says in how many seconds to try again.
            OutputError: pictures could not be saved; nothing is started.
            EngineError: the studio is closing.
        """
        if self._closing:
            raise EngineError("the studio is closing; submit again when it is back")
        if len(key) > MAX_KEY:
            raise RequestError(f"the job's key has {len(key)} characters; {MAX_KEY} is the most")
        if key and (there := self.store.with_key(key, user)) is not None:
            return self._view(there)
        request = self.complete(fields)
        self.outputs.check_writable()
        job = self._within_limits(lambda: self.store.add(request, user, key), user)
        self._take_up(job)
        return self._view(job)

    def retry(self, job_id: str, user: str) -> bool:
        """Try one's own failed or cancelled job again, for the pictures that it lacks.  False when it is no such job.

        Raises:
            LimitError, OutputError, EngineError: as for `submit`.
        """
        if self._closing:
            raise EngineError("the studio is closing; try again when it is back")
        self.outputs.check_writable()
        job = self._within_limits(lambda: self.store.retry(job_id, user), user)
        if job is not None:
            self._take_up(job)
        return job is not None

    def remove(self, job_id: str, user: str) -> bool:
        """Forget one's own job that is over; its pictures stay on disk.  False when it is no such job."""
        return self.store.remove(job_id, user)

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
        """Stop a job of this user; finished pictures stay.  False when there is no such job under way."""
        with self._changed:
            live = self._live.get(job_id)
            if live is None or live.job.user != user:
                return False
            self._end(live, "cancelled")
        self._dispatch()
        return True

    def job(self, job_id: str, user: str) -> JobView | None:
        job = self.store.get(job_id, user)
        return self._view(job) if job is not None else None

    def jobs(self, user: str, limit: int = 50) -> list[JobView]:
        """This user's jobs, newest first."""
        return [self._view(job) for job in self.store.list_for(user, limit)]

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
        views = [self._view(job) for job in map(self.store.get, mine) if job is not None]
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
        self._know_costs_of(data["device"].partition(" ")[0])
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
        with self._changed:
            self._resident = message.data["checkpoint"]
            if message.data["seconds"] > 0.05:  # less means that it was there
                self._costs.learn(Call("load", self._resident), message.data["seconds"])
        self._set_engine(replace(self._engine, message="Ready."))

    def _on_costs(self, message: Message) -> None:
        with self._changed:
            self._costs.put((Call(*call), seconds) for *call, seconds in message.data["costs"])
        if time.monotonic() - self._costs_kept > COSTS_SECONDS:
            self._keep_costs()

    def _on_died(self, message: Message) -> None:
        cause = message.data["cause"]
        log.error("%s", cause)
        with self._changed:
            self._engine, self._resident = EngineState("restarting", f"The engine is starting again: {cause}."), ""
            retried, given_up = self._dispatcher.lost()
            self.store.engine_died([*retried, *given_up])
            for job_id in retried:
                self._live[job_id].stages.clear()
                self._touch(self._live[job_id])
            for job_id in given_up:
                self._end(self._live[job_id], "failed", f"{cause}; it was tried twice")
            self._wake()

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

    def _take_up(self, job: Job) -> None:
        """A job was accepted just now."""
        self._enliven(job)
        if self._engine.state == "failed":
            self._set_engine(EngineState("restarting", "The engine is starting again."))
            self.link.start(self._on_message)
        self._dispatch()
        with self._changed:
            self._wake()

    def _enliven(self, job: Job) -> None:
        with self._changed:
            left = set(range(job.request.count)) - {picture.index for picture in job.pictures}
            if not left:
                self.store.finish(job.id, "done")
                return
            self._live[job.id] = _Live(job, left)
            self._dispatcher.add(job.id, job.user, sorted(left), suspect=job.attempts > 0)
            self._forecast_at = float("-inf")

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
            if self._engine.state != "ready" or self._closing or not self._may_save():
                return
            failed = False
            for flight in self._dispatcher.take():
                live = self._live.get(flight.job)
                if live is None:  # another image of it just failed
                    continue
                if live.job.state == "queued":
                    live.job = self.store.mark_running(flight.job)
                    self._touch(live)
                try:
                    finished = self.library.finish(live.job.request.image(flight.index))
                except AtelierError as error:  # styles and wildcards may have changed since it was accepted
                    self._end(live, "failed", str(error))
                    failed = True
                    continue
                live.words[flight.index] = finished
                data = {"task": flight.task, "user": live.job.user, "request": finished.request.model_dump()}
                self.link.send(Message("submit", data))
        if failed:
            self._dispatch()
        self._watch()

    def _may_save(self) -> bool:
        """Whether pictures could be saved now, so that the device does not work for nothing.  Under the lock."""
        if time.monotonic() - self._looked < HOLD_SECONDS:
            return not self._held
        before, self._looked = self._held, time.monotonic()
        try:
            self.outputs.check_writable()
            self._held = ""
        except AtelierError as error:
            self._held = str(error)
            self._timer.cancel()
            self._timer = threading.Timer(HOLD_SECONDS, self._dispatch)
            self._timer.daemon = True
            self._timer.start()
        if self._held != before:
            log.warning("%s", self._held or "pictures can be saved again")
            self._wake()
        return not self._held

    def _save(self, live: _Live, index: int, message: Message) -> None:
        """On the saver's thread: picture to disk, then its row, then the world may know."""
        data, job = message.data, live.job
        finished = live.words[index]
        info = GenerationInfo(
            request=finished.request,
            model_name=data["model_name"],
            model_hash=data["model_hash"],
            schedule_label=data["schedule"],
            version=f"Atelier {__version__}",
            **_words_said(finished),
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
            if error:
                self._looked = float("-inf")
            now = self._live.get(job.id)  # another one when the owner cancelled and retried in the meantime
            if now is not None and (now is live or not error):
                self._dispatcher.landed(job.id, index)
                now.stages.pop(index, None)
                now.words.pop(index, None)
                now.left.discard(index)
                if error:
                    self._end(now, "failed", error)
                elif not now.left:
                    self._end(now, "done")
                else:
                    self._touch(now)
        self._dispatch()

    def _end(self, live: _Live, state: Outcome, error: str = "") -> None:
        """Close a job's record and take its images back from the engine.  Under the lock."""
        self._live.pop(live.job.id, None)
        for flight in self._dispatcher.remove(live.job.id):
            self.link.send(Message("cancel", {"task": flight.task}))
        self.store.finish(live.job.id, state, error)
        self._wake()

    def _find(self, message: Message) -> tuple[_Live, int] | None:
        job_id, _, index = message.data["task"].rpartition(".")
        live = self._live.get(job_id)
        return (live, int(index)) if live is not None else None

    def _touch(self, live: _Live) -> None:
        live.rev += 1
        self._wake()

    def _set_engine(self, state: EngineState) -> None:
        with self._changed:
            self._engine = state
            self._wake()

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

    def _estimated(self) -> Forecast:
        """When unfinished jobs end; of those that are paused, or while the engine is not ready, nothing.  Under the lock."""
        now = time.monotonic()
        if now - self._forecast_at >= ESTIMATE_SECONDS:
            pending = []
            for job_id, user in self._dispatcher.jobs():
                live = self._live[job_id]
                begun = sum(step / max(1, steps) for index, (step, steps) in live.stages.items() if index in live.left)
                if user not in self._paused and self._engine.state == "ready":
                    pending.append(Pending(job_id, user, live.job.request, len(live.left), begun))
            self._forecast, self._forecast_at = forecast(self._costs, pending, self._resident, SLOTS), now
        return self._forecast

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

    def _know_costs_of(self, device: str) -> None:
        """Take up what earlier runs learned about this device."""
        with self._changed:
            if device == self._device:
                return
            self._device, self._costs = device, CostModel()
            known = [cost for cost in self.store.costs() if cost[0] == device]
            self._costs.put((Call(*cost[1:6]), cost[6]) for cost in known)
            self._costs.take_fresh()

    def _keep_costs(self) -> None:
        with self._changed:
            fresh = self._costs.take_fresh()
            self._costs_kept = time.monotonic()
        if self._device and fresh:
            try:
                self.store.keep_costs(
                    (self._device, c.work, c.checkpoint, c.width, c.height, c.rows, seconds) for c, seconds in fresh
                )
            except AtelierError as error:  # a full disk costs estimates, nothing else
                log.warning("%s", error)

    def _wake(self) -> None:
        """Tell all who wait for changes.  Under the lock."""
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def _view(self, job: Job) -> JobView:
        with self._changed:
            live = self._live.get(job.id)
            stages = list(live.stages.values()) if live else []
            ends = self._estimated().ends if live else {}
            position = self._dispatcher.positions().get(job.id, 0) if live else 0
            paused = live is not None and job.user in self._paused
        count, done = job.request.count, len(job.pictures)
        step, steps = max(stages, default=(0, job.request.steps))
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
        )

    def _picture(self, picture: Picture) -> PictureView:
        path = self.outputs.folder / picture.path
        return PictureView(picture.index, path.name, path, picture.infotext, picture.seed, picture.width, picture.height)


def _words_said(finished: Finished) -> dict[str, dict[str, str]]:
    """What a picture's record says about its prompts beside themselves."""
    request = finished.request
    sampler, _ = find_sampler(request.sampler)
    notes = network_notes(take_networks(request.prompt)[1])
    facts = {"notes": ". ".join(notes)} if notes else {}
    return {"extras": infotext_items(finished, sampler.prompt_steps(request.steps)), "facts": facts}


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
