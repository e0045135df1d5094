"""The thread on which scripts and generate forever go on: it looks whenever a job has changed, and every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

LOOK_SECONDS = 5.0
"""Until something that was refused (a full queue, a full disk) is tried again."""
JOIN_SECONDS = 30.0
"""That closing waits for a look that is under way."""


class Watcher:
    """Calls `look` on a thread of its own between `begin` and `close`: at once, after each `wake`, and every `LOOK_SECONDS`.

    Args:
        name: of the thread.
        listen: has a function called whenever a job changed, and returns how to end that (`App.listen`).
        look: what is done; it does not raise, and returns soon once `closing` is true.
        busy: whether something may have to be tried again; without it the thread sleeps until it is woken.
    """

    def __init__(
        self,
        name: str,
        listen: Callable[[Callable[[], None]], Callable[[], None]],
        look: Callable[[], None],
        busy: Callable[[], bool] = lambda: True,
    ) -> None:
        self._name, self._listen, self._look, self._busy = name, listen, look, busy
        self._woken, self.closing = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._unlisten: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Start the thread, whose first look is at once."""
        self._unlisten = self._listen(self.wake)
        self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Have it look soon.  Waits for nothing."""
        self._woken.set()

    def close(self) -> None:
        """End the thread, which finishes its look."""
        self.closing = True
        self.wake()
        if self._thread is not None:
            self._unlisten()
            self._thread.join(timeout=JOIN_SECONDS)
            self._thread = None

    def _loop(self) -> None:
        while not self.closing:
            self._woken.wait(LOOK_SECONDS if self._busy() else None)
            self._woken.clear()
            self._look()
