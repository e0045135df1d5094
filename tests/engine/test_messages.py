"""The wall's frames."""

from __future__ import annotations

import io
import struct

import pytest

from modules.engine.messages import Message, read_message, write_message


def test_messages_come_out_as_they_went_in() -> None:
    sent = [
        Message("submit", {"task": "a.0", "request": {"prompt": "naïve 🍎"}}),
        Message("done", {"width": 2}, bytes(range(12))),
    ]
    stream = io.BytesIO()
    for message in sent:
        write_message(stream, message)
    stream.seek(0)
    assert [read_message(stream), read_message(stream), read_message(stream)] == [*sent, None]


def test_a_frame_cut_anywhere_is_the_end_and_not_half_a_message() -> None:
    stream = io.BytesIO()
    write_message(stream, Message("done", {"task": "x"}, b"pixels"))
    frame = stream.getvalue()
    for length in range(len(frame)):
        assert read_message(io.BytesIO(frame[:length])) is None


def test_noise_is_not_a_frame() -> None:
    with pytest.raises(ValueError, match="not ours"):
        read_message(io.BytesIO(struct.pack(">II", 2**31, 0) + b"x" * 100))
