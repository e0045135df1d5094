"""The wall's frames."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest

from modules.engine.messages import (
    Costs,
    Done,
    Hello,
    LoadFailed,
    Message,
    Submit,
    Unload,
    Upcoming,
    Watch,
    parse,
    read_message,
    write_message,
)


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


@pytest.mark.parametrize(
    "typed",
    [
        Submit("a.0", "me", {"prompt": "naïve 🍎", "steps": 2}, {"init": ["RGB", 2, 1]}, bytes(range(6))),
        Submit("a.0", "me", {"prompt": "x"}, {}),
        Watch(["a.0", "b.1"]),
        Upcoming(["tiny"]),
        Unload(),
        Hello("cpu (nothing else)", "float32", "sdpa", 12),
        LoadFailed("tiny"),
        Costs([["predict", "tiny", 64, 64, 2, 0.5]]),
        Done("a.0", 2, 1, "Karras", "tiny", "0" * 10, {"Clip skip": "2"}, {"notes": "none"}, ["freeu"], bytes(6)),
    ],
    ids=lambda typed: typed.kind,
)
def test_what_is_said_is_what_is_heard(typed: Any) -> None:
    stream = io.BytesIO()
    write_message(stream, typed.message())
    stream.seek(0)
    message = read_message(stream)
    assert message is not None
    assert (message.kind, parse(message)) == (typed.kind, typed)


def test_a_message_that_lacks_a_field_or_has_another_makes_no_sense() -> None:
    for data in ({"task": "a.0", "step": 1}, {"task": "a.0", "step": 1, "steps": 2, "colour": 3}):
        with pytest.raises(ValueError, match="a message 'progress' makes no sense"):
            parse(Message("progress", data))
    assert parse(Message("configure", {"device": "cpu"})) is None
