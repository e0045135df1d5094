"""The dispatcher: which image goes to which worker next.  Plain data; knows no engine, database or clock.

A job is a number of images.  Images are sent one by one, and users have equally many in flight; how the seconds of a device are
shared among those is its engine's affair.  Which worker gets an image is decided after whose image it is: by how many are in
flight there, and by whether the job's checkpoint is resident there.

When a worker's engine dies, the jobs that it was painting are suspects: each is tried alone on a worker, one at a time, until
an image of it is finished or it kills that engine too.  So a poison job takes no other along twice, and other workers go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

SLOTS = 16
"""Images with a worker at a time.  Enough to fill its forwards, few enough that newcomers wait for little."""

CHANGE = 4
"""What going over to another checkpoint counts when workers are compared, in images that are in flight there."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ImageTask:
    """Image `index` of a job, in flight to `worker` or there.  It is the same image whichever worker has it."""

    job: str
    index: int
    worker: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Its name in messages to and from the engine."""
        return f"{self.job}.{self.index}"

    @staticmethod
    def of(id: str) -> ImageTask:
        """The inverse of `id`; which worker has it is not part of that."""
        job, _, index = id.rpartition(".")
        return ImageTask(job, int(index))


class Lost(NamedTuple):
    """What a worker's death did to jobs: those that are tried again, those given up as they had killed it alone, and of the
    first those that are suspects only since now, to which the death is counted."""

    retried: list[str]
    given_up: list[str]
    blamed: list[str]


@dataclass
class _Entry:
    """Of a job's images, those of `in_flight` are with the worker of that name, among them those of `alone` as its only ones;
    those of `kept` are finished by that worker and not saved yet."""

    job: str
    user: str
    checkpoint: str
    waiting: deque[int]
    in_flight: dict[int, str] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    suspect: bool = False

    def leave(self, index: int) -> None:
        """The image is not with a worker any more."""
        self.in_flight.pop(index, None)
        self.alone.discard(index)

    @property
    def over(self) -> bool:
        return not (self.waiting or self.in_flight or self.kept)


class Dispatcher:
    """The order of images: the foremost job of each user first, and always the user with the fewest images in flight.

    Args:
        slots: images that a worker has at a time.
        workers: their names.
    """

    def __init__(self, slots: int = SLOTS, workers: Sequence[str] = ("",)) -> None:
        self.slots, self.workers = slots, tuple(workers)
        self._jobs: dict[str, _Entry] = {}
        self._paused: set[str] = set()
        self._last_turn: dict[str, int] = {}
        self._turn = 0

    # ---- jobs

    def add(self, job: str, user: str, indexes: Iterable[int], suspect: bool = False, checkpoint: str = "") -> None:
        """A job joins at the end.  `suspect`: an engine died over it before."""
        self._jobs[job] = _Entry(job, user, checkpoint, deque(indexes), suspect=suspect)

    def remove(self, job: str) -> list[ImageTask]:
        """Forget a job.  Returns its images that are in flight."""
        entry = self._jobs.pop(job, None)
        self._forget_users()
        return _tasks_of(entry) if entry else []

    def drop_waiting(self, job: str) -> list[int]:
        """The images of a job that are not in flight are not painted any more.  Returns their numbers."""
        entry = self._jobs.get(job)
        if entry is None:
            return []
        dropped = list(entry.waiting)
        entry.waiting.clear()
        self._drop_if_over(entry)
        return dropped

    def arrange(self, order: Sequence[str]) -> None:
        """One user's jobs in another order: they change seats among themselves."""
        theirs = [job for job in order if job in self._jobs]
        seats = iter(theirs)
        self._jobs = {(mine := next(seats) if job in theirs else job): self._jobs[mine] for job in list(self._jobs)}

    def pause(self, user: str, paused: bool) -> list[ImageTask]:
        """Whether no more images of this user are begun.  Returns those in flight, which the caller may `recall`."""
        (self._paused.add if paused else self._paused.discard)(user)
        return [task for task in self.in_flight() if self._jobs[task.job].user == user]

    def jobs(self) -> list[tuple[str, str]]:
        """(job, user) in the order of the queue."""
        return [(entry.job, entry.user) for entry in self._jobs.values()]

    def positions(self) -> dict[str, int]:
        """How many jobs stand before each; 0 for one that has an image in flight, or one to be saved."""
        return {job: 0 if entry.in_flight or entry.kept else ahead for ahead, (job, entry) in enumerate(self._jobs.items())}

    # ---- images

    def in_flight(self, job: str | None = None) -> list[ImageTask]:
        """The images in flight, of all jobs or of one."""
        entries = self._jobs.values() if job is None else [self._jobs[job]] if job in self._jobs else []
        return [task for entry in entries for task in _tasks_of(entry)]

    def worker_of(self, job: str, index: int) -> str | None:
        """The worker that this image is in flight to; None when it is not."""
        entry = self._jobs.get(job)
        return entry.in_flight.get(index) if entry else None

    def busy(self, job: str) -> bool:
        """Whether an image of the job is in flight, or finished and not saved yet."""
        entry = self._jobs.get(job)
        return entry is not None and bool(entry.in_flight or entry.kept)

    def take(self, ready: Collection[str] | None = None, resident: Mapping[str, str] = _NOTHING) -> list[ImageTask]:
        """The images to send now and where; they count as in flight from here on.

        `ready` are the workers that may have some, all unless given; `resident` the checkpoint that each has loaded.
        """
        able = [worker for worker in self.workers if ready is None or worker in ready]
        tasks = []
        held = {entry.in_flight[index] for entry in self._jobs.values() for index in entry.alone}  # by a suspect alone
        if not held and able and (suspect := self._suspect()):
            free = min(able, key=self._load)
            held = {free}  # gets nothing more until it is empty
            if not any(free in entry.in_flight.values() for entry in self._jobs.values()):
                tasks.append(self._launch(suspect, free, alone=True))
        able = [worker for worker in able if worker not in held]
        while able and (entry := self._next(able)):
            tasks.append(self._launch(entry, self._place(entry, able, resident)))
        return tasks

    def upcoming(self) -> list[str]:
        """The checkpoints of jobs that wait and have no image in flight, in the order of the queue, each once."""
        waits = (entry for entry in self._jobs.values() if entry.waiting and not entry.in_flight)
        return list(dict.fromkeys(entry.checkpoint for entry in waits if entry.checkpoint and entry.user not in self._paused))

    def recall(self, task: ImageTask) -> None:
        """An image was taken back from its worker, or its pixels were dropped; it waits again, first of its job."""
        entry = self._jobs.get(task.job)
        if entry is not None and (task.index in entry.in_flight or task.index in entry.kept):
            entry.leave(task.index)
            entry.kept.pop(task.index, None)
            entry.waiting.appendleft(task.index)

    def keep(self, job: str, index: int, worker: str = "") -> None:
        """A worker has finished an image, which is to be saved: it is nowhere in flight, and not to be sent again.

        Until it is saved it still takes one of that worker's slots, so that pixels do not pile up before a slow disk.
        """
        entry = self._jobs.get(job)
        if entry is not None and (index in entry.in_flight or index in entry.waiting):
            entry.leave(index)
            if index in entry.waiting:  # it had been recalled, and was finished by then
                entry.waiting.remove(index)
            entry.kept[index] = worker
            entry.suspect = False

    def finished(self, job: str, index: int) -> None:
        """This image is over: its picture is saved, or will never be."""
        if entry := self._jobs.get(job):
            entry.leave(index)
            entry.kept.pop(index, None)
            if index in entry.waiting:
                entry.waiting.remove(index)
            entry.suspect = False
            self._drop_if_over(entry)

    def lost(self, worker: str = "", excused: bool = False) -> Lost:
        """This worker's engine died: what was in flight there waits again, or its job is given up.

        `excused`: something else was to blame, and is not there any more; no job is given up.
        """
        lost = Lost([], [], [])
        for entry in list(self._jobs.values()):
            here = sorted(index for index, where in entry.in_flight.items() if where == worker)
            if not here:
                continue
            if entry.alone & set(here) and not excused:
                lost.given_up.append(entry.job)
                del self._jobs[entry.job]
                continue
            lost.retried.append(entry.job)
            if not entry.suspect:
                lost.blamed.append(entry.job)
            for index in here:
                entry.leave(index)
            entry.waiting.extendleft(reversed(here))
            entry.suspect = True
        return lost

    # ---- inside

    def _suspect(self) -> _Entry | None:
        """The foremost suspect that can be tried alone now."""
        able = (e for e in self._jobs.values() if e.suspect and e.waiting and not e.in_flight and e.user not in self._paused)
        return next(able, None)

    def _next(self, able: Sequence[str]) -> _Entry | None:
        """The foremost job of the user with the fewest images in flight; of several, the one whose turn is longest ago.

        Who has nothing in flight always finds a place.
        """
        in_flight: dict[str, int] = {}
        for entry in self._jobs.values():
            in_flight[entry.user] = in_flight.get(entry.user, 0) + len(entry.in_flight)
        full = all(self._load(worker) >= self.slots for worker in able)
        candidates = [
            e
            for e in self._jobs.values()
            if e.waiting and not e.suspect and e.user not in self._paused and not (full and in_flight[e.user])
        ]
        return min(candidates, key=lambda e: (in_flight[e.user], self._last_turn.get(e.user, 0)), default=None)

    def _place(self, entry: _Entry, able: Sequence[str], resident: Mapping[str, str]) -> str:
        """The worker for an image of this job: of those with a slot the one with the least to do, a change of checkpoint
        included where the job's is neither resident nor on its way."""

        def waits(worker: str) -> int:
            there = resident.get(worker, "") == entry.checkpoint or any(
                worker in other.in_flight.values() for other in self._jobs.values() if other.checkpoint == entry.checkpoint
            )
            return self._load(worker) + (0 if there else CHANGE)

        return min([worker for worker in able if self._load(worker) < self.slots] or able, key=waits)

    def _load(self, worker: str) -> int:
        return sum(where == worker for e in self._jobs.values() for where in (*e.in_flight.values(), *e.kept.values()))

    def _launch(self, entry: _Entry, worker: str, alone: bool = False) -> ImageTask:
        index = entry.waiting.popleft()
        entry.in_flight[index] = worker
        if alone:
            entry.alone.add(index)
        self._turn += 1
        self._last_turn[entry.user] = self._turn
        return ImageTask(entry.job, index, worker)

    def _drop_if_over(self, entry: _Entry) -> None:
        if entry.over:
            del self._jobs[entry.job]
            self._forget_users()

    def _forget_users(self) -> None:
        present = {entry.user for entry in self._jobs.values()}
        self._last_turn = {user: turn for user, turn in self._last_turn.items() if user in present}


def _tasks_of(entry: _Entry) -> list[ImageTask]:
    return [ImageTask(entry.job, index, worker) for index, worker in sorted(entry.in_flight.items())]
