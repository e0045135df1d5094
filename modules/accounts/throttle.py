"""Login throttling: waits that double with each failure, per account and address, without ever locking one out.

Kept in memory: a restart forgives.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

FREE = 5
"""Failures before the first wait."""
MAX_WAIT = 900.0
"""Seconds."""
FORGET = 3600.0
"""Seconds after which a failure no longer counts."""
MAX_KEYS = 10_000


class Throttle:
    """Attempts by key, such as (account, address).  Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._failed: OrderedDict[object, tuple[int, float]] = OrderedDict()  # failures, when the last one was

    def begin(self, key: object) -> float:
        """0 when an attempt may be made now, and then it counts as failed until `succeeded`; else the seconds to wait.

        Counting first is what keeps a hundred attempts at once from being a hundred free ones.
        """
        with self._guard:
            now = self._clock()
            count, last = self._failed.get(key, (0, now))
            if now - last > FORGET:
                count = 0
            wait = last + _pause(count) - now
            if wait > 0:
                return wait
            self._failed[key] = (count + 1, now)
            self._failed.move_to_end(key)
            while len(self._failed) > MAX_KEYS:
                self._failed.popitem(last=False)
            return 0.0

    def succeeded(self, key: object) -> None:
        with self._guard:
            self._failed.pop(key, None)


def _pause(failures: int) -> float:
    """Seconds between the last of so many failures and the next attempt.

    >>> [_pause(n) for n in (0, 4, 5, 6, 7, 40)]
    [0.0, 0.0, 2.0, 4.0, 8.0, 900.0]
    """
    return 0.0 if failures < FREE else float(min(MAX_WAIT, 2 ** (failures - FREE + 1)))
