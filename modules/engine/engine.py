"""The loop with one unit: choose a batch of device ops, run it, hand out the answers.

Only this thread touches the device.  Slow host work (reading a checkpoint) happens on threads while other pipelines go on.  The
engine speaks in messages (`modules.engine.messages`), whether its other side is a pipe or a test.

On a GPU the loop runs ahead of the device: the next call is launched while the last one runs (`streams.AHEAD`), so that the
host's work hides behind the device's.  Answers that stay on the device are handed out when they were launched; pixels, progress
and bills when they are done.
"""

from __future__ import annotations

import functools
import gc
import queue
import time
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.taesd import Half
from modules.checkpoints.upscaler_networks import UpscalerHandle
from modules.checkpoints.vaes import AUTOMATIC
from modules.diffusion.rows import can_join
from modules.engine import results
from modules.engine.calls import call_of
from modules.engine.costs import Call, CostModel
from modules.engine.extensions import asked_by, drop
from modules.engine.flight import Flight, Launched
from modules.engine.forgetting import Forgetting
from modules.engine.gauge import Gauge, counter_of
from modules.engine.inspection import in_memory
from modules.engine.lookahead import LookAhead
from modules.engine.messages import (
    Cancel,
    Cancelled,
    Costs,
    DropExtension,
    Finish,
    Inspect,
    LoadCheckpoint,
    Loaded,
    LoadFailed,
    Loading,
    Message,
    Progress,
    Stop,
    Submit,
    Unload,
    Upcoming,
    Watch,
    parse,
)
from modules.engine.probe import Probe
from modules.engine.reports import Reports
from modules.engine.runner import Runner, batch_key
from modules.engine.scheduler import Shares, Waiting, WaitingLoad, admit, choose
from modules.engine.streams import Pending, Span, Streams, streams_of
from modules.engine.task import Task
from modules.errors import AtelierError
from modules.pipelines.generate import generate
from modules.pipelines.ops import (
    ON_DEVICE,
    Check,
    Decode,
    DeviceOp,
    Encode,
    EncodeImage,
    Host,
    Load,
    LoadUpscaler,
    Meanwhile,
    Predict,
    Progressed,
    Report,
    Upscale,
)
from modules.pipelines.stages import checkpoints_of, stages_of
from modules.pipelines.upscaling import upscaled_picture
from modules.request import Upscaling, parse_request

LOAD_TURN_SECONDS = 0.02
"""While checkpoints wait for others to be done with, whether one may be loaded is asked this often."""
LOOK_SECONDS = 0.0005
"""While nothing can be launched, whether the device is done with something is looked at this often."""

QUICK_SECONDS = 0.005
"""So long one call of the device waits for host ops that have only just begun (tokenising takes a tenth of it), so that
pictures which come together start together: a batch that some of them miss would cost a forward more at each step."""

COSTS_SECONDS = 1.0
"""At most one message in this time with what calls of the device took."""


