"""Messages on their way to an engine: handed over in order by a thread, so that nobody waits for a pipe."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from modules.engine.messages import Message, ToEngine

log = logging.getLogger("atelier")


class Outbox:
    """A queue before `send`, which may block for as long as an engine does not read."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._messages: deque[ToEngine] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sending = self._closed = False

    def put(self, message: ToEngine) -> None:
        """Have a message sent after all those before it.  Never blocks; lost without a word after `close`."""
        with self._changed:
            if self._closed:
                return
            self._messages.append(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drop(self) -> None:
        """Forget what was not handed over: its engine is gone, and the next one is not to get it."""
        with self._changed:
            self._messages.clear()
            self._changed.notify_all()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until all that was put is handed over; False when that takes longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._messages and not self._sending, timeout)

    def close(self) -> None:
        """Send nothing more.  A message that an engine does not take just now is not waited for."""
        with self._changed:
            self._closed = True
            self._messages.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._messages or self._closed)
                if self._closed:
                    return
                message = self._messages.popleft()
                self._sending = True
            try:
                self._send(message.message())
            except Exception:
                log.exception("while sending %r to the engine", message.kind)
