"""The engine process: `python -m modules.engine`, messages on stdin and stdout.

Started by `modules.engine.link.ProcessLink`.  It ends on a `Stop` message, or when its parent dies (end of stdin).  Anything
that a library prints goes to stderr, so that it cannot tear a frame.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from modules.engine.messages import Message, read_message, write_message
from modules.extensions import lines
from modules.logs import PlainLines

if TYPE_CHECKING:
    from modules.engine.engine import Engine

GRACE = 3.0
"""Seconds that a forward may still take after the parent is gone."""

KEPT = 75
"""Exit code when code of an extension did not come back."""

HUNG_SECONDS = {"cuda": 120.0}
"""A call of such a device that takes longer will not come back: the engine stops saying that it is alive, and is replaced.
A CPU may take longer over a large picture, and does not hang."""


def main() -> int:
    """Serve one parent; 0 after `stop`, 1 when the engine could not start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _log_to_stderr()
    outgoing = Outgoing(sink)
    try:
        return _serve(source, outgoing)
    finally:
        outgoing.close()


def _serve(source: BinaryIO, outgoing: Outgoing) -> int:
    emit = outgoing.put
    configuration = read_message(source)
    if configuration is None:
        return 1
    gc.disable()  # what torch's import makes stays; looking for garbage in it is an eighth of the time until hello
    try:
        from modules.engine.extensions import HUNG_SECONDS as EXTENSION_SECONDS
        from modules.engine.extensions import load_halves
        from modules.engine.setup import build_engine, hello

        load_halves(configuration.data, emit)
        engine, choices = build_engine(configuration.data, emit)
        emit(hello(choices, configuration.data.get("workers", 1)))
        gc.freeze()  # what the libraries brought stays: no full collection walks it between two steps
    except Exception as error:
        traceback.print_exc()
        emit(Message("broken", {"error": str(error) or type(error).__name__}))
        return 1
    finally:
        gc.enable()

    threading.Thread(target=_receive, args=(source, engine.inbox.put), name="inbox", daemon=True).start()
    beat, hung = configuration.data.get("beat", 0.0), HUNG_SECONDS.get(choices.device.type, math.inf)
    in_extension = configuration.data.get("extension_seconds", EXTENSION_SECONDS)
    if beat:
        threading.Thread(target=_beat, args=(engine, emit, beat, hung, in_extension), name="beat", daemon=True).start()
    try:
        engine.run()
    except BrokenPipeError:
        return 0
    return 0


def _log_to_stderr() -> None:
    """What was loaded and what was chosen, beside everybody's warnings; the parent keeps it in a file."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainLines("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("modules").setLevel(logging.INFO)
    lines.install()


class Outgoing:
    """Messages on their way to the parent, written in order by a thread of their own.

    A finished picture is larger than a pipe holds, and the device must not wait until the parent has read it.  When the parent
    is gone the rest is dropped; the end of stdin says so to everybody else.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="outgoing", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Never blocks.

        Raises:
            BrokenPipeError: the parent is gone.
        """
        if not self._thread.is_alive():
            raise BrokenPipeError
        self._messages.put(message)

    def close(self) -> None:
        """Write what is left; a parent that does not read it is not waited for."""
        self._messages.put(None)
        self._thread.join(GRACE)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._messages.get()) is not None:
                write_message(self._sink, message)


def _receive(source: BinaryIO, put: object) -> None:
    assert callable(put)
    while (message := read_message(source)) is not None:
        put(message)
    put(Message("stop"))
    timer = threading.Timer(GRACE, lambda: os._exit(0))
    timer.daemon = True
    timer.start()


def _beat(engine: Engine, emit: Callable[[Message], None], seconds: float, hung: float, in_extension: float) -> None:
    """Say every few seconds that this process runs and that its device answers; end it when an extension keeps it."""
    from modules.engine.extensions import hangs

    while True:
        time.sleep(seconds)
        if name := hangs(in_extension):
            print(f"the extension {name} did not come back in {in_extension:.0f} seconds", file=sys.__stderr__, flush=True)
            os._exit(KEPT)
        since = engine.busy_since
        if since is None or time.monotonic() - since < hung:
            try:
                emit(Message("alive"))
            except OSError:  # the parent is gone; the end of stdin says so to everybody else
                return


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the inbox still waits in stdin, and the interpreter cannot close that under its hands