class Engine:
    """Owns the device and all pipelines in flight.

    Args:
        manager: where models come from.
        emit: receives the engine's messages; called from the engine's thread and from host threads.
        exact: run every pipeline's ops alone.
        probe: measure a model's forwards when it was loaded; without, budgets are what suits such devices in general.
        streams: of the device; those of the manager's unless given.
    """

    def __init__(
        self,
        manager: ModelManager,
        emit: Callable[[Message], None],
        exact: bool = False,
        probe: bool = False,
        streams: Streams | None = None,
    ) -> None:
        self.manager, self.emit, self.probes = manager, emit, probe
        self.streams = streams or streams_of(manager.device)
        self.flight = Flight()
        self.shares = Shares()
        self.costs = CostModel()
        self._launching: float | None = None
        """Since when this thread is within a call of the runner, on the monotonic clock."""
        gauge = Gauge(counter_of(manager.device))
        self.runner = Runner(exact, self.streams, make_room=self._make_room, say=self._note, gauge=gauge)
        self.probe = Probe(self.runner, self._learn)
        self._probed: weakref.WeakSet[ModelHandle] = weakref.WeakSet()
        self.reports = Reports(
            self.runner, self.streams, self.flight, lambda message: self.emit(message), self._lives, self._give_up
        )
        self.tasks: dict[str, Task] = {}
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._host = ThreadPoolExecutor(max_workers=2, thread_name_prefix="host")
        self._waits = ThreadPoolExecutor(max_workers=32, thread_name_prefix="waits")
        self._parked: dict[str, tuple[Future[Any], float]] = {}
        """What tasks wait for on host threads, and since when on the monotonic clock."""
        self._load_since: dict[str, float] = {}
        self._ahead = LookAhead(manager.prepare)
        self._forgetting = Forgetting(self._forget, lambda: self.inbox.put(Message("forget")))
        manager.forget = self._forgetting.ask
        self._costs_sent = float("-inf")
        self._tick = 0
        self._running = True

    def run(self) -> None:
        """Serve until `stop`.  Enters inference mode once; pipelines never do (it would leak out of their yields)."""
        if self.manager.device.type == "cuda":
            torch.cuda.set_device(self.manager.device)  # of this thread: kernels that are not torch's run there too
        with torch.inference_mode():
            try:
                while self._running:
                    self._receive()
                    self.tick()
            finally:
                for task in list(self.tasks.values()):
                    self._drop(task)
                self.flight.abandon()
                self._ahead.close()
                self._forgetting.end()
                for threads in (self._host, self._waits):
                    threads.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """Hand out what the device is done with, admit loads, collect finished host ops, launch one batch."""
        self._tick += 1
        self.flight.settle()
        self._forgetting.answer()
        self._admit_loads()
        self._ahead.look(self.tasks, self._load_since)
        self._collect()
        self._wait_for_quick_ops()
        waiting = [self._waiting(task) for task in self._launchable()]
        self.shares.present({w.user for w in waiting})
        batch = choose(waiting, self.runner.budget, can_join, self.shares.used, self._price)
        if batch:
            self._run(batch)
        elif self._may_measure:
            self._measure_on()
        self.reports.launch()
        self.flight.settle()
        if not self.tasks and not self.flight:
            self.shares.clear()

    @property
    def busy_since(self) -> float | None:
        """When the device began with what it does now, on the monotonic clock; for other threads."""
        return self._launching or self.flight.busy_since

    @property
    def _may_measure(self) -> bool:
        """Whether the device has nothing to do but to measure."""
        return self.probe.active and not self.tasks and not self.flight

    @property
    def measuring(self) -> bool:
        """Whether forwards of a model that was just loaded are still to be measured."""
        return self.probe.active or not self.inbox.empty()

    def _launchable(self) -> list[Task]:
        """The tasks whose op may be launched now: it is for the device, and that has no more calls in flight than it may."""
        waiting = [task for task in self.tasks.values() if isinstance(task.op, ON_DEVICE) and not task.launched]
        full = {beside: self.flight.full(beside) for beside in (False, True)} if waiting else {}
        return [task for task in waiting if not full[isinstance(task.op, Decode)]]

    def _collect(self) -> None:
        """Hand out the answers of host ops that have ended."""
        for task_id, (future, _) in list(self._parked.items()):
            if future.done() and task_id in self.tasks:
                del self._parked[task_id]
                self._answer(self.tasks[task_id], future.exception() or future.result())

    def _wait_for_quick_ops(self) -> None:
        """Where the device has something to do, give host ops that have only just begun the time to end."""
        end = time.monotonic() + QUICK_SECONDS
        while (left := end - time.monotonic()) > 0 and self._parked and self._launchable():
            begun = time.monotonic() - QUICK_SECONDS
            fresh = [future for future, since in self._parked.values() if since > begun]
            if not fresh:
                return
            wait(fresh, timeout=left)
            self._collect()

    def _run(self, batch: list[Waiting]) -> None:
        """Launch one call of the device and hand out its answers; what they bring about on the device is part of the call."""
        order = {task: number for number, task in enumerate(self.tasks)}
        batch = sorted(batch, key=lambda w: order[w.task])  # the same rows in the same order find what was made of them before
        tasks = [self.tasks[w.task] for w in batch]
        ops = [task.op for task in tasks if task.op is not None]
        self._launching = time.monotonic()
        try:
            start = self.streams.mark()
            on_the_way: dict[Span, list[tuple[Waiting, Task, Pending]]] = {}
            for waiting, task, answer in zip(batch, tasks, self.runner.run(ops), strict=True):
                if isinstance(answer, Pending):
                    task.launched = True
                    on_the_way.setdefault(answer.span, []).append((waiting, task, answer))
                else:
                    self._answer(task, answer)
            self.reports.launch()
            if not on_the_way:
                self._launched(ops[0], batch, Span(start, self.streams.mark()))
            for span, answers in on_the_way.items():
                hand_out = functools.partial(self._hand_out, [(task, pending) for _, task, pending in answers])
                self._launched(ops[0], [waiting for waiting, _, _ in answers], span, hand_out)
        finally:
            self._launching = None

    def _launched(self, op: DeviceOp, batch: list[Waiting], span: Span, hand_out: Callable[[], None] = lambda: None) -> None:
        """A call like `op` is in flight: its users pay what it is likely to take, and what it took when it is done."""
        rows: dict[str, int] = {}
        for waiting in batch:
            rows[waiting.user] = rows.get(waiting.user, 0) + waiting.rows
        call = call_of(op, sum(rows.values()))
        likely = 0.0 if self.streams.immediate else self.costs.seconds(call) or 0.0
        if likely:
            self.shares.charge(rows, likely)

        def settle() -> None:
            hand_out()
            self.shares.charge(rows, span.seconds - likely)
            self._learn(call, span.seconds)

        self.flight.add(Launched(span.end, settle, beside=isinstance(op, Decode), call=True))

    def _hand_out(self, answers: list[tuple[Task, Pending]]) -> None:
        """Give tasks that are still there the answers that have come to the host."""
        for task, pending in answers:
            if self._lives(task):
                try:
                    answer = pending.result()
                except Exception as error:
                    answer = error
                self._answer(task, answer)

    def _lives(self, task: Task) -> bool:
        return self.tasks.get(task.id) is task

    def _make_room(self, model: ModelHandle | UpscalerHandle) -> bool:
        """Memory ran out: let go of models that are not in use, and of what is remembered of them."""
        went = self.manager.make_room(model)
        self._forget()
        gc.collect()  # a model and its views refer to each other
        return went

    def _note(self, op: DeviceOp, sentence: str) -> None:
        """Say of the picture that waits for this op how it was carried out."""
        for task in self.tasks.values():
            if task.op is op:
                task.notes[sentence] = None

    def _price(self, key: Hashable) -> float:
        """Seconds per row, roughly: only the order within a call depends on it."""
        assert isinstance(key, tuple)
        kind, model, what = key
        factor = 1 if kind == "upscale" else model.latent.factor
        size = (what[2] * factor, what[1] * factor) if kind != "encode" else (0, 0)
        return self.costs.row_seconds(Call(kind, model.info.name, *size)) or 1.0

    def _learn(self, call: Call, seconds: float) -> None:
        self.costs.learn(call, seconds)
        self.costs.put(self.runner.gauge.take_fresh().items())
        now = time.monotonic()
        if now - self._costs_sent >= COSTS_SECONDS or not self.tasks:
            self._costs_sent = now
            costs = [[c.work, c.checkpoint, c.width, c.height, c.rows, seconds] for c, seconds in self.costs.take_fresh()]
            self.emit(Costs(costs).message())

    # ---- messages in

    def _receive(self) -> None:
        """Take all messages that are there; wait for the first only when the device has nothing to do.

        A thread that a task waits for says by a message that it has ended; only a load that waits its turn and work in flight
        are asked after.
        """
        idle = not self._launchable() and not self._may_measure
        turn = LOOK_SECONDS if self.flight else LOAD_TURN_SECONDS if self._load_since else None
        while self._running:
            try:
                message = self.inbox.get(block=idle, timeout=turn)
            except queue.Empty:
                return
            self._handle(message)
            idle = False

    def _handle(self, message: Message) -> None:
        match parse(message):
            case Submit() as submit:
                self._submit(submit)
            case Cancel(task_id):
                if task := self.tasks.get(task_id):
                    self._drop(task)
                    self.emit(Cancelled(task.id).message())
            case Finish(task_id):
                if task := self.tasks.get(task_id):
                    task.finishing = True
            case Watch(tasks):
                self.reports.watched = set(tasks)
            case Upcoming(checkpoints):
                self._ahead.hear(checkpoints)
            case LoadCheckpoint(checkpoint):
                self._host.submit(self._preload, checkpoint)
            case Loaded(checkpoint):  # from a host thread of ours
                self._measure(checkpoint)
            case Unload():
                self.manager.let_go()
            case DropExtension(extension):
                drop(extension)
            case Inspect():
                self.emit(in_memory(self.manager, self.tasks.values()).message())
            case Stop():
                self._running = False

    def _submit(self, submit: Submit) -> None:
        task_id = submit.task
        try:
            request = parse_request(submit.request)
            stages = stages_of(request)
            images = submit.images()
            pipeline = upscaled_picture(request, images) if isinstance(request, Upscaling) else generate(stages, images)
            task = Task(task_id, submit.user, pipeline, checkpoints=frozenset(checkpoints_of(stages)))
        except Exception as error:
            self._fail(task_id, error)
            return
        self.tasks[task_id] = task
        asked_by(request, task.picture)
        self._resume(task, lambda: task.start(self._tick))

    def _preload(self, checkpoint: str) -> None:
        """Bring a checkpoint in before anybody asks; a failure is reported to the image that asks."""
        try:
            self._load(checkpoint)
        except AtelierError:
            return

    # ---- pipelines

    def _waiting(self, task: Task) -> Waiting:
        op = task.op
        if isinstance(op, Predict):
            joins = tuple([op.model.denoiser.join_key(row) for row in op.rows])
            return Waiting(task.id, task.user, batch_key(op), task.since, len(op.rows), joins)
        assert isinstance(op, Encode | EncodeImage | Decode | Upscale)
        return Waiting(task.id, task.user, batch_key(op), task.since, len(op.chunks) if isinstance(op, Encode) else 1)

    def _answer(self, task: Task, answer: Any) -> None:
        if isinstance(answer, BaseException):
            error = answer
            self._resume(task, lambda: task.fail(error, self._tick))
        else:
            if isinstance(answer, ModelHandle):
                task.models.append(answer)
                task.leases.append(self.manager.lease(answer))
            if isinstance(answer, UpscalerHandle):
                task.upscalers.append(answer)
                task.leases.append(self.manager.lease(answer))
            self._resume(task, lambda: task.advance(answer, self._tick))

    def _resume(self, task: Task, step: Callable[[], None]) -> None:
        """Run the pipeline until it waits for the device or a thread, ends, or fails; failing costs this task only."""
        try:
            step()
            while isinstance(task.op, (Meanwhile, Report, Check, Progressed)):
                if isinstance(task.op, Progressed):
                    self.emit(Progress(task.id, task.op.step, task.op.steps).message())
                    task.advance(None, self._tick)
                    continue
                if isinstance(task.op, Meanwhile):
                    task.advance(self._host.submit(task.op.call), self._tick)
                    continue
                if isinstance(task.op, Check):
                    self.reports.check(task, task.op)
                    task.advance(None, self._tick)
                    continue
                done, steps = task.op.step, task.op.steps
                self._report(task, task.op)
                if end := task.finishing and done < steps:
                    task.ended_at = done, steps
                task.advance(end, self._tick)
        except Exception as error:
            self._give_up(task, error)
            return
        if isinstance(task.op, Load):
            if task.models:  # it was let in to all that it needs
                self._begin_load(task.id, task.op)
            else:
                self._load_since[task.id] = time.monotonic()
        elif isinstance(task.op, LoadUpscaler):
            self._park(task.id, functools.partial(self.manager.upscaler, task.op.name), self._host)
        elif isinstance(task.op, Host):
            self._park(task.id, task.op.call, self._waits if task.op.waits else self._host)
        elif task.op is None:
            self._finish(task)

    def _admit_loads(self) -> None:
        loads = []
        for task_id, since in self._load_since.items():
            task = self.tasks[task_id]
            assert isinstance(task.op, Load)
            loads.append(WaitingLoad(task_id, task.op.checkpoint, since, task.op.vae, task.checkpoints, task.op.taesd))
        under_way = (task.checkpoints for task in self.tasks.values() if task.id not in self._load_since)
        for load in admit(loads, set().union(*under_way), time.monotonic()):
            del self._load_since[load.task]
            self._begin_load(load.task, Load(load.checkpoint, load.vae, load.taesd))

    def _begin_load(self, task: str, op: Load) -> None:
        self._park(task, functools.partial(self._load, op.checkpoint, op.vae, op.taesd), self._host)

    def _park(self, task: str, call: Callable[[], Any], threads: ThreadPoolExecutor) -> None:
        """Let one of `threads` answer what this task waits for."""
        future = threads.submit(call)
        self._parked[task] = future, time.monotonic()
        future.add_done_callback(lambda _: self.inbox.put(Message("ended")))

    def _load(self, checkpoint: str, vae: str = AUTOMATIC, taesd: tuple[Half, ...] = ()) -> ModelHandle:
        """On a host thread."""
        start = time.monotonic()
        if not self.manager.is_loaded(checkpoint):
            self.emit(Loading(checkpoint).message())
        try:
            handle = self.manager.load(checkpoint, vae, taesd)
        except Exception:
            self.emit(LoadFailed(checkpoint).message())
            raise
        self.emit(Loaded(checkpoint, time.monotonic() - start).message())
        if self.probes and handle.network not in self._probed:
            self.inbox.put(Loaded(checkpoint).message())
        return handle

    def _measure(self, checkpoint: str) -> None:
        """Learn what forwards of a model take that is asked for the first time since it was loaded, by whatever.

        On a GPU, where the first forwards of each shape also choose algorithms and record them, while there is nothing else.
        """
        if self.manager.is_loaded(checkpoint):
            model = self.manager.load(checkpoint)
            if model.network not in self._probed:
                self._probed.add(model.network)
                self.probe.begin(model)
        while self.streams.immediate and self.probe.active:
            self._measure_on()

    def _measure_on(self) -> None:
        self._launching = time.monotonic()
        try:
            self.probe.go_on()
        finally:
            self._launching = None

    def _report(self, task: Task, report: Report) -> None:
        self.reports.report(task, report)

    def _give_up(self, task: Task, error: Exception) -> None:
        self._drop(task)
        self._fail(task.id, error)

    def _finish(self, task: Task) -> None:
        self._drop(task)
        self.emit(results.finished(task))

    def _drop(self, task: Task) -> None:
        task.close()
        self.tasks.pop(task.id, None)
        self._parked.pop(task.id, None)
        self._load_since.pop(task.id, None)
        self.reports.forget(task)
        self._forget()

    def _forget(self) -> None:
        """Drop what is remembered of models that are gone."""
        self.runner.forget(self.manager.holds)
        self.probe.forget(self.manager.holds)

    def _fail(self, task_id: str, error: BaseException) -> None:
        self.emit(results.failed(task_id, error))
