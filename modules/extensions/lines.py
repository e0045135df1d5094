"""The log lines of extensions: they carry the extension's name, and a flood of them is cut.

An extension logs as it likes: through `logging.getLogger("atelier.extension.NAME")`, a logger called after its own module, the
root logger, or `print` and `warnings` while code of it is called.  `install` looks at all that a process logs and prints.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

LOGGER = "atelier.extension"
"""What the loggers of extensions are called, a dot and the extension's name behind it."""
_PREFIXES = (f"{LOGGER}.", "atelier_extensions.")

LINES = 200
"""So many lines of an extension are logged in `SECONDS`; what is beyond is counted and said."""
SECONDS = 60.0
MAX_PRINTED = 2000
"""Characters of a printed line; what is longer becomes several."""

_speaks: ContextVar[str] = ContextVar("atelier_extension", default="")


def logger_of(name: str) -> logging.Logger:
    """The logger of an extension."""
    return logging.getLogger(f"{LOGGER}.{name}")


def speaker() -> str:
    """The extension whose code runs on this thread, "" for none."""
    return _speaks.get()


@contextmanager
def speaking(name: str) -> Iterator[None]:
    """What is logged and printed inside of the block, on this thread, is of this extension."""
    token = _speaks.set(name)
    try:
        yield
    finally:
        _speaks.reset(token)


class Lines(logging.Filter):
    """Puts the extension's name before its lines, and cuts a flood; for handlers.

    Args:
        lines: of an extension in `seconds`.
        clock: in seconds.
    """

    def __init__(self, lines: int = LINES, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines, self._seconds, self._clock = lines, seconds, clock
        self._since: dict[str, tuple[float, int]] = {}
        """By extension: when the time began, and the lines in it."""
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        name = _extension_of(record)
        if not name:
            return True
        passes = getattr(record, "atelier_passes", None)
        if passes is None:  # by the first handler: others see the same record
            passes, left_out = self._count(name)
            record.atelier_passes = passes
            try:
                text = record.getMessage()
            except Exception:  # arguments that do not fit, or whose texts fail
                text = str(record.msg)
            said = f" ({left_out} lines of it were left out before this one)" if left_out else ""
            record.msg, record.args = f"extension {name}: {text}{said}", None
        return bool(passes)

    def _count(self, name: str) -> tuple[bool, int]:
        """Whether the next line of an extension is logged, and how many before it were not."""
        with self._lock:
            now = self._clock()
            since, lines = self._since.get(name, (now, 0))
            if now - since >= self._seconds:
                left_out = max(0, lines - self._lines)
                self._since[name] = now, 1
                return True, left_out
            self._since[name] = since, lines + 1
            return lines < self._lines, 0


class Printed:
    """A stream in whose place this stands, for `print`: what an extension writes is logged instead, line by line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._parts: dict[str, str] = {}

    def write(self, text: str) -> int:
        name = _speaks.get()
        if not name:
            return self.stream.write(text)
        *lines, rest = (self._parts.pop(name, "") + text).split("\n")
        for line in lines:
            self._log(name, line)
        while len(rest) > MAX_PRINTED:
            self._log(name, rest[:MAX_PRINTED])
            rest = rest[MAX_PRINTED:]
        if rest:
            self._parts[name] = rest
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @staticmethod
    def _log(name: str, line: str) -> None:
        if line.strip():
            logger_of(name).warning("%s", line)


def install(filter: Lines | None = None) -> Callable[[], None]:
    """Look at all that this process logs and prints from now on.  Returns how to end that.

    The handlers of the root logger must be there by now.
    """
    lines, handlers = filter or Lines(), list(logging.getLogger().handlers)
    out, err = sys.stdout, sys.stderr
    for handler in handlers:
        handler.addFilter(lines)
    sys.stdout, sys.stderr = Printed(out), Printed(err)

    def end() -> None:
        for handler in handlers:
            handler.removeFilter(lines)
        sys.stdout, sys.stderr = out, err

    return end


def _extension_of(record: logging.LogRecord) -> str:
    for prefix in _PREFIXES:
        if record.name.startswith(prefix):
            return record.name.removeprefix(prefix).split(".")[0]
    return _speaks.get()
