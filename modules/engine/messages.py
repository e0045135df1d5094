"""The wall between web and engine: JSON messages, some followed by raw bytes, over a pipe.  No pickle.

A frame is two big-endian 32-bit lengths, the JSON text, then the blob (pixels).  `Message` is a frame; what each kind says is
a dataclass of its own, whose fields are the frame's and whose `pixels` are its blob: `Submit(...).message()` packs, `parse`
unpacks.  To the engine go `configure` (once, first; a plain frame), `ToEngine` and `stop`; from it come `FromEngine`, `alive`
(the link keeps it to itself) and `broken`; `Died` and `GaveUp` are the link's own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import IO, Any, ClassVar

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


class _Kind:
    """A kind of message: a dataclass whose fields go as JSON, except `pixels`, which go as they are."""

    kind: ClassVar[str]

    def message(self) -> Message:
        """The frame."""
        data = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "pixels"}  # type: ignore[arg-type]
        return Message(self.kind, data, getattr(self, "pixels", b""))


# ---- to the engine


@dataclass(frozen=True)
class Submit(_Kind):
    """Begin an image: `request` has the fields of its request, `pictures` by role ("init", "mask") the (mode, width, height) of
    what it starts from, whose pixels follow each other in that order."""

    kind = "submit"
    task: str
    user: str
    request: dict[str, Any]
    pictures: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    pixels: bytes = field(default=b"", repr=False)

    @staticmethod
    def of(task: str, user: str, request: dict[str, Any], pictures: Mapping[str, Image.Image]) -> Submit:
        """With RGB, RGBA or L pictures by role."""
        sizes = {role: [picture.mode, picture.width, picture.height] for role, picture in pictures.items()}
        return Submit(task, user, request, sizes, b"".join(picture.tobytes() for picture in pictures.values()))

    def images(self) -> dict[str, Image.Image]:
        """The pictures by role.

        Raises:
            ValueError: the pixels are not what the sizes say.
        """
        images, start = {}, 0
        for role, (mode, width, height) in self.pictures.items():
            end = start + width * height * len(mode)
            images[role] = Image.frombytes(mode, (width, height), self.pixels[start:end])
            start = end
        return images


@dataclass(frozen=True)
class Cancel(_Kind):
    kind = "cancel"
    task: str


@dataclass(frozen=True)
class Finish(_Kind):
    """End an image with the step that runs, and decode what there is."""

    kind = "finish"
    task: str


@dataclass(frozen=True)
class Watch(_Kind):
    """Make previews of these tasks, and of no others."""

    kind = "watch"
    tasks: Sequence[str]


@dataclass(frozen=True)
class Upcoming(_Kind):
    """The checkpoints that jobs will need of which no image was sent yet, in their order; none is needed sooner than what
    images that were sent need."""

    kind = "upcoming"
    checkpoints: Sequence[str]


@dataclass(frozen=True)
class LoadCheckpoint(_Kind):
    """Bring a checkpoint in before an image asks for it."""

    kind = "load"
    checkpoint: str


@dataclass(frozen=True)
class Unload(_Kind):
    """Let go of all models."""

    kind = "unload"


@dataclass(frozen=True)
class Inspect(_Kind):
    """Say what is in memory now (`InMemory`)."""

    kind = "inspect"


@dataclass(frozen=True)
class DropExtension(_Kind):
    """Go on without an extension: what it added is not there any more for images that begin."""

    kind = "drop-extension"
    extension: str


@dataclass(frozen=True)
class Stop(_Kind):
    kind = "stop"


# ---- from the engine


@dataclass(frozen=True)
class Hello(_Kind):
    """The first: what the engine runs on, each choice with its reason; `share` is its part of a device that workers share,
    `room` what memory it has (`modules.jobs.memory.Room`)."""

    kind = "hello"
    device: str
    dtype: str
    attention: str
    kernels: str = ""
    accelerator: str = ""
    weights: str = ""
    pid: int = 0
    share: str = ""
    room: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loading(_Kind):
    kind = "loading"
    checkpoint: str


@dataclass(frozen=True)
class Loaded(_Kind):
    """A checkpoint is resident; that took `seconds`."""

    kind = "loaded"
    checkpoint: str
    seconds: float = 0.0


@dataclass(frozen=True)
class LoadFailed(_Kind):
    """A checkpoint that was `loading` is not; the images that want it fail with the reason."""

    kind = "load-failed"
    checkpoint: str


@dataclass(frozen=True)
class InMemory(_Kind):
    """The models in memory: of each its name, kind ("checkpoint", "upscaler", "lora"), bytes, device, users (those whose images
    run it now), and idle_seconds since it was used last."""

    kind = "in-memory"
    models: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Costs(_Kind):
    """What calls of the device took: (work, checkpoint, width, height, rows, seconds), as in `modules.engine.costs.Call`."""

    kind = "costs"
    costs: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Progress(_Kind):
    """`step` of `steps` of an image is done, over all its stages; it is in the stage `stage` (from 0) of `stages`."""

    kind = "progress"
    task: str
    step: int
    steps: int
    stage: int = 0
    stages: int = 1


@dataclass(frozen=True)
class PreviewImage(_Kind):
    """What an image looks like after a step, in a stage: RGB8, height x width x 3 bytes."""

    kind = "preview"
    task: str
    step: int
    width: int
    height: int
    stage: int = 0
    pixels: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Done(_Kind):
    """A finished image: RGB8, height x width x 3 bytes, and what its record says in addition to the request."""

    kind = "done"
    task: str
    width: int
    height: int
    schedule: str
    model_name: str
    model_hash: str
    extras: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    extensions: Sequence[str] = ()
    """Those that were used for it."""
    pixels: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Failed(_Kind):
    """An image failed: a sentence for its owner, and for the log a traceback where the error was not foreseen."""

    kind = "failed"
    task: str
    error: str
    trace: str = ""


@dataclass(frozen=True)
class Cancelled(_Kind):
    kind = "cancelled"
    task: str


@dataclass(frozen=True)
class ExtensionLoaded(_Kind):
    """The engine half of an extension is there, with these hooks."""

    kind = "extension-loaded"
    extension: str
    hooks: Sequence[str]


@dataclass(frozen=True)
class ExtensionRefused(_Kind):
    """The engine half of an extension could not be loaded; `hung` where it did not come back."""

    kind = "extension-refused"
    extension: str
    reason: str
    hung: bool = False


@dataclass(frozen=True)
class ExtensionRaised(_Kind):
    """An extension raised in a hook; `error` in one line."""

    kind = "extension-raised"
    extension: str
    hook: str
    error: str


# ---- from the link


@dataclass(frozen=True)
class Died(_Kind):
    """The engine is gone; `asked` where that was wanted, and nobody is to blame."""

    kind = "died"
    cause: str
    asked: bool = False


@dataclass(frozen=True)
class GaveUp(_Kind):
    """It will not be started again by itself."""

    kind = "gave_up"
    cause: str


ToEngine = Submit | Cancel | Finish | Watch | Upcoming | LoadCheckpoint | Unload | Inspect | DropExtension | Stop
FromEngine = (
    Hello | Loading | Loaded | LoadFailed | InMemory | Costs | Progress | PreviewImage | Done | Failed | Cancelled
    | ExtensionLoaded | ExtensionRefused | ExtensionRaised
)  # fmt: skip
FromLink = Died | GaveUp

_KINDS: dict[str, Any] = {each.kind: each for union in (ToEngine, FromEngine, FromLink) for each in union.__args__}


def parse(message: Message) -> ToEngine | FromEngine | FromLink | None:
    """What a frame says; None for a kind that is not of these.

    Raises:
        ValueError: a field is missing, or there is one too many.
    """
    found = _KINDS.get(message.kind)
    if found is None:
        return None
    try:
        typed: ToEngine | FromEngine | FromLink = found(**message.data, **({"pixels": message.blob} if message.blob else {}))
    except TypeError as error:
        raise ValueError(f"a message {message.kind!r} makes no sense: {error}") from None
    return typed


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
