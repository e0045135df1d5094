"""Which images are with the engine, and which go next.  Plain data; knows no engine, database or clock.

A job is a number of images.  Images fly one by one, and users have equally many in the air; how the seconds of the device are
shared among those is the engine's affair.  When the engine dies, the jobs that were in flight are suspects: each flies alone
until it lands or kills the engine again, so that a poison job takes nobody along twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SLOTS = 16
"""Images with the engine at a time.  Enough to fill its forwards, few enough that newcomers wait for little."""


@dataclass(frozen=True)
class Flight:
    """Image `index` of a job, on its way to the engine or there."""

    job: str
    index: int

    @property
    def task(self) -> str:
        return f"{self.job}.{self.index}"


@dataclass
class _Entry:
    job: str
    user: str
    waiting: deque[int]
    flying: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    suspect: bool = False


class Dispatcher:
    """The order of images: the foremost job of each user first, and always the user with the fewest images in the air."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.slots = slots
        self._jobs: dict[str, _Entry] = {}
        self._paused: set[str] = set()
        self._last_turn: dict[str, int] = {}
        self._turn = 0

    def add(self, job: str, user: str, indexes: Iterable[int], suspect: bool = False) -> None:
        """A job joins at the end.  `suspect`: an engine died over it before."""
        self._jobs[job] = _Entry(job, user, deque(indexes), suspect=suspect)

    def remove(self, job: str) -> list[Flight]:
        """Forget a job.  Returns its images that are with the engine."""
        entry = self._jobs.pop(job, None)
        self._forget_users()
        return [Flight(job, index) for index in sorted(entry.flying)] if entry else []

    def drop_waiting(self, job: str) -> list[int]:
        """The images of a job that are not with the engine are not painted any more.  Returns their numbers."""
        entry = self._jobs.get(job)
        if entry is None:
            return []
        dropped = list(entry.waiting)
        entry.waiting.clear()
        if not entry.flying and not entry.kept:
            del self._jobs[job]
            self._forget_users()
        return dropped

    def arrange(self, order: Sequence[str]) -> None:
        """One user's jobs in another order: they change seats among themselves."""
        theirs = [job for job in order if job in self._jobs]
        seats = iter(theirs)
        self._jobs = {(mine := next(seats) if job in theirs else job): self._jobs[mine] for job in list(self._jobs)}

    def pause(self, user: str, paused: bool) -> list[Flight]:
        """Whether no more images of this user take off.  Returns those in the air, which the caller may `recall`."""
        (self._paused.add if paused else self._paused.discard)(user)
        return [flight for flight in self.flying() if self._jobs[flight.job].user == user]

    def recall(self, flight: Flight) -> None:
        """An image was taken back from the engine, or its pixels were dropped; it waits again, first of its job."""
        entry = self._jobs.get(flight.job)
        if entry is not None and flight.index in entry.flying | entry.kept:
            entry.flying.discard(flight.index)
            entry.kept.discard(flight.index)
            entry.waiting.appendleft(flight.index)

    def keep(self, job: str, index: int) -> None:
        """The engine has finished an image that cannot be saved yet: it is nowhere in flight, and not to be sent again."""
        entry = self._jobs.get(job)
        if entry is not None and index in entry.flying | set(entry.waiting):
            entry.flying.discard(index)
            if index in entry.waiting:  # it had been recalled, and was finished by then
                entry.waiting.remove(index)
            entry.kept.add(index)
            entry.suspect = False

    def flying(self) -> list[Flight]:
        return [Flight(entry.job, index) for entry in self._jobs.values() for index in sorted(entry.flying)]

    def jobs(self) -> list[tuple[str, str]]:
        """(job, user) in the order of the queue."""
        return [(entry.job, entry.user) for entry in self._jobs.values()]

    def positions(self) -> dict[str, int]:
        """How many jobs stand before each; 0 for one that has an image with the engine, or one to be saved."""
        return {job: 0 if entry.flying or entry.kept else ahead for ahead, (job, entry) in enumerate(self._jobs.items())}

    def take(self) -> list[Flight]:
        """The images to send now; they count as flying from here on."""
        suspects = [e for e in self._jobs.values() if e.suspect and (e.flying or (e.waiting and e.user not in self._paused))]
        if suspects:
            return [] if self.flying() or not suspects[0].waiting else [self._launch(suspects[0])]
        flights = []
        while entry := self._next():
            flights.append(self._launch(entry))
        return flights

    def landed(self, job: str, index: int) -> None:
        """This image is over: the engine answered, whatever the answer was, and a picture is saved."""
        if entry := self._jobs.get(job):
            entry.flying.discard(index)
            entry.kept.discard(index)
            if index in entry.waiting:  # it had been recalled, and was finished by then
                entry.waiting.remove(index)
            entry.suspect = False
            if not entry.waiting and not entry.flying and not entry.kept:
                del self._jobs[job]
                self._forget_users()

    def lost(self) -> tuple[list[str], list[str]]:
        """The engine died.  Returns the jobs that fly again, and those that are given up: they had killed it alone."""
        retried, given_up = [], []
        for entry in [e for e in self._jobs.values() if e.flying]:
            if entry.suspect:
                given_up.append(entry.job)
                del self._jobs[entry.job]
                continue
            retried.append(entry.job)
            entry.waiting.extendleft(sorted(entry.flying, reverse=True))
            entry.flying.clear()
            entry.suspect = True
        return retried, given_up

    def _launch(self, entry: _Entry) -> Flight:
        index = entry.waiting.popleft()
        entry.flying.add(index)
        self._turn += 1
        self._last_turn[entry.user] = self._turn
        return Flight(entry.job, index)

    def _forget_users(self) -> None:
        present = {entry.user for entry in self._jobs.values()}
        self._last_turn = {user: turn for user, turn in self._last_turn.items() if user in present}

    def _next(self) -> _Entry | None:
        """The foremost job of the user with the fewest images in the air; of several, the one whose turn is longest ago.

        Somebody with nothing in the air always finds a place.
        """
        in_flight: dict[str, int] = {}
        for entry in self._jobs.values():
            in_flight[entry.user] = in_flight.get(entry.user, 0) + len(entry.flying)
        full = sum(in_flight.values()) >= self.slots
        candidates = [
            e for e in self._jobs.values() if e.waiting and e.user not in self._paused and not (full and in_flight[e.user])
        ]
        return min(candidates, key=lambda e: (in_flight[e.user], self._last_turn.get(e.user, 0)), default=None)
