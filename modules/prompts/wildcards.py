"""The lists behind `__name__`: text files in a folder, one value per line.

A name from a prompt is only ever compared with the names that a walk through the folder found; it never becomes part of a path.
How values are drawn is `dynamic`'s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modules.prompts.styles import decoded
from modules.request import clean_text

MAX_FILES = 20_000
MAX_BYTES = 8 * 2**20
"""Larger files are passed over."""
MAX_STARS = 4
"""Stars of one pattern."""


@dataclass
class Wildcards:
    """All `*.txt` below `folder` (None: no folder, no names).

    Blank lines and lines that begin with # are no values.  Files may change at any time; what was read is kept until they do.
    """

    folder: Path | None
    _kept: dict[Path, tuple[tuple[int, int], tuple[str, ...]]] = field(default_factory=dict, repr=False)

    def lists(self) -> Lists:
        """What is in the folder now."""
        found: dict[str, Path] = {}
        if self.folder is not None:
            for folder, subfolders, files in os.walk(self.folder):
                subfolders.sort()
                for file in sorted(files):
                    if file.lower().endswith(".txt") and len(found) < MAX_FILES:
                        path = Path(folder, file)
                        found[path.relative_to(self.folder).with_suffix("").as_posix()] = path
        for path in self._kept.keys() - set(found.values()):
            self._kept.pop(path, None)
        return Lists(found, self._read)

    def _read(self, path: Path) -> tuple[str, ...]:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if path not in self._kept or self._kept[path][0] != stamp:
                text = decoded(path.read_bytes())[0] if status.st_size <= MAX_BYTES else ""
                lines = [line.strip() for line in clean_text(text).splitlines()]
                self._kept[path] = stamp, tuple(line for line in lines if line and not line.startswith("#"))
            return self._kept[path][1]
        except OSError:
            return ()


@dataclass(frozen=True)
class Lists:
    """The folder at one moment: a file for each name, its path below the folder without suffix, "/" separated."""

    files: Mapping[str, Path]
    read: Callable[[Path], tuple[str, ...]] = field(repr=False)

    def names(self) -> list[str]:
        """What can stand between the underscores, sorted."""
        return sorted(self.files)

    def values(self, name: str) -> tuple[str, ...] | None:
        """The values of a name in any case, or of all names that a pattern with `*` matches; None when there is none."""
        if name in self.files:
            return self.read(self.files[name])
        found = [path for known, path in self.files.items() if _matches(known, name)]
        return tuple(value for path in found for value in self.read(path)) if found else None


def _matches(known: str, name: str) -> bool:
    if "*" not in name:
        return known.casefold() == name.casefold()
    if name.count("*") > MAX_STARS:
        return False
    pattern = ".*".join(re.escape(part) for part in re.split(r"\*+", name))
    return re.fullmatch(pattern, known, re.IGNORECASE) is not None
