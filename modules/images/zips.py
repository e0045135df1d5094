"""A zip of pictures, made while it is sent: never whole in memory or on disk.

Pictures are stored as they are, PNG is compressed already.  Names come from the caller, who makes them flat; those that are
equal, as patterns of names may make them in several folders, get a number.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, cast

from modules.images import files

CHUNK = 1 << 18
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Before that there was no zip."""


class _Pipe:
    """A file to write to that cannot be sought; `take` returns what was written since."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._position = 0

    def write(self, data: bytes) -> int:
        self._written += data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        data = bytes(self._written)
        self._written.clear()
        return data


def stream_zip(pictures: Iterable[tuple[str, Path]], when: float) -> Iterator[bytes]:
    """The bytes of a zip of (name, file); `when` is the time that its entries carry, in seconds since 1970.

    A file that is gone is left out and named in `missing.txt`.
    """
    pipe = _Pipe()
    there = datetime.fromtimestamp(when)
    moment = max(EARLIEST, (there.year, there.month, there.day, there.hour, there.minute, there.second))
    missing, used = [], set[str]()
    with zipfile.ZipFile(cast("IO[bytes]", pipe), "w", zipfile.ZIP_STORED) as archive:
        for given, path in pictures:
            name = _unused(given, used)
            try:
                source = path.open("rb") if files.is_ours(path) else None
            except OSError:
                source = None
            if source is None:
                missing.append(name)
                continue
            with source, archive.open(zipfile.ZipInfo(name, moment), "w") as entry:
                while data := source.read(CHUNK):
                    entry.write(data)
                    yield pipe.take()
        if missing:
            text = "These pictures were moved or removed from the outputs folder:\n" + "\n".join(missing) + "\n"
            archive.writestr(zipfile.ZipInfo("missing.txt", moment), text)
    yield pipe.take()


def _unused(name: str, used: set[str]) -> str:
    """`name`, with a number where it was used in any case; used from now on."""
    stem, number, suffix = Path(name).stem, 1, Path(name).suffix
    while name.casefold() in used:
        number += 1
        name = f"{stem} ({number}){suffix}"
    used.add(name.casefold())
    return name
