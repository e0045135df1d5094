"""Letting go of what an engine remembers of models that are gone, in time for a thread that loads another one.

Encoded prompts, row budgets and previews are kept by handles, which hold networks, and only the loop's thread may touch them.
So a thread that made room for a checkpoint asks the loop to forget, and waits until it has come around.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

SECONDS = 20.0
"""So long a thread waits for the loop at most; one call of the device may hold it up."""


class Forgetting:
    """Has the loop's thread call `forget`.

    Args:
        forget: drops what is remembered of models that are gone; only called on the loop's thread.
        wake: lets a loop that waits for messages come around.
    """

    def __init__(self, forget: Callable[[], None], wake: Callable[[], None]) -> None:
        self._forget, self._wake = forget, wake
        self._asked: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._loop = 0
        """The identifier of the loop's thread; 0 while it does not run, when nothing is remembered for it."""

    def ask(self) -> None:
        """From any thread: return when nothing is remembered of models that are gone, after `SECONDS` at most."""
        loop = self._loop
        if loop == threading.get_ident():
            self._forget()
        elif loop:
            forgotten = threading.Event()
            self._asked.put(forgotten)
            self._wake()
            if self._loop and not forgotten.wait(SECONDS):  # it may have ended just now
                log.warning("a call of the device took so long that other models' memory was not free when one was loaded")

    def answer(self) -> None:
        """On the loop's thread, each time that it comes around."""
        self._loop = threading.get_ident()
        self._answer()

    def end(self) -> None:
        """On the loop's thread: it ends, and threads that wait for it go on."""
        self._loop = 0
        self._answer()

    def _answer(self) -> None:
        while not self._asked.empty():
            asked = self._asked.get()
            self._forget()
            asked.set()
