"""The web side's end of the wall: sends messages to an engine, hears its messages, starts it anew when it dies.

Never imports torch.  `ProcessLink` keeps an engine process running that a `Launcher` starts; tests implement `EngineLink`.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from modules.engine.launcher import EngineProcess, Launcher, LocalLauncher
from modules.engine.messages import Died, GaveUp, Message, Stop, read_message, write_message

STILLBORN = 3
"""An engine that dies this often in a row before its hello is not started again until `start` is called anew."""


SILENCE_SECONDS = 60.0
"""An engine that said hello and is not heard for so long hangs or was stopped; it is killed and started anew."""
BEATS = 6
"""How often it says that it is alive in that time."""


class EngineLink(Protocol):
    """`start` delivers every message of the engine to `on_message`, on a thread of the link's own.

    Two kinds come from the link itself: `died` (with `cause`) when the engine is gone, and `gave_up` when it will not be
    started again.
    """

    def start(self, on_message: Callable[[Message], None]) -> None: ...

    def send(self, message: Message) -> None:
        """Hand over a message; blocks while the engine does not read.  Lost without a word when there is no engine, or it is
        just dying (a `died` follows)."""

    def close(self) -> None: ...

    def restart(self, why: str) -> bool:
        """Replace the engine by a new one; False when none runs."""


class ProcessLink:
    """The engine as a process of its own, restarted at once when it dies.

    Args:
        configuration: the fields of the `configure` message.
        log: where the engine's own output goes; None keeps only the last lines, for the cause of its death.
        silence: seconds without a word after which a running engine is given up.
        launcher: starts it; None starts it on this machine.
    """

    def __init__(
        self,
        configuration: dict[str, Any],
        log: Path | None = None,
        silence: float = SILENCE_SECONDS,
        launcher: Launcher | None = None,
    ) -> None:
        self.configuration = {"probe": True, "beat": silence / BEATS, **configuration}
        self.log, self.silence, self.launcher = log, silence, launcher or LocalLauncher()
        self._heard = time.monotonic()
        self._hung = False
        self.pid: int | None = None
        self._process: EngineProcess | None = None
        self._lock = threading.Lock()
        """Guards which process it is; held for moments."""
        self._writing = threading.Lock()
        """Held for a whole message, which takes as long as the engine does not read."""
        self._closing = threading.Event()
        self._asked = ""
        """Why the engine that runs now is to be replaced, "" where it is not."""
        self._thread: threading.Thread | None = None
        self._alive = False
        """Whether the engine that runs now has said hello."""
        self._stderr: collections.deque[str] = collections.deque(maxlen=20)

    def start(self, on_message: Callable[[Message], None]) -> None:
        self._thread = threading.Thread(target=self._supervise, args=(on_message,), name="engine-link", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        with self._writing:
            with self._lock:
                process = self._process if self._alive else None  # before its hello it has only its configuration
            if process is not None:
                _write(process, message)

    def restart(self, why: str) -> bool:
        """Replace the engine by a new one at once; `died` says so, with `why`.  False when there is none, or it just ends."""
        with self._lock:
            process = self._process
            if process is None or self._closing.is_set():
                return False
            self._asked = why
        process.kill()
        return True

    def close(self) -> None:
        """Stop the engine: politely, after 5 seconds by force; at once while it is only starting and has nothing to lose."""
        self._closing.set()
        with self._lock:
            process = self._process
        if process is not None:
            if self._alive:  # on a thread, as one that was stopped or hangs does not read this
                threading.Thread(target=self.send, args=(Stop().message(),), name="engine-stop", daemon=True).start()
            else:
                process.kill()
            if not process.wait(timeout=5.0):
                process.kill()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)

    def _supervise(self, on_message: Callable[[Message], None]) -> None:
        stillborn = 0
        while not self._closing.is_set():
            try:
                process = self._spawn()
            except OSError as error:
                on_message(GaveUp(f"no process could be started ({error.strerror or error})").message())
                return
            if process is None:
                return
            broken = self._listen(process, on_message)
            cause = self._cause(process)
            with self._lock:
                self._process, self.pid = None, None
                asked, self._asked = self._asked, ""
            _close(process.to_engine, process.from_engine)
            if self._closing.is_set():
                return
            if asked:
                stillborn = 0
                on_message(Died(asked, asked=True).message())
                continue
            stillborn = 0 if self._alive else stillborn + 1
            on_message(Died(broken or cause).message())
            if broken or stillborn >= STILLBORN:
                on_message(GaveUp(broken or cause).message())
                return

    def _spawn(self) -> EngineProcess | None:
        """A new engine, known to `close` from its first moment; None when that came first."""
        with self._lock:
            if self._closing.is_set():
                return None
            process = self.launcher.launch()
            self._process, self.pid, self._alive = process, process.pid, False
        self._hung = False
        threading.Thread(target=self._drain, args=(process,), name="engine-stderr", daemon=True).start()
        threading.Thread(target=self._watch, args=(process,), name="engine-watch", daemon=True).start()
        _write(process, Message("configure", self.configuration))
        return process

    def _listen(self, process: EngineProcess, on_message: Callable[[Message], None]) -> str:
        """Deliver messages until the engine is gone.  Returns why it could not start, if it said so."""
        broken = ""
        with contextlib.suppress(ValueError, OSError):
            while (message := read_message(process.from_engine)) is not None:
                self._heard = time.monotonic()
                if message.kind == "broken":
                    broken = message.data["error"]
                elif message.kind != "alive":
                    self._alive = self._alive or message.kind == "hello"
                    on_message(message)
        process.kill()
        return broken

    def _watch(self, process: EngineProcess) -> None:
        """Kill an engine that is there and says nothing.  While it starts nothing is expected: torch may take its time."""
        while process.running and not self._closing.wait(self.silence / BEATS):
            if self._alive and self._process is process and time.monotonic() - self._heard > self.silence:
                self._hung = True
                process.kill()  # also ends a stopped one
                return

    def _drain(self, process: EngineProcess) -> None:
        """Keep the last lines that the engine printed, for the cause of its death, and write all of them to the log."""
        log = self.log.open("ab") if self.log else None
        with contextlib.suppress(ValueError, OSError), contextlib.closing(log) if log else contextlib.nullcontext():
            for line in process.printed:
                self._stderr.append(line.decode(errors="replace").rstrip())
                if log:
                    log.write(line)
                    log.flush()
        _close(process.printed)

    def _cause(self, process: EngineProcess) -> str:
        process.wait()
        if self._hung:
            return f"the engine did not answer for {self.silence:.0f} seconds"
        return process.ending(next((line for line in reversed(self._stderr) if line), ""))


def _write(process: EngineProcess, message: Message) -> None:
    with contextlib.suppress(OSError, ValueError):
        write_message(process.to_engine, message)


def _close(*streams: IO[bytes]) -> None:
    for stream in streams:
        with contextlib.suppress(OSError):  # what is left to be written has no reader any more
            stream.close()
