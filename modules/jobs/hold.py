"""Whether pictures and jobs can be written: while a disk refuses, nothing is begun, the reason is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from modules.errors import AtelierError
from modules.images.outputs import Outputs
from modules.jobs.changes import Changes
from modules.queue.store import JobStore

log = logging.getLogger("atelier")

HOLD_SECONDS = 5.0
"""How often it is looked whether pictures and jobs could be written; while they could not, nothing is begun."""


class Hold:
    """The disks of pictures and of the job list.

    Args:
        changes: its lock guards `reason`.
        outputs, store: what is to be written.
        again: called on a thread of its own when it is time to look again.
        backlog: called when all can be written; begins to save what waits for that, and returns whether anything does.
    """

    def __init__(
        self, changes: Changes, outputs: Outputs, store: JobStore, again: Callable[[], None], backlog: Callable[[], bool]
    ) -> None:
        self.reason = ""
        """Why nothing is begun, "" when all is well."""
        self.rev = 0
        """Grows with each change of `reason`."""
        self._changes, self._outputs, self._store = changes, outputs, store
        self._again, self._backlog = again, backlog
        self._looked = float("-inf")
        self._timer = self._rounds = threading.Timer(0, again)

    def watch(self) -> None:
        """From now on, also while nobody asks for anything, see every few seconds that the job list is in its place."""
        if self._changes.closing:
            return
        try:
            self._store.check_place()
        except AtelierError as error:
            self.begin(str(error))
        finally:
            self._rounds = threading.Timer(HOLD_SECONDS, self.watch)
            self._rounds.daemon = True
            self._rounds.start()

    def close(self) -> None:
        """Look no more.  After `Changes.closing` was set."""
        with self._changes.lock:
            self._timer.cancel()
            self._rounds.cancel()

    def may_begin(self) -> bool:
        """Whether pictures could be saved now, so that no device works for nothing.  Under `Changes.recording`: it writes."""
        if time.monotonic() - self._looked < HOLD_SECONDS:
            return not self.reason
        self._looked = time.monotonic()
        try:
            self._outputs.check_writable()
            if self.reason:  # by the list's disk, perhaps
                self._store.check_writable()
        except AtelierError as error:
            self.begin(str(error))
            return False
        if self._backlog():  # what is finished comes first; it ends the hold when all of it is written
            return False
        self.end()
        return True

    def look_again(self) -> None:
        """What was found out last may be wrong by now."""
        self._looked = float("-inf")

    def begin(self, reason: str) -> None:
        """Begin nothing for now, and look again soon."""
        with self._changes.lock:
            self._looked = time.monotonic()
            self._timer.cancel()
            if not self._changes.closing:
                self._timer = threading.Timer(HOLD_SECONDS, self._again)
                self._timer.daemon = True
                self._timer.start()
            if reason != self.reason:
                log.warning("nothing is begun: %s (pictures go to %s)", reason, self._outputs.folder)
                self._tell(reason)

    def end(self) -> None:
        """Go on."""
        with self._changes.lock:
            if self.reason:
                log.warning("pictures and jobs can be written again")
                self._tell("")

    def _tell(self, reason: str) -> None:
        self.reason = reason
        self.rev += 1
        self._changes.wake()
