"""A worker: one engine behind a link, with its state, its resident checkpoint and the measured costs of its device.

The worker keeps what is true of its engine alone; what an engine says about jobs it passes on (`EngineEvents`).  Messages to
the engine go through an outbox, in the order in which they were decided.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from modules.engine.costs import Call, CostModel
from modules.engine.link import EngineLink
from modules.engine.messages import Message
from modules.errors import AtelierError
from modules.jobs.changes import Changes
from modules.jobs.dispatch import ImageTask
from modules.jobs.estimates import Known
from modules.jobs.outbox import Outbox
from modules.jobs.views import EngineState
from modules.queue.store import Cost
from modules.settings import Settings

log = logging.getLogger("atelier")

COSTS_SECONDS = 60.0
"""At most once in this time, what was learned about costs goes to disk."""


class CostStore(Protocol):
    """Where measured costs outlive the program; `modules.queue.store.JobStore` is one."""

    def costs(self) -> list[Cost]: ...
    def keep_costs(self, costs: Iterable[Cost]) -> None: ...


class EngineEvents(Protocol):
    """What engines say about jobs, on the thread of the worker's link."""

    def ready(self, worker: Worker) -> None:
        """An engine has come up."""

    def died(self, worker: Worker, cause: str) -> None: ...

    def gave_up(self, worker: Worker, cause: str) -> None:
        """It died, and will not come up again by itself."""

    def progress(self, worker: Worker, message: Message) -> None: ...

    def preview(self, worker: Worker, message: Message) -> None: ...

    def done(self, worker: Worker, message: Message) -> None: ...

    def failed(self, worker: Worker, message: Message) -> None: ...


class Worker:
    """See the module.

    Args:
        name: among workers.
        link: how its engine is reached.
        costs: where measured costs are kept.
        changes: its lock guards the worker's fields.
    """

    def __init__(self, name: str, link: EngineLink, costs: CostStore, changes: Changes) -> None:
        self.name, self.link, self.changes = name, link, changes
        self.state = EngineState("starting", "The engine is starting.")
        self.resident = ""
        """The checkpoint that was loaded last, "" after the engine's start."""
        self.costs, self.device = CostModel(), ""
        self.watched: set[str] = set()
        """The tasks that somebody looks at: their previews are asked for."""
        self._store, self._costs_kept = costs, time.monotonic()
        self._outbox = Outbox(lambda message: self.link.send(message))
        self._events: EngineEvents | None = None
        self._handlers: dict[str, Callable[[Message], None]] = {}

    def start(self, events: EngineEvents) -> None:
        """Start the engine; again, after it gave up."""
        self._events = events
        self._handlers = {
            "hello": self._hello,
            "loading": self._loading,
            "loaded": self._loaded,
            "costs": self._learn,
            "died": self._died,
            "gave_up": self._gave_up,
            "progress": lambda message: events.progress(self, message),
            "preview": lambda message: events.preview(self, message),
            "done": lambda message: events.done(self, message),
            "failed": lambda message: events.failed(self, message),
            "cancelled": lambda message: None,  # the record was closed when its owner asked
        }
        self.link.start(self.hear)

    def close(self) -> None:
        """Stop the engine, and keep what was learned of its device."""
        self._outbox.close()
        self.link.close()
        self.keep_costs()

    def hear(self, message: Message) -> None:
        """On the link's thread: a message of the engine.  Never raises."""
        try:
            handler = self._handlers.get(message.kind)
            if handler is None:
                log.warning("the engine sent a message of the unknown kind %r", message.kind)
            else:
                handler(message)
        except Exception:
            log.exception("while handling %r of the engine", message.kind)

    # ---- to the engine: none of these blocks

    def send(self, message: Message) -> None:
        self._outbox.put(message)

    def cancel(self, task: ImageTask) -> None:
        self.send(Message("cancel", {"task": task.id}))

    def finish(self, task: ImageTask) -> None:
        """Have an image end with the step that runs."""
        self.send(Message("finish", {"task": task.id}))

    def load(self, checkpoint: str) -> None:
        self.send(Message("load", {"checkpoint": checkpoint}))

    def unload(self) -> None:
        self.send(Message("unload"))

    def watch(self, tasks: set[str]) -> None:
        """Have previews of these tasks made, and of no others.  Under the lock."""
        if tasks != self.watched:
            self.watched = tasks
            self.send(Message("watch", {"tasks": sorted(tasks)}))

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

    def _hello(self, message: Message) -> None:
        data = message.data
        self._know_costs_of(data["device"].partition(" ")[0])
        self.set_state(EngineState("ready", "Ready.", data["device"], data["dtype"], data["attention"]))
        log.info("device: %s", data["device"])
        log.info("dtype: %s", data["dtype"])
        log.info("attention: %s", data["attention"])
        assert self._events is not None
        self._events.ready(self)

    def _loading(self, message: Message) -> None:
        self.set_state(replace(self.state, message=f"Loading {message.data['checkpoint']} …"))

    def _loaded(self, message: Message) -> None:
        with self.changes.lock:
            self.resident = message.data["checkpoint"]
            if message.data["seconds"] > 0.05:  # less means that it was there
                self.costs.learn(Call("load", self.resident), message.data["seconds"])
        self.set_state(replace(self.state, message="Ready."))

    def _learn(self, message: Message) -> None:
        with self.changes.lock:
            self.costs.put((Call(*call), seconds) for *call, seconds in message.data["costs"])
        if time.monotonic() - self._costs_kept > COSTS_SECONDS:
            self.keep_costs()

    def _died(self, message: Message) -> None:
        cause = message.data["cause"]
        log.error("%s", cause)
        with self.changes.lock:
            self.state, self.resident = EngineState("restarting", f"The engine is starting again: {cause}."), ""
            self.watched = set()
            self._outbox.drop()
        assert self._events is not None
        self._events.died(self, cause)
        with self.changes.lock:
            self._outbox.drop()  # what was decided for the old engine in between
        self._outbox.settle(5.0)  # what is being handed over comes back at once: nobody is there to take it

    def _gave_up(self, message: Message) -> None:
        cause = message.data["cause"]
        self.set_state(EngineState("failed", f"The engine could not start: {cause}"))
        assert self._events is not None
        self._events.gave_up(self, cause)

    def _know_costs_of(self, device: str) -> None:
        """Take up what earlier runs learned about this device."""
        if device == self.device:
            return
        known = [cost for cost in self._store.costs() if cost[0] == device]
        with self.changes.lock:
            self.device, self.costs = device, CostModel()
            self.costs.put((Call(*cost[1:6]), cost[6]) for cost in known)
            self.costs.take_fresh()


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
        """The state of the one that is best off: as long as one paints, all is well."""
        order = ("ready", "restarting", "starting", "failed")
        return min((worker.state for worker in self.all), key=lambda state: order.index(state.state))

    @property
    def given_up(self) -> bool:
        """Whether no engine will come up by itself."""
        return all(worker.state.state == "failed" for worker in self.all)

    def settle(self, timeout: float | None = None) -> bool:
        return all(worker.settle(timeout) for worker in self.all)
