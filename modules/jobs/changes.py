"""What all parts of the job service share: the lock around what they remember, and who is told when it changed."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Changes:
    """`lock` guards the memory of the job service and is waited on for changes.

    It is held for moments only: no file, no pipe and no database is touched under it, so who looks never waits for a device or
    a disk.  What has to be recorded before it is true is serialised by `recording` instead, which is held over the record and
    the change in memory.  Who needs both takes `recording` first.
    """

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.recording = threading.RLock()
        self.closing = False
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, on any thread, whenever a job or a worker changed.  Returns how to end that."""
        with self.lock:
            self._listeners.append(listener)

        def end() -> None:
            with self.lock:
                self._listeners.remove(listener)

        return end

    def wake(self) -> None:
        """Something changed.  Under the lock."""
        self.lock.notify_all()
        for listener in self._listeners:
            listener()
