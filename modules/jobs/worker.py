"""A worker: one engine behind a link, with its state, its resident checkpoint and the measured costs of its device.

The worker keeps what is true of its engine alone; what an engine says about jobs it passes on (`EngineEvents`).  Messages to
the engine go through an outbox, in the order in which they were decided.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from modules.engine.costs import Call, CostModel
from modules.engine.extensions import uses_path
from modules.engine.launcher import Launcher, LocalLauncher
from modules.engine.link import EngineLink, ProcessLink
from modules.engine.messages import (
    Cancel,
    Cancelled,
    Costs,
    Died,
    Done,
    DropExtension,
    ExtensionLoaded,
    ExtensionRaised,
    ExtensionRefused,
    Failed,
    Finish,
    GaveUp,
    Hello,
    InMemory,
    Inspect,
    LoadCheckpoint,
    Loaded,
    LoadFailed,
    Loading,
    Message,
    PreviewImage,
    Progress,
    ToEngine,
    Unload,
    Upcoming,
    Watch,
    parse,
)
from modules.errors import AtelierError
from modules.extensions.discovery import folders_of
from modules.jobs.changes import Changes
from modules.jobs.dispatch import ImageTask
from modules.jobs.estimates import Known
from modules.jobs.memory import Room
from modules.jobs.outbox import Outbox
from modules.jobs.views import EngineState
from modules.queue.store import Cost
from modules.settings import Settings

log = logging.getLogger("atelier")

READY = "Ready."
"""The message of an engine that has nothing to say, and may have images."""

COSTS_SECONDS = 60.0
"""At most once in this time, what was learned about costs goes to disk."""


INSPECT_SECONDS = 1.0
"""At most once in this time an engine is asked what is in its memory."""


class CostStore(Protocol):
    """Where measured costs outlive the program; `modules.queue.store.JobStore` is one."""

    def costs(self) -> list[Cost]: ...
    def keep_costs(self, costs: Iterable[Cost]) -> None: ...


class EngineEvents(Protocol):
    """What engines say about jobs, on the thread of the worker's link."""

    def ready(self, worker: Worker) -> None:
        """An engine has come up."""

    def died(self, worker: Worker, cause: str, asked: bool) -> None:
        """The engine is gone; `asked` where that was wanted."""

    def extension(self, worker: Worker, said: ExtensionLoaded | ExtensionRefused | ExtensionRaised) -> None:
        """What its engine says of an extension."""

    def gave_up(self, worker: Worker, cause: str) -> None:
        """It died, and will not come up again by itself."""

    def progress(self, worker: Worker, progress: Progress) -> None: ...

    def preview(self, worker: Worker, preview: PreviewImage) -> None: ...

    def done(self, worker: Worker, done: Done) -> None: ...

    def failed(self, worker: Worker, failed: Failed) -> None: ...


