"""What is being made: the jobs that are not over, the engine that paints them, and the saver in between.

The workshop decides which images go to the engine and when, hears what the engine says, keeps each job's record and saves
finished pictures.  What people may ask of it is `modules.app`; it knows neither HTTP nor tensors.
"""

from __future__ import annotations

import io
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from modules import __version__
from modules.catalogue import Catalogue
from modules.diffusion.samplers import find_sampler
from modules.dispatch import SLOTS, Dispatcher, Flight
from modules.engine.costs import Call, CostModel
from modules.engine.link import EngineLink, ProcessLink
from modules.engine.messages import Message, with_pictures
from modules.errors import AtelierError, OutputError
from modules.estimates import Forecast, Pending, forecast
from modules.images.encoding import form_of
from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs
from modules.prompts.check import network_notes
from modules.prompts.compose import take_networks
from modules.prompts.library import Finished, Library, infotext_items
from modules.queue.owners import OWNER
from modules.queue.records import Job, Outcome
from modules.queue.store import JobStore, NotQueued, QueueError
from modules.settings import Settings
from modules.sourcing import Sourcing, named
from modules.views import EngineState, Preview

log = logging.getLogger("atelier")

WATCH_SECONDS = 3.0
"""A job counts as looked at for this long after its preview was asked for."""
ESTIMATE_SECONDS = 0.5
"""Estimates are worked out at most once in this time, for everybody."""
COSTS_SECONDS = 60.0
"""At most once in this time, what was learned about costs goes to disk."""
HOLD_SECONDS = 5.0
"""How often it is looked whether pictures and jobs could be written; while they could not, nothing is begun."""
UNSAVED_BYTES = 512 << 20
"""Pixels that are kept in memory at most while they cannot be saved; what is beyond that is painted again, to the same bits."""


@dataclass
class _Live:
    """A job that is not over: what only memory knows of it.

    Of each image with the engine, `stages` is (step, steps) and `words` its prompts as they were sent.  `unsaved` has the
    engine's messages of finished images that cannot be saved yet, and `ending` how the job ends once that can be recorded.
    """

    job: Job
    left: set[int]
    stages: dict[int, tuple[int, int]] = field(default_factory=dict)
    words: dict[int, Finished] = field(default_factory=dict)
    unsaved: dict[int, Message] = field(default_factory=dict)
    ending: tuple[Outcome, str] | None = None
    finishing: set[int] = field(default_factory=set)
    """Images that are to be finished with the step that runs now."""
    rev: int = 1
    preview: Preview | None = None
    looked_at: float = float("-inf")


