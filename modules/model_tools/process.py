"""A tool's child process, seen from outside: started, listened to, ended.  No torch: the server and the command line use it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modules.errors import AtelierError
from modules.model_tools.work import Order
from modules.settings import ROOT

COMMAND = (sys.executable, "-m", "modules.model_tools")


class ToolFailed(AtelierError):
    """The tool says why it made nothing."""


class ToolKilled(AtelierError):
    """The process was ended from outside, most often because memory ran out; a second try may work."""


@dataclass(frozen=True)
class Outcome:
    """The name of the new file, and what the user should know of it."""

    file: str
    notes: tuple[str, ...]


class ToolProcess:
    """One order in a process of its own."""

    def __init__(self, order: Order, command: Sequence[str] = COMMAND) -> None:
        self._order, self._command = order, tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._thread: threading.Thread | None = None
        """Who listens to it; only there its pipes are closed."""

    def run(self, say: Callable[[str, float], None]) -> Outcome:
        """Start it and wait for its end; whatever happens, no half-made file is left, but for downloads.

        Raises:
            ToolFailed, ToolKilled: as they say.
        """
        self._thread = threading.current_thread()
        try:
            with self._lock:
                if self._ended:
                    raise ToolKilled("it was stopped before it began")
                process = self._process = self._started()
            return self._listen(process, say)
        except OSError as error:
            raise ToolKilled(f"no process can be started for it: {error.strerror}") from None
        finally:
            self.end()
            with contextlib.suppress(OSError):
                self._order.discard()

    def end(self) -> None:
        """End the process at once.  May be called from any thread, at any time."""
        with self._lock:
            self._ended, process = True, self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None and threading.current_thread() is self._thread:
                        pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the process that asked, which ends this one and tidies up
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._order.as_json().encode() + b"\n")
            process.stdin.flush()
        return process

    def _listen(self, process: subprocess.Popen[bytes], say: Callable[[str, float], None]) -> Outcome:
        assert process.stdout is not None
        done: dict[str, Any] | None = None
        failure = printed = ""
        for line in process.stdout:
            data = _json(line)
            if data is None:
                printed = line.decode("utf-8", "replace").strip()[:300] or printed
            elif "done" in data:
                done = data["done"]
            elif "error" in data:
                failure = str(data["error"])
            else:
                say(str(data.get("doing", "")), float(data.get("progress", 0.0)))
        code = process.wait()
        if done is not None and code == 0:
            return Outcome(str(done["file"]), tuple(map(str, done["notes"])))
        if failure:
            raise ToolFailed(failure)
        raise ToolKilled(_ending(code, printed))


def _json(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _ending(code: int, printed: str) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hints = {
            "SIGKILL": " (most often: the machine ran out of memory)",
            "SIGXCPU": " (it took far longer than a file of this size may)",
        }
        return f"the process was ended by {name}{hints.get(name, '')}"
    return f"the process ended with code {code}" + (f": {printed}" if printed else "")
