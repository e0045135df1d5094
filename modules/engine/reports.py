"""What pipelines say while they run: progress, previews, and values that are to be numbers.

On a GPU all of it follows the device: it is launched behind a call, and said when the device has come to it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from modules.engine.flight import Flight, Launched
from modules.engine.messages import Message, PreviewImage, Progress
from modules.engine.runner import Runner
from modules.engine.streams import Streams
from modules.engine.task import Task
from modules.errors import NotFinite
from modules.pipelines.ops import Check, Report

log = logging.getLogger(__name__)

PREVIEW_SECONDS = 0.3
"""At most one preview of a task in this time; each costs a decode on the device."""


@dataclass(eq=False)
class Reports:
    """The reports of all tasks.

    Args:
        emit: gets the messages.
        lives: whether a task is still there: nothing is said of others.
        give_up: ends a task with an error.
    """

    runner: Runner
    streams: Streams
    flight: Flight
    emit: Callable[[Message], None]
    lives: Callable[[Task], bool]
    give_up: Callable[[Task, Exception], None]
    watched: set[str] = field(default_factory=set)
    """The tasks whose previews are watched by a user."""
    previewed: dict[str, float] = field(default_factory=dict)
    """When the last preview of a task was made, on the monotonic clock."""
    _checks: list[tuple[Task, Check]] = field(default_factory=list)
    """Asked for since the last call, and not launched yet."""
    _progress: list[tuple[Task, Message]] = field(default_factory=list)
    """To be emitted when the device is done with what was launched so far."""

    def check(self, task: Task, check: Check) -> None:
        """Where the device is done with the values look at once, else together with those of other tasks, later.

        Raises:
            NotFinite: they are known, and one is NaN or infinity.
        """
        if self.streams.immediate:
            check.now()
        else:
            self._checks.append((task, check))

    def report(self, task: Task, report: Report) -> None:
        progress = Progress(task.id, report.step, report.steps, report.stage, report.stages).message()
        if self.streams.immediate:
            self.emit(progress)
        else:
            self._progress.append((task, progress))
        due = time.monotonic() - self.previewed.get(task.id, -PREVIEW_SECONDS) >= PREVIEW_SECONDS
        if task.id in self.watched and due and report.step < report.steps:
            self._preview(task, report)

    def launch(self) -> None:
        """Bring what was asked to be checked since the last call to the host, in one copy; progress is reported behind it."""
        checks, progress = self._checks, self._progress
        if not checks and not progress:
            return
        self._checks, self._progress = [], []
        largest = self.runner.largest([check for _, check in checks]) if checks else torch.empty(0)
        messages = [(task, check.message) for task, check in checks]

        def settle() -> None:
            for (task, problem), magnitude in zip(messages, largest.tolist(), strict=True):
                if not math.isfinite(magnitude) and self.lives(task):
                    self.give_up(task, NotFinite(problem))
            for task, message in progress:
                if self.lives(task):
                    self.emit(message)

        self.flight.add(Launched(self.streams.mark(), settle))

    def forget(self, task: Task) -> None:
        self.previewed.pop(task.id, None)

    def _preview(self, task: Task, report: Report) -> None:
        """Show what the picture looks like now.  One that cannot be shown is painted all the same, without previews."""
        try:
            pending = self.runner.preview(report.model, report.denoised)
        except Exception as error:
            self._no_previews(task, error)
            return
        self.previewed[task.id] = time.monotonic()
        step, stage = report.step, report.stage

        def settle() -> None:
            if not self.lives(task):
                return
            try:
                pixels = pending.result()
            except Exception as error:
                self._no_previews(task, error)
                return
            height, width, _ = pixels.shape
            self.emit(PreviewImage(task.id, step, width, height, stage, pixels.numpy().tobytes()).message())

        self.flight.add(Launched(pending.span.end, settle, beside=True))

    def _no_previews(self, task: Task, error: Exception) -> None:
        log.warning("no previews of %s: %s", task.id, str(error).split("\n", 1)[0])
        self.previewed[task.id] = float("inf")
