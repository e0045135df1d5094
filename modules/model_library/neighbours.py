"""Files beside a model that other programs wrote: read within bounds, and never the cause of an error.

A1111's `name.json` (description, notes, activation text, preferred weight, negative text, sd version), civitai helpers'
`name.civitai.info` (model, baseModel, trainedWords, images).  They come from anywhere: what is too large, too deep, of a wrong
type or a link that leads elsewhere is left out.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.request import clean_text

MAX_JSON = 2 << 20
"""Bytes of a neighbour that is read.  The longest real ones, with prompts of a hundred example pictures, have a few 100 kB."""
MAX_PICTURE = 32 << 20
MAX_TRIGGERS, MAX_WORD, MAX_TEXT = 100, 500, 20_000
"""Trigger words of a model; characters of one, and of any other text."""

OURS = "atelier"
"""Our key in A1111's file, for what it has no key for."""


class NotOurs(ValueError):
    """A neighbour cannot be read; the message is the rest of a sentence that begins with its name."""


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a neighbour: of a regular file of at most `limit` bytes, in the folder where it is or where its model
    really lies.

    Raises:
        NotOurs: it is something else.
        OSError: it cannot be read.
    """
    real = Path(os.path.realpath(path))
    if path.is_symlink() and path.parent.resolve() not in real.parents:
        raise NotOurs("is a link that leads out of its folder")
    descriptor = os.open(
        real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    )
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs("is no regular file")
        if status.st_size > limit:
            raise NotOurs(f"has {status.st_size:,} bytes, at most {limit:,} are read")
        return file.read(limit + 1)[:limit]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a neighbour.

    Raises:
        NotOurs: it is none.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(read_bytes(path, MAX_JSON))
    except NotOurs:
        raise
    except (ValueError, RecursionError, MemoryError):
        raise NotOurs("is not JSON") from None
    if not isinstance(content, dict):
        raise NotOurs("is not a JSON object")
    return content


def json_beside(path: Path) -> dict[str, Any]:
    """`read_json`, empty where it cannot be read."""
    try:
        return read_json(path)
    except (NotOurs, OSError):
        return {}


def text(value: Any, limit: int = MAX_TEXT) -> str:
    """A text of a neighbour, "" for anything else."""
    return clean_text(value[: limit + 100]).strip()[:limit] if isinstance(value, str) else ""


def words(value: Any) -> tuple[str, ...]:
    """Trigger words: a text or a list of texts, with commas between several.

    >>> words(["a cat, sitting", 7, "ink", "a cat"])
    ('a cat', 'sitting', 'ink')
    """
    texts = value[:MAX_TRIGGERS] if isinstance(value, list) else [value]
    parts = (part.strip() for each in texts for part in text(each).replace("\n", ",").split(","))
    return tuple(dict.fromkeys(part[:MAX_WORD] for part in parts if part))[:MAX_TRIGGERS]


def number(value: Any) -> float | None:
    """A finite number, also in a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
