"""How a picture on disk was made: the fields of a request, from our record or from what its program wrote.

What `generate --from FILE` reads.  `reading` knows the programs; which checkpoints exist is for the caller to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.errors import RequestError
from modules.images.containers import read_container
from modules.images.infotext_record import Record, parse_record
from modules.images.metadata import record_of
from modules.images.reading import Found, read_picture, read_text


@dataclass(frozen=True)
class Recipe:
    """`fields` for `modules.request.parse_request`; `checkpoints` are the picture's names for its checkpoint, surest first
    (hash, then name); `program` is who wrote it ("" when it does not say); `notes` say what could not be taken over; `loras`
    are the hashes that it gives to LoRAs by name."""

    fields: dict[str, Any]
    checkpoints: tuple[str, ...]
    program: str
    notes: tuple[str, ...] = ()
    loras: Mapping[str, str] = field(default_factory=dict)


def read_recipe(source: Path | bytes) -> Recipe:
    """The recipe of a picture.  Our own record is complete and preferred; other programs' pictures have what they wrote.

    Raises:
        RequestError: no readable picture, or one that does not say how it was made.
    """
    name = source.name if isinstance(source, Path) else "the picture"
    return _recipe(read_picture(_bytes(source, name), name), name)


def recipe_of_text(text: str, name: str = "the text") -> Recipe:
    """The recipe in an A1111 text.

    Raises:
        RequestError: there are no settings in it.
    """
    return _recipe(read_text(text), name)


def read_record(source: Path | bytes) -> Record:
    """Our record of a picture of ours, in whatever format it was saved.

    Raises:
        RequestError: no readable picture, or none of ours.
    """
    name = source.name if isinstance(source, Path) else "the picture"
    return parse_record(record_of(read_container(_bytes(source, name), name)))


def _bytes(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror or error}") from None


def _recipe(found: Found, name: str) -> Recipe:
    if not found.fields:
        raise RequestError(f"{name} does not say how it was made: no generation settings were found in it")
    return Recipe(found.fields, found.checkpoints, found.version or found.program, found.notes, found.lora_hashes)
