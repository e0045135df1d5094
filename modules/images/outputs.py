"""The outputs folder: dated folders, names, and saving a finished picture so that it is never torn, lost or replaced.

    outputs/2026-08-14/142530-3f2a9c1d-000-1234567890.png      day / time - job - number in the job - seed

A name derives from job, number and seed, never from a counter or a look into the folder.  With the job's own time given, a
replay after a crash arrives at the same name, finds the finished picture there, sees by the record inside that it is the
same one, and takes it instead of making a second.  This file knows where pictures go; `files` knows how, `encoding` in what
form.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from modules.errors import OutputError, RequestError
from modules.images import files, png
from modules.images.containers import WALKED, read_container
from modules.images.decode import decode
from modules.images.encoding import KINDS, SUFFIXES, Encoded, Form, encode
from modules.images.infotext import GenerationInfo, enlarging_items, parse_record, render, render_record
from modules.images.metadata import record_of
from modules.request import Upscaling

log = logging.getLogger("atelier")

T = TypeVar("T")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(r"\d{6}-[0-9A-Za-z]+-\d{3,}-\d+(-[0-9a-f]{8})?\.(png|jpg|webp|avif)")
_TRIES = 3
"""How often a save that the disk refused is begun anew."""
_RESERVED_S = 60
"""Seconds after which an empty file under a final name is no reservation of a living writer."""
_SPARE = 1 << 20


@dataclass(frozen=True)
class SavedImage:
    """A picture that is on disk for good.

    `name` is its path below the outputs folder with "/" (what the job list keeps), `sha256` of the file's bytes in hex,
    `infotext` what it says of itself, or would if it were not private; width and height in pixels.
    """

    path: Path
    name: str
    sha256: str
    infotext: str
    width: int
    height: int


class Outputs:
    """Where finished pictures go.  All state is in the folder: any thread or process may save at any time.

    Raises:
        OutputError: the folder is not there and cannot be made.
    """

    def __init__(self, folder: Path, form: Form | None = None) -> None:
        self.folder, self.form = folder.absolute(), form or Form()
        self._durable: Path | None = None  # the day's folder whose entry we flushed last
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _explained(error, self.folder) from None

    def check_writable(self, need: int = 0) -> None:
        """Find out before any work whether `need` bytes of pictures could be saved now.

        Raises:
            OutputError: they could not, why, and what to do.
        """
        try:
            today = self.folder / _day(time.time())
            free = shutil.disk_usage(self.folder).free
            if free < need + _SPARE:
                raise OutputError(_full(self.folder, free, need + _SPARE))
            with files.part(today if today.is_dir() else self.folder, b"can this be written?", flush=False):
                pass
        except OSError as error:
            raise _explained(error, self.folder) from None

    def save(
        self, pixels: bytes, width: int, height: int, info: GenerationInfo, job: str, index: int, when: float | None = None
    ) -> SavedImage:
        """Save picture `index` of `job`: RGB8 `pixels`, height x width x 3 bytes.

        When this returns, the picture survives power loss.  `when` is the time that its name tells, in seconds since 1970:
        the job's creation, so that a replay finds what an earlier run saved; now when None.

        Raises:
            OutputError: it could not be saved; why, and what to do.  Nothing torn or half is left.
        """
        file, infotext = _encode(pixels, width, height, info, job, index, self.form)
        when = time.time() if when is None else when
        folder = self.folder / _day(when)

        def write() -> SavedImage:
            self._make(folder)
            with files.part(folder, file.data) as part:
                for name in _names(when, job, index, info.request.seed):
                    target = folder / (name + file.suffix)
                    try:
                        part.publish(target)
                    except FileExistsError:
                        if (there := self._same(target, job, index, file.data)) is not None:
                            return there if there.infotext else replace(there, infotext=infotext)
                    else:
                        return self._saved(target, file.data, infotext, width, height)
            raise AssertionError("names never end")

        return _persistently(write, folder)

    def save_as(
        self, path: Path, pixels: bytes, width: int, height: int, info: GenerationInfo, job: str = "", index: int = 0
    ) -> SavedImage:
        """Save a picture under the very name that the user gave, wherever that is, in the format that its suffix says.

        Never replaces a file.  What that format cannot hold is saved as a PNG, under the name with .png instead.

        Raises:
            OutputError: the name is taken (choose another: we overwrite nothing), or the disk refused.
        """
        form = replace(self.form, kind=KINDS.get(path.suffix.lower(), "png"))
        file, infotext = _encode(pixels, width, height, info, job, index, form)
        target = path.absolute()
        if file.suffix != SUFFIXES[form.kind]:
            target = target.with_suffix(file.suffix)
            log.warning("%s cannot hold all of this picture; it is saved as %s", path.name, target.name)

        def write() -> SavedImage:
            with files.part(target.parent, file.data) as part:
                try:
                    part.publish(target)
                except FileExistsError:
                    raise _taken(target) from None
            return self._saved(target, file.data, infotext, width, height)

        return _persistently(write, target.parent)

    def check_target(self, path: Path) -> None:
        """What `save_as(path)` would say, asked before the picture is made.

        Raises:
            OutputError: the name is taken, or its folder is missing or not writable.
        """
        target = path.absolute()
        if os.path.lexists(target):
            raise _taken(target)
        try:
            with files.part(target.parent, b"can this be written?"):
                pass
        except OSError as error:
            raise _explained(error, target.parent) from None

    def find(self, job: str, index: int, seed: int, when: float) -> SavedImage | None:
        """The picture of this job and number that an earlier run saved and did not live to report, if there is one.

        In any format: the setting may have changed since.  A private picture cannot be told from another, and is made anew.
        """
        names = list(itertools.islice(_names(when, job, index, seed), 2))
        candidates = (self.folder / _day(when) / (name + suffix) for name in names for suffix in SUFFIXES.values())
        return next((saved for path in candidates if (saved := self._same(path, job, index)) is not None), None)

    def resolve(self, name: str) -> Path:
        """The file of a `SavedImage.name`.

        Raises:
            RequestError: it leads out of the outputs folder, or there is no such file (it was removed by hand).
        """
        path = self.folder / name
        try:
            inside = path.resolve(strict=True).is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside or not path.is_file():
            raise RequestError(f"{name[:200]!r} is not in the outputs folder; it may have been moved or removed")
        return path

    def delete(self, name: str) -> bool:
        """Remove the file of a `SavedImage.name`, durably.  False when it is not there (any more), or is no file of ours.

        Raises:
            OutputError: it cannot be removed.
        """
        try:
            path = self.resolve(name)
        except RequestError:
            return False
        if not files.is_ours(path):
            return False
        try:
            path.unlink(missing_ok=True)
            files.sync_folder(path.parent)
        except OSError as error:
            raise OutputError(
                f"{path.name} could not be deleted: {error.strerror or error}; change the permissions of its folder"
            ) from None
        return True

    def sweep(self) -> int:
        """Remove what dead writers left: their .part files and reserved, still empty names.  Returns how many files.

        What living writers, here or in another process, are working on stays.
        """
        removed = 0
        with suppress(OSError):
            with os.scandir(self.folder) as entries:
                days = [Path(e.path) for e in entries if _DAY.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
            for folder in [self.folder, *days]:
                with suppress(OSError):
                    removed += files.sweep(folder) + _drop_reservations(folder)
        if removed:
            log.info("removed %d unfinished files from %s", removed, self.folder)
        return removed

    def _make(self, folder: Path) -> None:
        """The day's folder, durable.  The outputs folder itself is not made again: if it vanished, its disk may be missing."""
        try:
            os.mkdir(folder)
        except FileExistsError:
            if folder == self._durable:
                return
        files.sync_folder(self.folder)
        self._durable = folder

    def _same(self, path: Path, job: str, index: int, wanted: bytes | None = None) -> SavedImage | None:
        """The picture at `path` if it is whole and its record says that it is this very one, or it has the `wanted` bytes."""
        if not job or not path.is_file():
            return None
        try:
            data = path.read_bytes()
            found = read_container(data, bounds=WALKED)
            if data == wanted:
                return self._saved(path, data, "", found.width, found.height)
            record = parse_record(record_of(found))
            if (record.job, record.index) != (job, index):
                return None
            decode(data)
        except (OSError, RequestError):
            return None
        return self._saved(path, data, render(record.info), found.width, found.height)

    def _saved(self, path: Path, data: bytes, infotext: str, width: int, height: int) -> SavedImage:
        name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else path.as_posix()
        return SavedImage(path, name, hashlib.sha256(data).hexdigest(), infotext, width, height)