class Workshop:
    """A queue, a folder of outputs and an engine behind a link.  `modules.app.App` is what others see of it.

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
        self.outputs = outputs or Outputs(settings.outputs_dir, form_of(settings.output_format, settings.output_quality))
        self.store = JobStore(
            settings.data_dir / "jobs.sqlite" if durable else None,
            history=settings.history,
            per_user=settings.jobs_per_user,
            total=settings.jobs_in_total,
        )
        self._durable = durable
        self._passing = None if durable else tempfile.TemporaryDirectory(prefix="atelier-")
        folder = Path(self._passing.name) if self._passing else settings.data_dir
        self.sourcing = Sourcing(folder / "sources", settings.outputs_dir, self.store, settings.keep_sources)
        if durable and not settings.needs_accounts:
            self.sourcing.sources.merge(self.store.merge_owners(), OWNER)
        self.link: EngineLink = link or ProcessLink(engine_configuration(settings), settings.data_dir / "engine.log")
        self.library = Library(settings.data_dir)
        self.catalogue = Catalogue(settings.models_dirs, self.library, self.store.latest_checkpoint)
        self._engine = EngineState("starting", "The engine is starting.")
        self._dispatcher = Dispatcher()
        self._live: dict[str, _Live] = {}
        self._watched: set[str] = set()
        self._paused = self.store.paused()
        self._costs, self._device, self._resident = CostModel(), "", ""
        self._costs_kept = time.monotonic()
        self._forecast, self._forecast_at = Forecast(), float("-inf")
        self._held, self._looked, self._timer = "", float("-inf"), threading.Timer(0, lambda: None)
        self._rounds = self._timer
        self._listeners: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._accepting = threading.Lock()
        """Held from a job's record to its place in memory, so that of several submitters with one key all find it there."""
        self._telling = threading.Lock()
        """Taken before `_changed` by who sends the engine what was decided under that: messages keep the decisions' order."""
        self._savers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._senders = ThreadPoolExecutor(max_workers=1, thread_name_prefix="send")
        self._closing = False

    def start(self) -> None:
        """Take up the jobs that an earlier run left, and start the engine."""
        self.outputs.sweep()
        self.sourcing.sources.sweep()
        for user in self._paused:
            self._dispatcher.pause(user, True)
        for job in self.store.recover():
            self._enliven(self._adopt(job))
        self._look_after()
        self.link.start(self._on_message)

    def close(self) -> None:
        """Stop the engine.  Unfinished jobs stay in the queue for the next start; what is finished by now is still saved."""
        with self._changed:
            again, self._closing = self._closing, True
            self._timer.cancel()
            self._rounds.cancel()
            self._wake()
        self.link.close()
        self._senders.shutdown(wait=True, cancel_futures=True)
        self._savers.shutdown(wait=True)
        if not again:
            self._save_kept()
        self._keep_costs()
        self.store.close()
        if self._passing:
            self._passing.cleanup()

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
        default = self.catalogue.default_checkpoint()
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
            try:
                self.store.engine_died([*retried, *given_up])
            except QueueError as problem:  # one attempt more, and nobody is stranded for it
                log.warning("that the engine died is not recorded: %s", problem)
            for job_id in retried:
                self._live[job_id].stages.clear()
                self._touch(self._live[job_id])
            for job_id in given_up:
                self._conclude(self._live[job_id], "failed", f"{cause}; it was tried twice")
            self._wake()

    def _on_gave_up(self, message: Message) -> None:
        """It will not come up by itself: say so on every job rather than let them wait for ever."""
        cause = message.data["cause"]
        with self._changed:
            self._engine = EngineState("failed", f"The engine could not start: {cause}")
            for live in list(self._live.values()):
                self._conclude(live, "failed", f"the engine could not start: {cause}")

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
                self._conclude(found[0], "failed", message.data["error"])
        self._dispatch()

    def _on_cancelled(self, message: Message) -> None:
        """Nothing to do: the job's record was closed when its owner asked."""

    def _take_up(self) -> None:
        """A job was accepted just now, and is in its place."""
        if self._engine.state == "failed":
            self._set_engine(EngineState("restarting", "The engine is starting again."))
            self.link.start(self._on_message)
        self._dispatch()
        with self._changed:
            self._wake()

    def _enliven(self, job: Job) -> None:
        with self._changed:
            left = set(range(job.request.count)) - {picture.index for picture in job.pictures}
            live = self._live[job.id] = _Live(job, left)
            self._forecast_at = float("-inf")
            if left:
                self._dispatcher.add(job.id, job.user, sorted(left), suspect=job.attempts > 0)
            else:
                self._conclude(live, "done")

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
            if self._closing or not self._may_begin() or self._engine.state != "ready":
                return
            failed, flights = False, self._dispatcher.take()
            for number, flight in enumerate(flights):
                live = self._live.get(flight.job)
                if live is None or live.ending:  # another image of it just failed
                    continue
                try:
                    self._begin(live, flight)
                except NotQueued as error:
                    self._conclude(live, "failed", str(error))
                    failed = True
                except QueueError as error:  # taken and not begun: they wait again, in their order
                    for back in reversed(flights[number:]):
                        self._dispatcher.recall(back)
                    self._hold(str(error))
                    return
                except AtelierError as error:  # styles and wildcards may have changed since it was accepted
                    self._conclude(live, "failed", str(error))
                    failed = True
                except Exception as problem:
                    log.exception("while beginning a picture")
                    self._conclude(live, "failed", f"the picture could not be begun: {problem}")
                    failed = True
        if failed:
            self._dispatch()
        self._watch()

    def _begin(self, live: _Live, flight: Flight) -> None:
        """Send one image to the engine.  Under the lock.

        Raises:
            QueueError: the job list cannot be written; nothing has changed.
            AtelierError: its prompts cannot be finished.
        """
        if live.job.state == "queued":
            live.job = self.store.mark_running(flight.job)
            self._touch(live)
        finished = self.library.finish(live.job.request.image(flight.index))
        live.words[flight.index] = finished
        if named(finished.request):
            self._senders.submit(self._send_with_pictures, live, flight, finished)
        else:
            self._send(live, flight, _submit(live, flight, finished))

    def _send(self, live: _Live, flight: Flight, message: Message) -> None:
        """One image to the engine; one that is to be finished at once is sent anew after an engine's death, say."""
        self.link.send(message)
        if flight.index in live.finishing:
            self.link.send(Message("finish", {"task": flight.task}))

    def _send_with_pictures(self, live: _Live, flight: Flight, finished: Finished) -> None:
        """On the sender's thread, because decoding a large picture takes a while: nobody waits for it under the lock."""
        error, pictures = "", []
        try:
            pictures = self.sourcing.read(finished.request, live.job.user)
        except AtelierError as problem:
            error = str(problem)
        except Exception as problem:
            log.exception("while reading the source of a picture")
            error = f"the picture to start from could not be read: {problem}"
        with self._changed:
            # Meanwhile it may have been cancelled, recalled or even sent anew, and the engine may have died
            same = self._live.get(flight.job) is live and live.words.get(flight.index) is finished
            if not same or flight not in self._dispatcher.flying():
                return
            if error:
                self._conclude(live, "failed", error)
            else:
                self._send(live, flight, _submit(live, flight, finished, pictures))
        if error:
            self._dispatch()

    def _look_after(self) -> None:
        """Every few seconds, whether the job list is still in its place, also while nobody asks for anything."""
        if self._closing:
            return
        try:
            self.store.check_place()
        except QueueError as error:
            with self._changed:
                self._hold(str(error))
        finally:
            self._rounds = threading.Timer(HOLD_SECONDS, self._look_after)
            self._rounds.daemon = True
            self._rounds.start()

    def _may_begin(self) -> bool:
        """Whether pictures could be saved now, so that the device does not work for nothing.  Under the lock."""
        if time.monotonic() - self._looked < HOLD_SECONDS:
            return not self._held
        self._looked = time.monotonic()
        try:
            self.outputs.check_writable()
            if self._held:  # by the list's disk, perhaps
                self.store.check_writable()
        except AtelierError as error:
            self._hold(str(error))
            return False
        if any(live.unsaved or live.ending for live in self._live.values()):
            self._savers.submit(self._save_kept)  # what is finished comes first; it ends the hold when all of it is written
            return False
        self._release()
        return True

    def _hold(self, reason: str) -> None:
        """Begin nothing for now, say why, and look again soon.  Under the lock."""
        self._looked = time.monotonic()
        self._timer.cancel()
        if not self._closing:
            self._timer = threading.Timer(HOLD_SECONDS, self._dispatch)
            self._timer.daemon = True
            self._timer.start()
        if reason != self._held:
            log.warning("nothing is begun: %s (pictures go to %s)", reason, self.outputs.folder)
            self._held = reason
            self._touch_all()

    def _release(self) -> None:
        """Go on after a hold.  Under the lock."""
        if self._held:
            log.warning("pictures and jobs can be written again")
            self._held = ""
            self._touch_all()

    def _touch_all(self) -> None:
        for live in self._live.values():
            live.rev += 1
        self._wake()

    def _save(self, live: _Live, index: int, message: Message) -> bool:
        """On the saver's thread: picture to disk, then its row, then the world may know.

        False when the disk refused, and the picture was kept to be saved later.
        """
        job = live.job
        finished = live.words.get(index)
        if finished is None:  # its job was cancelled and retried meanwhile, and this image was saved or sent anew
            return True
        error, refused = "", ""
        try:
            self._write(live, index, message, finished)
        except (OutputError, QueueError) as problem:
            refused = str(problem)
        except AtelierError as problem:
            error = str(problem)
        except Exception as problem:
            log.exception("while saving a picture")
            error = f"the picture could not be saved: {problem}"
        with self._changed:
            now = self._live.get(job.id)  # another one when the owner cancelled and retried in the meantime
            if refused and self._durable:
                if now is live:
                    self._keep(live, index, message)
                    self._hold(refused)
                return now is not live
            error = error or refused
            if error:
                self._looked = float("-inf")
            if now is not None and (now is live or not error):
                self._dispatcher.landed(job.id, index)
                now.stages.pop(index, None)
                now.words.pop(index, None)
                now.finishing.discard(index)
                now.unsaved.pop(index, None)
                now.left.discard(index)
                if error:
                    self._conclude(now, "failed", error)
                elif not now.left:
                    self._conclude(now, "done")
                else:
                    self._touch(now)
        self._dispatch()
        return True

    def _write(self, live: _Live, index: int, message: Message, finished: Finished) -> None:
        """The picture's file, then its row.  May be repeated: what is there already stays.

        Raises:
            OutputError, QueueError: the disk refused one of the two.
        """
        data, job = message.data, live.job
        info = GenerationInfo(
            request=finished.request,
            model_name=data["model_name"],
            model_hash=data["model_hash"],
            schedule_label=data["schedule"],
            version=f"Atelier {__version__}",
            **_also_said(finished, data, self.catalogue.loras()),
        )
        saved = self.outputs.save(message.blob, data["width"], data["height"], info, job=job.id, index=index, when=job.created)
        self.store.picture_done(job.id, index, saved, info.request.seed)
        self.sourcing.keep_beside(info.request, job.user)

    def _keep(self, live: _Live, index: int, message: Message) -> None:
        """Keep a finished picture that cannot be saved yet; beyond the bound it is painted again.  Under the lock."""
        others = (one for each in self._live.values() for one in each.unsaved.values() if one is not message)
        if sum(len(one.blob) for one in others) + len(message.blob) <= UNSAVED_BYTES:
            live.unsaved[index] = message
            self._dispatcher.keep(live.job.id, index)
        else:
            live.unsaved.pop(index, None)
            live.stages.pop(index, None)
            self._dispatcher.recall(Flight(live.job.id, index))

    def _save_kept(self) -> None:
        """On the saver's thread: write what could not be written, in the order of the queue; the first refusal ends it."""
        with self._changed:
            waiting = [(live, index, message) for live in self._live.values() for index, message in live.unsaved.items()]
        for live, index, message in waiting:
            if live.unsaved.get(index) is message and not self._save(live, index, message):
                return
        with self._changed:
            for live in list(self._live.values()):
                if live.ending:
                    self._conclude(live, *live.ending)
            if any(live.unsaved or live.ending for live in self._live.values()):
                return
            self._release()
        self._dispatch()

    def _end(self, live: _Live, state: Outcome, error: str = "") -> None:
        """Close a job's record and take its images back from the engine.  Under the lock.

        Raises:
            QueueError: the record cannot be written; nothing has changed.
        """
        self.store.finish(live.job.id, state, error)
        self._live.pop(live.job.id, None)
        self._take_back(live)
        self._wake()

    def _conclude(self, live: _Live, state: Outcome, error: str = "") -> None:
        """`_end` for what is over whatever the disk says; what cannot be recorded now is recorded later.  Under the lock."""
        try:
            self._end(live, state, error)
        except QueueError as problem:
            live.ending = (state, error)
            self._take_back(live)
            self._hold(str(problem))

    def _take_back(self, live: _Live) -> None:
        for flight in self._dispatcher.remove(live.job.id):
            self.link.send(Message("cancel", {"task": flight.task}))

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
        """Tell the engine which tasks are looked at: of each job that is, the image nearest its end when looking began.

        It stays that one until it is over: images of a job take turns, and whichever is ahead now has its next step last.
        """
        now = time.monotonic()
        with self._telling:
            with self._changed:
                watched = set()
                for live in self._live.values():
                    flying = [flight for flight in self._dispatcher.flying() if flight.job == live.job.id]
                    if flying and now - live.looked_at < WATCH_SECONDS:
                        ahead = max(flying, key=lambda f: (f.task in self._watched, live.stages.get(f.index, (0, 1))[0]))
                        watched.add(ahead.task)
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


def _submit(live: _Live, flight: Flight, finished: Finished, pictures: Sequence[Image.Image] = ()) -> Message:
    """The message that begins an image."""
    data = {"task": flight.task, "user": live.job.user, "request": finished.request.model_dump()}
    return with_pictures(data, pictures)


def _also_said(finished: Finished, data: Mapping[str, Any], loras: Collection[str]) -> dict[str, dict[str, str]]:
    """What a picture's record says beside its request: of its prompts, and what the engine found.  `loras` are here."""
    request = finished.request
    sampler, _ = find_sampler(request.sampler)
    facts = dict(data.get("facts", {}))
    networks = take_networks(request.prompt)[1]
    notes = [*network_notes(networks, loras), *filter(None, [facts.get("notes")])]
    words = infotext_items(finished, sampler.prompt_steps(request.steps))
    if networks:  # none is applied yet
        words = {**words, "Networks left out": " ".join(map(str, networks))}
    return {
        "extras": {**data.get("extras", {}), **words},
        "facts": facts | ({"notes": ". ".join(notes)} if notes else {}),
    }


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
