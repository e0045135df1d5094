"""Which checkpoint is needed next, so that its file is read while another one works.

The engine knows it of the pictures that it has: one that waits for its checkpoint's turn, or goes on with a refiner later.  Of
jobs that were not sent yet the web process tells it (`messages.Upcoming`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from modules.engine.task import Task
from modules.pipelines.ops import Load

log = logging.getLogger(__name__)

MOST = 4
"""Checkpoints that are looked at: some of them may be loaded already."""


def needed_next(tasks: Mapping[str, Task], waiting: Mapping[str, float], upcoming: Sequence[str]) -> tuple[str, ...]:
    """The checkpoints that are needed next and not in use, in their order, `MOST` at most: what running tasks still need, then
    what has been waited for longest, then what jobs to come need first.

    `waiting` has, by task, since when it waits to be let in.
    """
    running = [task for id, task in tasks.items() if id not in waiting]
    used = {model.info.name for task in running for model in task.models}
    used |= {task.op.checkpoint for task in running if isinstance(task.op, Load)}  # which is being loaded
    later = (name for task in running if task.models for name in sorted(task.checkpoints))
    queued = (name for id in sorted(waiting, key=lambda id: waiting[id]) for name in _own_first(tasks[id]))
    wanted = (name for names in (later, queued, upcoming) for name in names if name not in used)
    return tuple(islice(dict.fromkeys(wanted), MOST))


def _own_first(task: Task) -> Collection[str]:
    own = getattr(task.op, "checkpoint", "")
    return sorted(task.checkpoints, key=lambda name: (name != own, name))


class LookAhead:
    """Has a manager `prepare` what is needed next, on a thread of its own, whenever those are other checkpoints than before."""

    def __init__(self, prepare: Callable[[Sequence[str]], None]) -> None:
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look-ahead")
        self._asked: tuple[str, ...] = ()
        self._closed = False
        self.upcoming: tuple[str, ...] = ()
        """What jobs need that were not sent yet, in their order."""

    def hear(self, upcoming: Iterable[str]) -> None:
        self.upcoming = tuple(upcoming)

    def look(self, tasks: Mapping[str, Task], waiting: Mapping[str, float]) -> None:
        """Begin to prepare what is needed next; costs nothing where that is what it was."""
        needed = needed_next(tasks, waiting, self.upcoming)
        if needed != self._asked:
            self._asked = needed
            self._thread.submit(self._prepared, needed)

    def _prepared(self, needed: Sequence[str]) -> None:
        try:
            self._prepare(needed)
        except Exception:  # its future is never read, and a load that follows raises what is wrong
            log.exception("while %s was prepared", ", ".join(needed))
        if self._closed:
            self._prepare(())

    def close(self) -> None:
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._prepare(())