def _day(when: float) -> str:
    return f"{datetime.fromtimestamp(when):%Y-%m-%d}"


def _names(when: float, job: str, index: int, seed: int) -> Iterator[str]:
    """Names to try, the nicest first, without suffix.  The first two derive from the job alone: a replay meets its own file."""
    clock = f"{datetime.fromtimestamp(when):%H%M%S}"
    job = re.sub(r"[^0-9A-Za-z]", "", job)[:32] or "0"
    yield f"{clock}-{job[:8]}-{index:03d}-{seed}"
    yield f"{clock}-{job}-{index:03d}-{seed}"
    while True:
        yield f"{clock}-{job}-{index:03d}-{seed}-{secrets.token_hex(4)}"


def _encode(
    pixels: bytes, width: int, height: int, info: GenerationInfo, job: str, index: int, form: Form
) -> tuple[Encoded, str]:
    """The file, and the infotext, which a private picture's file does not have.

    Too much metadata must not cost the picture: the request alone always fits.
    """
    for candidate in (info, replace(info, facts={}), replace(info, extras={}, facts={})):
        infotext, record = render(candidate), render_record(candidate, job, index)
        if len(infotext.encode()) + len(record.encode()) <= png.MAX_TEXT:
            break
    if info.request.private:
        return encode(pixels, width, height, "", "", form, {}), infotext
    return encode(pixels, width, height, infotext, record, form, _chunks(info)), infotext


