"""Which images are with the engine, and which go next.  Plain data; knows no engine, database or clock.

A job is a number of images.  Images fly one by one, so that users take turns by image and not by job.  When the engine dies,
the jobs that were in flight are suspects: each flies alone until it lands or kills the engine again, so that a poison job
takes nobody along twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
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
    suspect: bool = False


class Dispatcher:
    """The order of images; the oldest job of each user first, one image per user in turn."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.slots = slots
        self._jobs: dict[str, _Entry] = {}
        self._last_turn: dict[str, int] = {}
        self._turn = 0

    def add(self, job: str, user: str, indexes: Iterable[int]) -> None:
        self._jobs[job] = _Entry(job, user, deque(indexes))

    def remove(self, job: str) -> list[Flight]:
        """Forget a job.  Returns its images that are with the engine."""
        entry = self._jobs.pop(job, None)
        self._forget_users()
        return [Flight(job, index) for index in sorted(entry.flying)] if entry else []

    def flying(self) -> list[Flight]:
        return [Flight(entry.job, index) for entry in self._jobs.values() for index in sorted(entry.flying)]

    def position(self, job: str) -> int:
        """Jobs that stand before this one; 0 for one that has an image with the engine."""
        for ahead, entry in enumerate(self._jobs.values()):
            if entry.job == job:
                return 0 if entry.flying else ahead
        return 0

    def take(self) -> list[Flight]:
        """The images to send now; they count as flying from here on."""
        suspects = [entry for entry in self._jobs.values() if entry.suspect and (entry.waiting or entry.flying)]
        if suspects:
            return [] if self.flying() or not suspects[0].waiting else [self._launch(suspects[0])]
        flights = []
        while entry := self._next():
            flights.append(self._launch(entry))
        return flights

    def landed(self, job: str, index: int) -> None:
        """The engine answered for this image, whatever the answer was."""
        if entry := self._jobs.get(job):
            entry.flying.discard(index)
            entry.suspect = False
            if not entry.waiting and not entry.flying:
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
        """The oldest job of the user whose last turn is longest ago.  Somebody with nothing in flight always finds a place."""
        in_flight: dict[str, int] = {}
        for entry in self._jobs.values():
            in_flight[entry.user] = in_flight.get(entry.user, 0) + len(entry.flying)
        full = sum(in_flight.values()) >= self.slots
        candidates = [e for e in self._jobs.values() if e.waiting and not (full and in_flight[e.user])]
        return min(candidates, key=lambda e: self._last_turn.get(e.user, 0), default=None)
