"""What the index says of a picture's file, from the file alone: that of any program, and also that it is broken, and why."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from modules.errors import RequestError
from modules.images.containers import WALKED
from modules.images.reading import Found, read_picture

MAX_FILE = 128 << 20
"""Bytes of a file that is read."""
MAX_CAPTION = 200
MAX_WORDS = 20_000
"""Characters of a prompt that are indexed."""
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".avif"))

_OURS = re.compile(r"(?:.*/)?(\d{4})-(\d{2})-(\d{2})/(\d{2})(\d{2})(\d{2})-[0-9A-Za-z]+-(\d{3,9})-\d+(?:-[0-9a-f]+)?\.\w+")
"""Paths of `modules.images.outputs`: day, time, number in the job."""
_LORA = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})", re.IGNORECASE)


@dataclass(frozen=True)
class Stamp:
    """By which a change is noticed: bytes, and nanoseconds since 1970."""

    size: int
    changed: int


@dataclass(frozen=True)
class Described:
    """A file as it was when it was read.

    `sha256` of its bytes in hex, "" where it could not be read at all; `seed` in decimal digits, "" where none is said; `ours`:
    this program wrote it, for one of its users.  `broken` says why it is no readable picture, "" when all is well.
    """

    stamp: Stamp
    sha256: str = ""
    width: int = 0
    height: int = 0
    kind: str = ""
    seed: str = ""
    model: str = ""
    sampler: str = ""
    program: str = ""
    prompt: str = ""
    negative: str = ""
    loras: tuple[str, ...] = ()
    broken: str = ""
    ours: bool = False

    @property
    def caption(self) -> str:
        return " ".join(self.prompt.split())[:MAX_CAPTION]


def describe(path: Path, name: str) -> Described | None:
    """The file at `path`, whose path below the outputs is `name`; None when there is no such file, or a link in its place.

    Never raises: what cannot be read is broken.
    """
    try:
        data, stamp = read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return None
        return _unreadable(path, f"it cannot be read: {error.strerror or error}", name)
    except MemoryError:
        return _unreadable(path, "it does not fit into memory", name)
    ours = _OURS.fullmatch(name) is not None
    if data is None:
        return Described(stamp, broken=f"it has {stamp.size >> 20} MiB; at most {MAX_FILE >> 20} MiB are read", ours=ours)
    digest = hashlib.sha256(data).hexdigest()
    try:
        found = read_picture(data, "it", WALKED)
        if found.format == "PNG" and not _sums_hold(data):
            raise RequestError("it is damaged: the checksum of its pixels is wrong")
        return _described(stamp, digest, found, ours)
    except RequestError as error:
        return Described(stamp, digest, broken=str(error), ours=ours)
    except Exception as error:  # a reader's own mistake, or memory that is short: no file may end the scan
        return Described(stamp, digest, broken=f"it could not be read ({type(error).__name__})", ours=ours)


def read_file(path: Path) -> tuple[bytes | None, Stamp]:
    """The bytes of a regular file, None for one of more than `MAX_FILE`.

    Links are not followed, and a pipe in the place of a file does not make anybody wait.

    Raises:
        OSError: it cannot be read; ELOOP where it is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        stamp = Stamp(found.st_size, found.st_mtime_ns)
        if found.st_size > MAX_FILE:
            return None, stamp
        data = file.read(MAX_FILE + 1)
        return (data if len(data) <= MAX_FILE else None), stamp


def _unreadable(path: Path, reason: str, name: str) -> Described | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return Described(Stamp(found.st_size, found.st_mtime_ns), broken=reason, ours=_OURS.fullmatch(name) is not None)


def _described(stamp: Stamp, digest: str, found: Found, ours: bool) -> Described:
    prompt, negative = found.prompt[:MAX_WORDS], found.negative_prompt[:MAX_WORDS]
    named = [network.name for network in found.networks if network.kind == "lora"] + _LORA.findall(prompt)
    return Described(
        stamp,
        digest,
        found.width,
        found.height,
        found.format,
        _digits(found.fields.get("seed", found.items.get("Seed", ""))),
        _model(found)[:300],
        str(found.fields.get("sampler") or found.items.get("Sampler", ""))[:100],
        found.program,
        prompt,
        negative,
        tuple(dict.fromkeys(name[:200] for name in named))[:100],
        ours=ours or found.program == "Atelier",
    )


def _sums_hold(data: bytes) -> bool:
    """Whether the checksums of a PNG's pixels are right; the walk that read it has looked at those of its texts.

    Costs a tenth of decoding them, and shows bytes that rotted.
    """
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if kind == b"IDAT" and data[end : end + 4] != struct.pack(">I", zlib.crc32(view[at + 4 : end])):
            return False
        if kind == b"IEND":
            break
        at = end + 4
    return True


def _digits(seed: Any) -> str:
    text = str(seed).strip()
    return str(int(text)) if re.fullmatch(r"[0-9]{1,20}", text) else ""


def _model(found: Found) -> str:
    """Its name where the picture says one, else its hash."""
    items: Mapping[str, str] = found.items
    return items.get("Model", "") or (found.checkpoints[-1] if found.checkpoints else "")


def taken(name: str, changed: int) -> int:
    """When a picture was made, in microseconds since 1970: its file's time `changed` (nanoseconds).

    Where that contradicts the day and time in the name that we gave, as after a copy that kept no times, the name counts.
    """
    micros = max(1, changed // 1000)
    found = _OURS.fullmatch(name)
    if found is None:
        return min(micros, 2**52)
    year, month, day, hour, minute, second, number = map(int, found.groups())
    try:
        begun = round(datetime(year, month, day, hour, minute, second).timestamp() * 1e6)
    except (ValueError, OverflowError, OSError):
        return min(micros, 2**52)
    early, late = begun - _DAY, begun + 7 * _DAY  # a job may wait for days before its last picture is made
    return micros if early <= micros <= late else max(1, begun + min(number, 999_999))


_DAY = 86_400_000_000
