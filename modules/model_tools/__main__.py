"""The child process of a tool: an order as a line of JSON on its standard input, lines of JSON about it on its standard output.

It has a low priority, and ends when its input does: whoever started it is gone then, and the half-made file goes too; what was
downloaded stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import IO, Any

from modules.errors import AtelierError
from modules.model_tools.get import get
from modules.model_tools.pickles import inspect
from modules.model_tools.requests import ConvertPickle, GetModel
from modules.model_tools.work import Order, Work

NICE = 10
ABANDONED = 3
"""Exit code when the other side is gone."""


def main() -> int:
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not for the other side
    order = Order.from_json(sys.stdin.buffer.readline().decode())
    threading.Thread(target=_watch, args=(order,), daemon=True).start()
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICE)

    def say(**data: Any) -> None:
        _line(said, data)

    try:
        work = Work(order, lambda doing, progress: say(doing=doing, progress=round(progress, 4)))
        if isinstance(order.request, GetModel):
            get(order.request, work)
        else:
            _with_torch(work)
        say(done={"file": work.made or order.target.name, "notes": work.notes})
    except MemoryError:
        say(error="the machine has not enough memory for this", kind="memory")
        return 1
    except AtelierError as error:
        say(error=str(error), kind=type(error).__name__)
        return 1
    except Exception as error:
        said_first = str(error).partition("\n")[0]
        say(error=f"{type(error).__name__}: {said_first}", kind="unknown")
        raise
    return 0


def _with_torch(work: Work) -> None:
    if isinstance(work.order.request, ConvertPickle) and not work.order.files["file"].is_dir():
        inspect(work.order.files["file"])  # most of what is refused is refused before torch is there

    import torch

    from modules.model_tools.tools import carry_out

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    with torch.inference_mode():
        carry_out(work)


def _watch(order: Order) -> None:
    """Until the input ends."""
    while os.read(sys.stdin.fileno(), 1024):  # not by the buffered stream, whose lock the end of the process would want
        pass
    with contextlib.suppress(OSError):
        order.discard()
    os._exit(ABANDONED)


def _line(to: IO[str], data: dict[str, Any]) -> None:
    try:
        to.write(json.dumps(data) + "\n")
    except OSError:  # the other side is gone; the watcher ends this
        pass


if __name__ == "__main__":
    sys.exit(main())
