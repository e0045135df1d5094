"""What was launched on the device and is not done: how much of it there may be, and what follows when it is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modules.engine.streams import AHEAD, Mark


@dataclass(eq=False)
class Launched:
    """Work up to the mark `end`; `settle` is called once that is done.

    `beside` says that it is in the second stream, `call` that it counts against `AHEAD`.
    """

    end: Mark
    settle: Callable[[], None]
    beside: bool = False
    call: bool = False
    since: float = field(default_factory=time.monotonic)


class Flight:
    """The work in flight, in the order in which it was launched."""

    def __init__(self, ahead: int = AHEAD) -> None:
        self.ahead = ahead
        self._launched: list[Launched] = []
        self._settled_at = float("-inf")

    def __len__(self) -> int:
        return len(self._launched)

    def add(self, launched: Launched) -> None:
        self._launched.append(launched)

    def full(self, beside: bool = False) -> bool:
        """Whether no call may be launched in this stream before another is done."""
        return sum(launched.call and launched.beside == beside for launched in self._launched) >= self.ahead

    @property
    def busy_since(self) -> float | None:
        """When the device began with what it does now, on the monotonic clock; None where it has nothing to do."""
        oldest = next(iter(self._launched[:1]), None)
        return None if oldest is None else max(oldest.since, self._settled_at)

    def settle(self) -> None:
        """Let follow what follows from work that is done, in the order of launching.

        The second stream waits for what was launched in the first before; so nothing of it is settled before that is, even
        where both are done.
        """
        for launched in list(self._launched):
            if launched.end.done:
                self._launched.remove(launched)
                self._settled_at = time.monotonic()
                launched.settle()
            elif not launched.beside:
                return

    def abandon(self) -> None:
        """Wait until the device lets go of what the work reads, and let nothing follow from it."""
        while self._launched:
            with contextlib.suppress(RuntimeError):  # of a device that failed: it does nothing any more
                self._launched.pop().end.wait()
