"""The wall between web and engine: JSON messages, some followed by raw bytes, over a pipe.  No pickle.

A frame is two big-endian 32-bit lengths, the JSON text, then the blob (pixels).  To the engine go `configure` (once, first),
`submit` (with the pictures that an image starts from), `cancel`, `watch`, `load`, `unload` and `stop`; from it come `hello`,
`loading`, `loaded`, `progress`, `preview`, `done`, `failed`, `cancelled`, `costs`, `alive` (the link keeps it to itself) and
`broken`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from PIL import Image

_FRAME = struct.Struct(">II")
MAX_JSON = 4 * 2**20
MAX_BLOB = 256 * 2**20


@dataclass(frozen=True)
class Message:
    """`kind` says what; `data` holds its JSON fields; `blob` its raw bytes."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    blob: bytes = field(default=b"", repr=False)


def with_pictures(data: dict[str, Any], pictures: Sequence[Image.Image]) -> Message:
    """A `submit` of `data` with the raw pixels of RGB, RGBA or L pictures."""
    sizes = [[picture.mode, picture.width, picture.height] for picture in pictures]
    return Message("submit", {**data, "pictures": sizes}, b"".join(picture.tobytes() for picture in pictures))


def pictures_of(message: Message) -> list[Image.Image]:
    """What `with_pictures` packed.

    Raises:
        ValueError: the blob is not what the fields say.
    """
    pictures, start = [], 0
    for mode, width, height in message.data.get("pictures", ()):
        end = start + width * height * len(mode)
        pictures.append(Image.frombytes(mode, (width, height), message.blob[start:end]))
        start = end
    return pictures


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
