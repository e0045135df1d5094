"""Pictures that people bring to start from, and the masks drawn on them: kept by content, each user's in a folder of its own.

An id is the hash of a picture's pixels, so the same picture sent twice is one file, and nothing else of what was sent (names,
places, other programs' texts) stays.  A user sees own pictures only; space is bounded, and what unfinished jobs need stays
whatever the bounds say.  This file knows neither jobs nor HTTP: who needs what is asked of its owner.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from modules.errors import LimitError, OutputError, RequestError
from modules.images import files
from modules.images.decode import decode

PER_USER = 512 << 20
"""Bytes of pictures that one user may have here; the ones used longest ago make room for new ones."""
IN_TOTAL = 8 << 30
"""Bytes for all users together."""
LEAST = 64 << 10
"""Bytes that a picture counts at least, so that the number of files is bounded too."""

_ID = re.compile(r"[0-9a-f]{64}")
_COMPRESSION = 1  # of zlib: a few per cent larger than 4 in a third of its time, and a 4096x4096 picture is waited for


@dataclass(frozen=True)
class Upload:
    """A kept picture: its id, and its size in pixels."""

    id: str
    width: int
    height: int


class Uploads:
    """The folder of uploaded pictures.  Any thread may call.

    `needed` tells the ids that must stay; it is asked whenever room has to be made.
    """

    def __init__(
        self,
        folder: Path,
        needed: Callable[[], set[str]] = set,
        per_user: int = PER_USER,
        in_total: int = IN_TOTAL,
    ) -> None:
        self.folder, self._needed = folder, needed
        self._per_user, self._in_total = per_user, in_total
        self._lock = threading.Lock()

    def keep(self, data: bytes, user: str, name: str = "the picture") -> Upload:
        """Take a picture file in; the same pixels again are the same upload.

        Raises:
            RequestError: it is no picture that is read here (`modules.images.decode`).
            LimitError: pictures of unfinished jobs fill the place.
            OutputError: it could not be written.
        """
        image = decode(data, name)
        return self.keep_image(image, user)

    def keep_image(self, image: Image.Image, user: str) -> Upload:
        """The same for a decoded picture, RGB or RGBA.  Raises LimitError and OutputError as `keep`."""
        upload = Upload(pixel_id(image), image.width, image.height)
        if self.path(upload.id, user) is not None:
            return upload
        buffer = io.BytesIO()
        Image.frombytes(image.mode, image.size, image.tobytes()).save(buffer, "PNG", compress_level=_COMPRESSION)
        with self._lock:
            self._make_room(user, max(LEAST, buffer.tell()))
            self._write(self._path(upload.id, user), buffer.getvalue())
        return upload

    def path(self, upload: str, user: str) -> Path | None:
        """The PNG of this user's picture, None when there is no such one.  Asking counts as using it."""
        if not _ID.fullmatch(upload):
            return None
        path = self._path(upload, user)
        with suppress(OSError):
            if files.is_ours(path):
                os.utime(path)
                return path
        return None

    def open(self, upload: str, user: str) -> Image.Image:
        """The decoded picture, RGB or RGBA.

        Raises:
            RequestError: it is not here (any more), or its file was damaged meanwhile.
        """
        path = self.path(upload, user)
        if path is None:
            raise RequestError(missing(upload))
        try:
            image = decode(path.read_bytes(), "the kept picture")
        except (OSError, RequestError) as error:
            raise RequestError(f"the picture {upload[:8]} that was kept here cannot be read any more ({error})") from None
        if pixel_id(image) != upload:
            raise RequestError(f"the picture {upload[:8]} that was kept here was changed on disk; send it again")
        return image

    def merge(self, users: Iterable[str], owner: str) -> None:
        """Hand the pictures of `users` to `owner`.  What cannot be moved stays, and is missing to them like any that went."""
        target = self._path("0" * 64, owner).parent
        with self._lock:
            for user in users:
                folder = self._path("0" * 64, user).parent
                for path in list(folder.glob("*.png")):
                    with suppress(OSError):
                        target.mkdir(parents=True, exist_ok=True)
                        os.replace(path, target / path.name)
                with suppress(OSError):
                    folder.rmdir()

    # ---- inside

    def _path(self, upload: str, user: str) -> Path:
        return self.folder / hashlib.sha256(user.encode()).hexdigest()[:32] / f"{upload}.png"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.part(path.parent, data) as part, suppress(FileExistsError):
                part.publish(path)
        except OSError as error:
            raise OutputError(
                f"the picture could not be kept in {self.folder.name}: {error.strerror or error}; make room there, or use "
                "--data-dir"
            ) from None

    def _make_room(self, user: str, size: int) -> None:
        """Drop what was used longest ago and nobody needs, until `size` bytes fit.  Under the lock."""
        mine = self._path("0" * 64, user).parent
        everything = sorted(self._kept(), key=lambda kept: kept.used)
        spaces = (
            (self._per_user, [kept for kept in everything if kept.path.parent == mine]),
            (self._in_total, everything),
        )
        for space, kept in spaces:
            excess = sum(each.size for each in kept) + size - space
            if excess > 0:
                self._drop(kept, excess)

    def _drop(self, kept: list[_Kept], excess: int) -> None:
        needed = self._needed()
        for each in kept:
            if excess > 0 and each.path.stem not in needed:
                each.path.unlink(missing_ok=True)
                excess -= each.size
        if excess > 0:
            raise LimitError("the pictures that unfinished jobs start from fill their place; wait until some are finished")

    def _kept(self) -> Iterator[_Kept]:
        for path in self.folder.glob("*/*.png"):
            with suppress(OSError):  # it may go while we look
                found = path.lstat()
                if _ID.fullmatch(path.stem):
                    yield _Kept(path, max(LEAST, found.st_size), found.st_mtime_ns)

    def sweep(self) -> None:
        """Remove what writers left that died in the middle."""
        with suppress(OSError), os.scandir(self.folder) as folders:
            for folder in folders:
                files.sweep(Path(folder.path))


@dataclass(frozen=True)
class _Kept:
    path: Path
    size: int
    used: int


def pixel_id(image: Image.Image) -> str:
    """The id of a picture: SHA-256 in hex over mode, size and raw pixels."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def missing(upload: str) -> str:
    """The error for an uploaded picture that is not here, or is another user's: both look the same."""
    return f"the picture {upload[:8]} is not here (any more); send it again"
