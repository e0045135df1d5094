"""A device that does what it was given when a test says so, with a clock that tests wind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(eq=False)
class FakeMark:
    streams: FakeStreams
    beside: bool
    copies: list[tuple[Tensor, Tensor]]
    behind: list[FakeMark]
    """Marks of the other stream that come first."""
    at: float | None = None

    @property
    def done(self) -> bool:
        return self.at is not None

    def wait(self) -> None:
        while not self.done:
            self.streams.waited += 1
            self.streams.advance(beside=self.beside)

    def seconds_since(self, start: FakeMark) -> float:
        assert self.at is not None, "the time of a mark is asked for that is not done"
        assert start.at is not None, "the time of a mark is asked for that is not done"
        return self.at - start.at


@dataclass(eq=False)
class FakeStreams:
    """Copies to the host hold rubbish until a mark behind them is done."""

    immediate = False
    now: float = 0.0
    waited: int = 0
    """How often the engine's thread waited for the device."""
    marks: dict[bool, list[FakeMark]] = field(default_factory=lambda: {False: [], True: []})
    """Those that are not done, in the first stream and in the second one."""
    _beside: bool = False
    _copies: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def mark(self) -> FakeMark:
        behind = self.marks[False][-1:] if self._beside else []
        mark = FakeMark(self, self._beside, self._copies, list(behind))
        self._copies = []
        self.marks[self._beside].append(mark)
        return mark

    def to_host(self, tensor: Tensor) -> Tensor:
        rubbish = torch.full_like(tensor, 77)
        self._copies.append((rubbish, tensor.clone()))
        return rubbish

    @contextmanager
    def beside(self, *tensors: Tensor) -> Iterator[None]:
        self._beside = True
        try:
            yield
        finally:
            self._beside = False

    def advance(self, marks: int = 1, seconds: float = 0.0, beside: bool = False) -> None:
        """Come to the next marks of a stream, `seconds` apart."""
        for _ in range(marks):
            mark = self.marks[beside].pop(0)
            while any(not before.done for before in mark.behind):
                self.advance(beside=False)
            self.now += seconds
            mark.at = self.now
            with torch.inference_mode():
                for rubbish, copied in mark.copies:
                    rubbish.copy_(copied)

    def finish(self) -> None:
        """Do everything that was launched."""
        self.advance(len(self.marks[False]))
        self.advance(len(self.marks[True]), beside=True)
