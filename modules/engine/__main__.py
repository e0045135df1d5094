"""The engine process: `python -m modules.engine`, messages on stdin and stdout.

Started by `modules.engine.link.ProcessLink`.  It ends when it is told to, or when its parent dies (end of stdin).  Anything
that a library prints goes to stderr, so that it cannot tear a frame.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import BinaryIO

from modules.engine.messages import Message, read_message, write_message

GRACE = 3.0
"""Seconds that a forward may still take after the parent is gone."""


def main() -> int:
    """Serve one parent; 0 after `stop`, 1 when the engine could not start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock = threading.Lock()

    def emit(message: Message) -> None:
        with lock:
            write_message(sink, message)

    configuration = read_message(source)
    if configuration is None:
        return 1
    try:
        from modules.engine.setup import build_engine, hello

        engine, choices = build_engine(configuration.data, emit)
        emit(hello(choices))
    except Exception as error:
        traceback.print_exc()
        emit(Message("broken", {"error": str(error) or type(error).__name__}))
        return 1

    threading.Thread(target=_receive, args=(source, engine.inbox.put), name="inbox", daemon=True).start()
    try:
        engine.run()
    except BrokenPipeError:
        return 0
    return 0


def _receive(source: BinaryIO, put: object) -> None:
    assert callable(put)
    while (message := read_message(source)) is not None:
        put(message)
    put(Message("stop"))
    timer = threading.Timer(GRACE, lambda: os._exit(0))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
