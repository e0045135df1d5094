"""Launchers: how an engine process is started, wherever that is.  The link talks over the streams of what was started.

Standard library only; never imports torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder: the engine is started in it, so that it finds `modules`."""


class EngineProcess(Protocol):
    """A started `python -m modules.engine`.  `to_engine` and `from_engine` carry the frames of `modules.engine.messages`;
    `printed` has what the engine prints, in lines.  Reading from either ends when the engine does."""

    pid: int
    """Its process id on the machine where it runs."""
    to_engine: IO[bytes]
    from_engine: IO[bytes]
    printed: IO[bytes]

    @property
    def running(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when that takes longer than `timeout` seconds."""

    def kill(self) -> None:
        """End it at once, whatever it does.  Nothing happens to one that has ended."""

    def ending(self, last_line: str) -> str:
        """How it ended, in words; waits until it has.  `last_line` is what it printed last."""


class Launcher(Protocol):
    """Starts engines of one kind, one after another: the next one when the link asks for a restart."""

    def launch(self) -> EngineProcess:
        """Raises OSError when no process can be started."""


class LocalLauncher:
    """Starts engines as processes of this machine, with pipes for their streams.

    Args:
        command: what to run.
    """

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "modules.engine")) -> None:
        self.command = tuple(command)

    def launch(self) -> EngineProcess:
        process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return _LocalProcess(process)


class _LocalProcess:
    """See `EngineProcess`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self.pid = process, process.pid
        self.to_engine, self.from_engine, self.printed = process.stdin, process.stdout, process.stderr

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float | None = None) -> bool:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self._process.kill()

    def ending(self, last_line: str) -> str:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (most often: the machine ran out of memory)" if name == "SIGKILL" else ""
            return f"the engine was ended by {name}{hint}"
        return f"the engine ended with code {code}" + (f": {last_line}" if last_line else "")
