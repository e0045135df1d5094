"""The outputs folder: dated folders, names, and saving a finished picture so that it is never torn, lost or replaced.

    outputs/2026-08-14/142530-3f2a9c1d-000-1234567890.png      day / time - job - number in the job - seed

Patterns may say otherwise (`modules.naming`).  A name derives from what is known of the picture, never from a look into the
folder, unless a pattern asks for A1111's running number (`counting`); one that is taken gets the job and the number behind it.
With the job's own time given, a replay after a crash arrives at the same name, finds the finished picture there, sees by the
record inside that it is the same one, and takes it instead of making a second.  This file knows where pictures go; `files`
knows how, `encoding` in what form.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from modules.errors import OutputError, RequestError
from modules.images import files, png
from modules.images.containers import WALKED, read_container
from modules.images.counting import Numbers
from modules.images.decode import decode
from modules.images.encoding import KINDS, SUFFIXES, Encoded, Form, encode
from modules.images.infotext import GenerationInfo, enlarging_items, parse_record, render, render_record
from modules.images.metadata import record_of
from modules.images.names import DAY, Naming, day_of, names_of
from modules.naming import DEFAULT_NAME, Facts
from modules.request import Upscaling

log = logging.getLogger("atelier")

T = TypeVar("T")

_NAME = re.compile(r"\d{6}-[0-9A-Za-z]+-\d{3,}-\d+(-[0-9a-f]{8})?\.(png|jpg|webp|avif)")
_TRIES = 3
"""How often a save that the disk refused is begun anew."""
_RESERVED_S = 60
"""Seconds after which an empty file under a final name is no reservation of a living writer."""
_SPARE = 1 << 20
_MAX_DEPTH = 16
_REMEMBERED = 1000
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
_NO_PICTURES = "sources"
"""The folder of the pictures that others were painted from; no pattern may put its own there."""


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

    `form` and `naming` may be replaced at any time; what is being saved keeps those that it began with.

    Raises:
        OutputError: the folder is not there and cannot be made.
    """

    def __init__(self, folder: Path, form: Form | None = None, naming: Naming | None = None) -> None:
        self.folder, self.form, self.naming = folder.absolute(), form or Form(), naming or Naming()
        self._numbers = Numbers(self.folder)
        self._durable: set[Path] = set()  # folders whose entries we flushed
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
            today = self.folder / day_of(time.time())
            free = shutil.disk_usage(self.folder).free
            if free < need + _SPARE:
                raise OutputError(_full(self.folder, free, need + _SPARE))
            with files.part(today if today.is_dir() else self.folder, b"can this be written?", flush=False):
                pass
        except OSError as error:
            raise _explained(error, self.folder) from None

    def save(
        self,
        pixels: bytes,
        width: int,
        height: int,
        info: GenerationInfo,
        job: str,
        index: int,
        when: float | None = None,
        facts: Facts | None = None,
    ) -> SavedImage:
        """Save picture `index` of `job`: RGB8 `pixels`, height x width x 3 bytes.

        When this returns, the picture survives power loss.  `when` is the time that its name tells, in seconds since 1970:
        the job's creation, so that a replay finds what an earlier run saved; now when None.  `facts` are what the patterns
        of names tell; without them it has the usual name.

        Raises:
            OutputError: it could not be saved; why, and what to do.  Nothing torn or half is left.
        """
        file, infotext = _encode(pixels, width, height, info, job, index, self.form)
        when = time.time() if when is None else when
        usual = self.folder / day_of(when)
        naming = self.naming
        wanted, stem = self._place(when, facts, naming)
        counts = facts is not None and naming.counts

        def write() -> SavedImage:
            folder = self._made(wanted, usual)
            with files.part(folder, file.data) as part:
                if counts:
                    for path in self._numbers.like(folder, stem, when):
                        if (same := self._same(path, job, index, file.data)) is not None:
                            return same if same.infotext else replace(same, infotext=infotext)
                    return self._saved(
                        self._numbers.publish(part, folder, stem + file.suffix), file.data, infotext, width, height
                    )
                for name in names_of(when, job, index, info.request.seed, stem):
                    target = folder / (name + file.suffix)
                    try:
                        part.publish(target)
                    except FileExistsError:
                        if (there := self._same(target, job, index, file.data)) is not None:
                            return there if there.infotext else replace(there, infotext=infotext)
                    else:
                        return self._saved(target, file.data, infotext, width, height)
            raise AssertionError("names never end")

        return _persistently(write, wanted)

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

    def find(self, job: str, index: int, seed: int, when: float, facts: Facts | None = None) -> SavedImage | None:
        """The picture of this job and number that an earlier run saved and did not live to report, if there is one.

        In any format: the setting may have changed since.  A private picture cannot be told from another, and is made anew; so
        is one whose name tells what is not known before it is painted, and then `save` meets the one that is there.
        """
        places = [(self.folder / day_of(when), "")]
        if facts is not None and not self.naming.usual and self.naming.foreseeable:
            places.append(self._place(when, facts, self.naming))
        if facts is not None and self.naming.counts and self.naming.foreseeable:
            known = (self._same(path, job, index) for path in self._numbers.like(*places.pop(), when))
            if (found := next((one for one in known if one is not None), None)) is not None:
                return found
        candidates = (
            folder / (name + suffix)
            for folder, stem in places
            for name in itertools.islice(names_of(when, job, index, seed, stem), 3 if stem else 2)
            for suffix in SUFFIXES.values()
        )
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
        for folder in self._folders():
            with suppress(OSError):
                removed += files.sweep(folder) + _drop_reservations(folder)
        if removed:
            log.info("removed %d unfinished files from %s", removed, self.folder)
        return removed

    # ---- inside

    def _folders(self) -> Iterator[Path]:
        """The folders that pictures may lie in: the days', and where a pattern says so, all but hidden ones and links."""
        waiting = [(self.folder, 0)]
        while waiting:
            folder, depth = waiting.pop()
            yield folder
            if depth < (1 if self.naming.usual else _MAX_DEPTH):
                with suppress(OSError), os.scandir(folder) as entries:
                    below = [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
                    waiting += [(path, depth + 1) for path in below if self._is_swept(path)]

    def _is_swept(self, folder: Path) -> bool:
        if self.naming.usual:
            return DAY.fullmatch(folder.name) is not None
        return not folder.name.startswith(".") and folder != self.folder / _NO_PICTURES

    def _place(self, when: float, facts: Facts | None, naming: Naming) -> tuple[Path, str]:
        """The folder, and the name that is wanted without suffix; "" is the usual one."""
        if facts is None:
            return self.folder / day_of(when), ""
        folders = naming.folder.render(facts)
        if folders and folders[0].lower() == _NO_PICTURES:
            folders[0] += "_"
        stem = "" if naming.name.text == DEFAULT_NAME else "".join(naming.name.render(facts))
        return self.folder.joinpath(*folders), stem

    def _made(self, folder: Path, usual: Path) -> Path:
        """`folder`, durable; where a file or a link out of the outputs is in its way, the day's instead.

        The outputs folder itself is not made again: if it vanished, its disk may be missing.
        """
        below = folder.relative_to(self.folder)
        try:
            for each in [*reversed(below.parents), below][1:]:
                if folder != usual and (self.folder / each).is_symlink():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                self._make(self.folder / each)
            return folder
        except OSError as error:
            if folder == usual or error.errno not in _IN_THE_WAY:
                raise
        log.warning("%s cannot be used for pictures: something else is there; the day's folder is taken", folder)
        self._make(usual)
        return usual

    def _make(self, folder: Path) -> None:
        try:
            os.mkdir(folder)
        except FileExistsError:
            if folder in self._durable:
                return
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        files.sync_folder(folder.parent)
        if len(self._durable) >= _REMEMBERED:
            self._durable.clear()
        self._durable.add(folder)

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
    return f"{folder.parent.name}/{folder.name}" if DAY.fullmatch(folder.name) else folder.name


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
