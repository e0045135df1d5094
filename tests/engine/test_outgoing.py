"""Messages of the engine's process: the device's thread never waits until its parent has read them."""

from __future__ import annotations

import contextlib
import os

import pytest

from modules.engine.__main__ import Outgoing
from modules.engine.messages import Message, read_message

LARGE = bytes(4 << 20)
"""More than a pipe holds."""


def test_a_picture_is_handed_over_while_nobody_reads() -> None:
    reader, writer = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    outgoing = Outgoing(writer)
    for number in range(3):
        outgoing.put(Message("done", {"task": str(number)}, LARGE))  # would wait for ever for the reader below
    read = [read_message(reader) for _ in range(3)]
    assert [message and (message.data["task"], len(message.blob)) for message in read] == [
        (str(n), len(LARGE)) for n in range(3)
    ]
    outgoing.put(Message("alive"))
    outgoing.close()
    last = read_message(reader)
    assert last is not None
    assert last.kind == "alive", "what was handed over before the end is written"
    for end in (reader, writer):
        end.close()


def test_a_parent_that_is_gone_ends_it() -> None:
    reader, writer = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    reader.close()
    outgoing = Outgoing(writer)
    outgoing.put(Message("done", {}, LARGE))
    outgoing._thread.join(timeout=60)
    with pytest.raises(BrokenPipeError):
        outgoing.put(Message("alive"))
    outgoing.close()
    with contextlib.suppress(BrokenPipeError):
        writer.close()