class Worker:
    """See the module.

    Args:
        name: among workers.
        link: how its engine is reached.
        costs: where measured costs are kept.
        changes: its lock guards the worker's fields.
        label: stands before what is logged of it.
    """

    def __init__(self, name: str, link: EngineLink, costs: CostStore, changes: Changes, label: str = "") -> None:
        self.name, self.link, self.changes, self.label = name, link, changes, label
        self.state = EngineState("starting", "The engine is starting.")
        self.resident = ""
        """The checkpoint that was loaded last, "" after the engine's start."""
        self.costs, self.device, self.room = CostModel(), "", Room()
        self.in_memory: tuple[Mapping[str, Any], ...] = ()
        """What was in its memory when it was asked last (`messages.InMemory`)."""
        self._inspected, self._inspected_at = threading.Event(), -math.inf
        self.watched: set[str] = set()
        """The tasks that are watched: their previews are asked for."""
        self.upcoming: tuple[str, ...] = ()
        """The checkpoints that it was told jobs will need."""
        self._store, self._costs_kept = costs, time.monotonic()
        self._outbox = Outbox(lambda message: self.link.send(message))
        self._events: EngineEvents | None = None

    def start(self, events: EngineEvents) -> None:
        """Start the engine; again, after it gave up."""
        self._events = events
        self.link.start(self.hear)

    def close(self) -> None:
        """Stop the engine, and keep what was learned of its device."""
        self._outbox.close()
        self.link.close()
        self.keep_costs()

    def hear(self, message: Message) -> None:
        """On the link's thread: a message of the engine.  Never raises."""
        try:
            self._take(message)
        except Exception:
            log.exception("while handling %r of the engine", message.kind)

    # ---- to the engine: none of these blocks

    def send(self, message: ToEngine) -> None:
        self._outbox.put(message)

    def cancel(self, task: ImageTask) -> None:
        self.send(Cancel(task.id))

    def finish(self, task: ImageTask) -> None:
        """Have an image end with the step that runs."""
        self.send(Finish(task.id))

    def load(self, checkpoint: str) -> None:
        self.send(LoadCheckpoint(checkpoint))

    def unload(self) -> None:
        """Have the engine let go of its models."""
        with self.changes.lock:
            self.resident = ""
            self.send(Unload())

    def drop_extension(self, name: str) -> None:
        """Have the engine go on without an extension."""
        self.send(DropExtension(name))

    def restart(self, why: str) -> None:
        """Replace the engine by a new one; its images are begun again.  One that gave up is started."""
        with self.changes.lock:
            gave_up = self.state.state == "failed"
            if gave_up:
                self.state = EngineState("restarting", "The engine is starting again.")
                self.changes.wake()
        if gave_up and self._events is not None:
            self.start(self._events)
        else:
            self.link.restart(why)

    def inspect(self, seconds: float) -> tuple[Mapping[str, Any], ...]:
        """What is in the engine's memory now; what was last said where it does not answer within `seconds`.

        With 0 the engine is only asked, for the next time.
        """
        if not self.ready:
            return ()
        if time.monotonic() - self._inspected_at > INSPECT_SECONDS:
            self._inspected.clear()
            self._inspected_at = time.monotonic()
            self.send(Inspect())
        self._inspected.wait(seconds)
        return self.in_memory

    def watch(self, tasks: set[str]) -> None:
        """Have previews of these tasks made, and of no others.  Under the lock."""
        if tasks != self.watched:
            self.watched = tasks
            self.send(Watch(sorted(tasks)))

    def look_ahead(self, checkpoints: Sequence[str]) -> None:
        """Jobs will need these checkpoints.  Under the lock."""
        if tuple(checkpoints) != self.upcoming:
            self.upcoming = tuple(checkpoints)
            self.send(Upcoming(list(checkpoints)))

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until all messages are handed over; False when that takes longer than `timeout` seconds."""
        return self._outbox.settle(timeout)

    # ---- what is known of it

    @property
    def ready(self) -> bool:
        return self.state.state == "ready"

    @property
    def known(self) -> Known:
        return Known(self.costs, self.resident)

    def keep_costs(self) -> None:
        """Write what was learned since the last time; not under the lock."""
        with self.changes.lock:
            device, fresh = self.device, self.costs.take_fresh()
            self._costs_kept = time.monotonic()
        if device and fresh:
            try:
                self._store.keep_costs(
                    (device, c.work, c.checkpoint, c.width, c.height, c.rows, seconds) for c, seconds in fresh
                )
            except AtelierError as error:  # a full disk costs estimates, nothing else
                log.warning("%s", error)

    def set_state(self, state: EngineState) -> None:
        with self.changes.lock:
            self.state = state
            self.changes.wake()

    # ---- from the engine

    def _take(self, message: Message) -> None:
        events = self._events
        assert events is not None, "who hears was started"
        match parse(message):
            case Hello() as hello:
                self._hello(hello)
                events.ready(self)
            case Loading(checkpoint):
                self.set_state(replace(self.state, message=f"Loading {checkpoint} …"))
            case Loaded() as loaded:
                self._loaded(loaded)
            case LoadFailed():
                self.set_state(replace(self.state, message=READY))
            case InMemory(models):
                self.in_memory = tuple(models)
                self._inspected.set()
            case Costs(costs):
                self._learn(costs)
            case Progress() as progress:
                events.progress(self, progress)
            case PreviewImage() as preview:
                events.preview(self, preview)
            case Done() as done:
                events.done(self, done)
            case Failed() as failed:
                events.failed(self, failed)
            case Cancelled():
                pass  # the record was closed when its owner asked
            case ExtensionLoaded() | ExtensionRefused() | ExtensionRaised() as said:
                events.extension(self, said)
            case Died(cause, asked):
                self._died(events, cause, asked)
            case GaveUp(cause):
                log.error("%sthe engine could not start: %s", self.label, cause)
                self.set_state(EngineState("failed", f"The engine could not start: {cause}"))
                events.gave_up(self, cause)
            case _:
                log.warning("the engine sent a message of the unexpected kind %r", message.kind)

    def _hello(self, hello: Hello) -> None:
        self._know_costs_of(" ".join(filter(None, (hello.device.partition(" ")[0], hello.share))))
        self.room = Room.of(hello.room)
        chosen = (hello.device, hello.dtype, hello.attention, hello.kernels, hello.accelerator, hello.weights)
        self.set_state(EngineState("ready", READY, *chosen))
        log.info("%sdevice: %s", self.label, hello.device)
        log.info("%sdtype: %s", self.label, hello.dtype)
        log.info("%sattention: %s", self.label, hello.attention)
        log.info("%skernels: %s", self.label, hello.kernels)
        log.info("%saccelerator: %s", self.label, hello.accelerator)
        log.info("%sweights: %s", self.label, hello.weights)

    def _loaded(self, loaded: Loaded) -> None:
        with self.changes.lock:
            self.resident = loaded.checkpoint
            if loaded.seconds > 0.05:  # less means that it was there
                self.costs.learn(Call("load", self.resident), loaded.seconds)
        self.set_state(replace(self.state, message=READY))

    def _learn(self, costs: Sequence[Sequence[Any]]) -> None:
        with self.changes.lock:
            self.costs.put((Call(*call), seconds) for *call, seconds in costs)
        if time.monotonic() - self._costs_kept > COSTS_SECONDS:
            self.keep_costs()

    def _died(self, events: EngineEvents, cause: str, asked: bool) -> None:
        log.log(logging.INFO if asked else logging.ERROR, "%s%s", self.label, cause)
        with self.changes.lock:
            self.state, self.resident = EngineState("restarting", f"The engine is starting again: {cause}."), ""
            self.in_memory = ()
            self.watched, self.upcoming = set(), ()
            self._outbox.drop()
        events.died(self, cause, asked)
        with self.changes.lock:
            self._outbox.drop()  # what was decided for the old engine in between
        self._outbox.settle(5.0)  # what is being handed over comes back at once: nobody is there to take it

    def _know_costs_of(self, device: str) -> None:
        """Take up what earlier runs learned about this device."""
        if device == self.device:
            return
        known = [cost for cost in self._store.costs() if cost[0] == device]
        with self.changes.lock:
            self.device, self.costs = device, CostModel()
            self.costs.put((Call(*cost[1:6]), cost[6]) for cost in known)
            self.costs.take_fresh()


def engine_configuration(settings: Settings, worker: int = 0) -> dict[str, Any]:
    """The fields of the `configure` message of the engine of worker `worker` (from 0)."""
    return {
        "models_dirs": [str(folder) for folder in settings.models_dirs],
        "cache_dir": str(settings.data_dir),
        "device": settings.device,
        "dtype": settings.dtype,
        "attention": settings.attention,
        "accelerator": "none" if settings.safe_mode else settings.accelerator,
        "exact": settings.exact,
        "model_memory": settings.model_memory,
        "weights_storage": settings.weights_storage,
        "worker": worker,
        "workers": settings.workers,
        "extensions": None if settings.extensions_off else _extensions(settings, worker),
    }


def _extensions(settings: Settings, worker: int) -> dict[str, Any]:
    """What an engine needs to know to load its halves of extensions."""
    return {
        "folders": [str(folder) for folder in folders_of(settings)],
        "data_dir": str(settings.data_dir),
        "trusting": not settings.needs_accounts,
        "uses": str(uses_path(settings.data_dir, worker)),
    }


def local_engines(settings: Settings, launcher: Launcher | None = None) -> list[EngineLink]:
    """A link to an engine process for each of the settings' workers, started by `launcher`, on this machine unless given.

    What the engine prints goes into the data folder: `engine.log`, the second's `engine-2.log` and so on.
    """
    launcher = launcher or LocalLauncher()
    return [
        ProcessLink(
            engine_configuration(settings, worker),
            settings.data_dir / f"engine{f'-{worker + 1}' if worker else ''}.log",
            launcher=launcher,
        )
        for worker in range(settings.workers)
    ]


class Workers:
    """The workers of one queue; their order is that in which they are preferred.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        if not workers:
            raise ValueError("at least one worker is needed")
        self.all = tuple(workers)
        self._named = {worker.name: worker for worker in workers}

    def __getitem__(self, name: str) -> Worker:
        return self._named[name]

    def of(self, task: ImageTask) -> Worker:
        """The worker that has this image."""
        return self._named[task.worker]

    def ready(self) -> list[Worker]:
        return [worker for worker in self.all if worker.ready]

    @property
    def state(self) -> EngineState:
        """The state of the one that is best off: as long as one paints, all is well.  Of several, `workers` has each."""
        order = ("ready", "restarting", "starting", "failed")
        states = [worker.state for worker in self.all]
        best = min(states, key=lambda state: (order.index(state.state), state.message != READY))
        return replace(best, workers=tuple(states)) if len(states) > 1 else best

    def doing(self, tasks: Iterable[ImageTask]) -> str:
        """What the workers of these images do before any of them gets on, such as loading; "" when one has nothing to say."""
        messages = {self.of(task).state.message for task in tasks}
        return "" if READY in messages or not messages else min(messages)

    @property
    def given_up(self) -> bool:
        """Whether no engine will come up by itself."""
        return all(worker.state.state == "failed" for worker in self.all)

    def settle(self, timeout: float | None = None) -> bool:
        return all(worker.settle(timeout) for worker in self.all)
