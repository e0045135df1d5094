"""The wall between web and engine: JSON messages, some followed by raw bytes, over a pipe.  No pickle.

A frame is two big-endian 32-bit lengths, the JSON text, then the blob (pixels).  To the engine go `configure` (once, first),
`submit`, `cancel`, `watch`, `load`, `unload` and `stop`; from it come `hello`, `loading`, `loaded`, `progress`, `preview`,
`done`, `failed`, `cancelled`, `costs`, `alive` (the link keeps it to itself) and `broken`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import IO, Any

_FRAME = struct.Struct(">II")
MAX_JSON = 4 * 2**20
MAX_BLOB = 256 * 2**20


@dataclass(frozen=True)
class Message:
    """`kind` says what; `data` holds its JSON fields; `blob` its raw bytes."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    blob: bytes = field(default=b"", repr=False)


def write_message(stream: IO[bytes], message: Message) -> None:
    """Write one frame and flush.  Raises OSError when the other side is gone."""
    text = json.dumps({"kind": message.kind, **message.data}).encode()
    stream.write(_FRAME.pack(len(text), len(message.blob)) + text)
    if message.blob:
        stream.write(message.blob)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """The next frame, or None at the end of the stream (also in the middle of a frame: the other side died).

    Raises:
        ValueError: what arrives is not a frame.
    """
    head = stream.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    text_length, blob_length = _FRAME.unpack(head)
    if text_length > MAX_JSON or blob_length > MAX_BLOB:
        raise ValueError(f"a frame of {text_length} + {blob_length} bytes is not ours")
    text = stream.read(text_length)
    blob = stream.read(blob_length) if blob_length else b""
    if len(text) < text_length or len(blob) < blob_length:
        return None
    data = json.loads(text)
    return Message(data.pop("kind"), data, blob)