def _chunks(info: GenerationInfo) -> dict[str, str] | None:
    """The texts of a PNG that was only enlarged, as A1111 writes them: its source's text as it was, and how it was enlarged
    beside it (`postprocessing.run_postprocessing`, v1.10.1); None for a picture that was painted."""
    if not isinstance(info.request, Upscaling):
        return None
    items = enlarging_items(info)
    texts = {png.PARAMETERS: info.request.source_text, "postprocessing": items, "extras": items}
    return {key: text for key, text in texts.items() if text}


def _persistently(write: Callable[[], T], folder: Path) -> T:
    """Do `write`; when the disk refuses, begin anew: an I/O error may be that of one block."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return write()
        except OSError as error:
            if not tries_left or error.errno not in (errno.EIO, errno.ENOENT, errno.EINTR, errno.ESTALE):
                raise _explained(error, folder) from None
    raise AssertionError("unreachable")


def _drop_reservations(folder: Path) -> int:
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                if found.st_size == 0 and time.time() - found.st_mtime > _RESERVED_S:
                    os.unlink(entry.path)
                    removed += 1
    return removed


def _taken(target: Path) -> OutputError:
    return OutputError(f"{target} exists and is not overwritten; use another name")


def _full(folder: Path, free: int, need: int) -> str:
    return (
        f"the disk of {_called(folder)} is full: {need / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free; "
        "make room, or choose another folder with --outputs-dir"
    )


def _called(folder: Path) -> str:
    """A folder as clients may know it: where it lies is for the log."""
    return f"{folder.parent.name}/{folder.name}" if _DAY.fullmatch(folder.name) else folder.name


def _explained(error: OSError, place: Path) -> OutputError:
    """Cause and remedy in plain words."""
    while error.errno == errno.ENOENT and not place.parent.exists():
        place = place.parent
    folder = _called(place)
    other = "choose another folder with --outputs-dir"
    causes = {
        errno.ENOSPC: f"the disk of {folder} is full; make room, or {other}",
        errno.EDQUOT: f"your share of the disk of {folder} is used up; make room, or {other}",
        errno.EROFS: f"{folder} is on a read-only disk; make it writable, or {other}",
        errno.EACCES: f"there is no permission to write to {folder}; change its permissions, or {other}",
        errno.EPERM: f"there is no permission to write to {folder}; change its permissions, or {other}",
        errno.ENOENT: f"the folder {folder} is gone; put it back (is its disk connected?), or {other}",
        errno.ENOTDIR: f"{folder} is not a folder; {other}",
        errno.EEXIST: f"{folder} is not a folder; {other}",
        errno.EIO: f"the disk of {folder} reports errors; check it, or {other}",
        errno.ENAMETOOLONG: f"a name in {folder} is too long for its disk; use a shorter one, or {other}",
    }
    cause = causes.get(error.errno or 0, f"{folder} cannot be written: {error.strerror or error}; {other}")
    return OutputError(f"the picture could not be saved: {cause}")
