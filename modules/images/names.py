"""Names of pictures in the outputs folder: the patterns in force, and what is tried where a name is taken."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from modules.naming import DEFAULT_FOLDER, DEFAULT_NAME, Pattern, folder_pattern, name_pattern

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Naming:
    """How files, and the folders below the outputs that they lie in, are called."""

    name: Pattern = field(default_factory=lambda: name_pattern(DEFAULT_NAME))
    folder: Pattern = field(default_factory=lambda: folder_pattern(DEFAULT_FOLDER))

    @property
    def usual(self) -> bool:
        return (self.name.text, self.folder.text) == (DEFAULT_NAME, DEFAULT_FOLDER)

    @property
    def counts(self) -> bool:
        """Whether files begin with a running number of their folder."""
        return self.name.counts

    @property
    def foreseeable(self) -> bool:
        """Whether a picture's place is known before it is painted."""
        return self.name.foreseeable and self.folder.foreseeable


def naming_of(name: str, folder: str) -> Naming:
    """The naming that settings say.

    Raises:
        ValueError: what is wrong with a pattern.
    """
    return Naming(name_pattern(name), folder_pattern(folder))


def day_of(when: float) -> str:
    """The folder of a day, from seconds since 1970."""
    return f"{datetime.fromtimestamp(when):%Y-%m-%d}"


def names_of(when: float, job: str, index: int, seed: int, stem: str = "") -> Iterator[str]:
    """Names to try, the nicest first, without suffix.  The first ones derive from the job alone: a replay meets its own file.

    `stem` is what a pattern made; without one the name is the usual.
    """
    clock = f"{datetime.fromtimestamp(when):%H%M%S}"
    job = re.sub(r"[^0-9A-Za-z]", "", job)[:32] or "0"
    if stem:
        yield stem
        yield f"{stem}-{job[:8]}-{index:03d}"
        last = f"{stem}-{job}-{index:03d}"
    else:
        yield f"{clock}-{job[:8]}-{index:03d}-{seed}"
        last = f"{clock}-{job}-{index:03d}-{seed}"
    yield last
    while True:
        yield f"{last}-{secrets.token_hex(4)}"
