"""Editing wildcard files: listing, reading, writing and removing them by their names.

A name that is there is looked up among the files that a walk through the folder found; a new one is made of parts that every
file system takes, below the folder, and never through a link.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from modules.errors import OutputError, RequestError
from modules.naming import safe_name
from modules.prompts.dynamic import resolve
from modules.prompts.style_table import replace_file
from modules.prompts.styles import decoded
from modules.prompts.wildcards import MAX_BYTES, Wildcards

MAX_DEPTH = 8
MAX_DRAWS = 50
_NAME = re.compile(r"[\w ./-]{1,180}")  # what can stand between the underscores


@dataclass(frozen=True)
class WildcardText:
    """`version` changes with the text; `note` says what is odd about the file, "" where nothing is."""

    name: str
    text: str
    version: str
    note: str


def read_wildcard(wildcards: Wildcards, name: str) -> WildcardText | None:
    """A file by its exact name; None when there is none.

    Raises:
        RequestError: it is too large to be edited, or cannot be read.
    """
    path = wildcards.lists().files.get(name)
    if path is None:
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"name: {name!r} is larger than {MAX_BYTES // 2**20} MB and is not read")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"name: {name!r} cannot be read: {error.strerror or error}") from None
    text, encoding = decoded(data)
    note = f"The file is written in {encoding}; with a change it becomes UTF-8." if encoding else ""
    return WildcardText(name, text, _version(data), note)


def write_wildcard(wildcards: Wildcards, name: str, text: str, version: str) -> None:
    """Write the file; `version` is that of the text that was edited, "" for a new file.

    Raises:
        RequestError: it cannot have that name, or was changed meanwhile.
        OutputError: it cannot be written; the old file is untouched.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RequestError(f"text: it must have at most {MAX_BYTES // 2**20} MB")
    path = _unchanged(wildcards, name, version) if version else _new(wildcards, name)
    replace_file(path, text.encode("utf-8", "replace").decode(), "the wildcard file")


def remove_wildcard(wildcards: Wildcards, name: str, version: str) -> None:
    """Remove the file.

    Raises:
        RequestError: it is not there, or was changed meanwhile.
        OutputError: it cannot be removed.
    """
    path = _unchanged(wildcards, name, version)
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"the wildcard file could not be removed: {error.strerror or error}") from None


def draws(wildcards: Wildcards, text: str, seed: int, count: int) -> tuple[list[str], list[str]]:
    """What a prompt becomes with `count` seeds from `seed` on, and the wildcards in it that have no file."""
    drawn = [resolve(text, seed + at, wildcards, "prompt") for at in range(max(1, min(count, MAX_DRAWS)))]
    return [each.text for each in drawn], list(dict.fromkeys(name for each in drawn for name in each.unknown))


def _unchanged(wildcards: Wildcards, name: str, version: str) -> Path:
    found = read_wildcard(wildcards, name)
    if found is None or found.version != version:
        raise RequestError(f"name: the file of {name[:80]!r} was changed or removed meanwhile; look at it again")
    return wildcards.lists().files[name]


def _new(wildcards: Wildcards, name: str) -> Path:
    folder, parts = wildcards.folder, name.split("/")
    if folder is None:
        raise RequestError("name: there is no folder for wildcards here")
    if (
        not _NAME.fullmatch(name)
        or len(parts) > MAX_DEPTH
        or any(not part or safe_name(part) != part for part in parts)
        or "__" in name
    ):
        raise RequestError("name: it must be letters, digits, blanks, - . _ (not two), and / between folders")
    if any(known.casefold() == name.casefold() for known in wildcards.lists().files):
        raise RequestError(f"name: there is a wildcard file {name!r} already; choose another name")
    path = folder.joinpath(*parts[:-1], parts[-1] + ".txt")
    try:
        inside = path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        inside = False
    if not inside or path.is_symlink() or path.exists():
        raise RequestError("name: something else has this place in the wildcards folder; choose another name")
    return path


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
