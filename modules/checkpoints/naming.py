"""Which checkpoint a name means, where people and programs write one file's name in many ways.

Plain functions over the list of `files.scan`.  A file that cannot be used keeps its name: it is found like any other and never
replaced by a neighbour whose name is similar, so that the user reads what is wrong with the file that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from modules.checkpoints.sources import stem_of, suffix_of


class Named(Protocol):
    """What of a checkpoint is matched: `name` as it is listed, and its file."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...


Info = TypeVar("Info", bound=Named)

_TITLE = re.compile(r"(.*\S)\s*\[([0-9a-fA-F]{8,64})\]", re.DOTALL)
"""A1111's title: a file name and the first digits of its sha256."""
_DIGITS = re.compile(r"[0-9a-f]{8,64}")


def named(infos: Sequence[Info], wanted: str) -> Info | None:
    """The checkpoint whose name `wanted` is; None where none or more than one is meant.

    The exact name as it is listed comes first.  Then `wanted` is read with blanks at its ends removed, with "\\" for "/", and
    without A1111's " [hash]", and each reading is compared with: the listed name, the same with the file's suffix, both in any
    case, the file's own name without its folder, and A1111's model name ("/" written as "_").
    """
    for reading in _readings(wanted):
        for fits in _RULES:
            fitting = [info for info in infos if fits(info, reading)]
            if len(fitting) == 1:
                return fitting[0]
    return None


def by_hash(infos: Sequence[Info], wanted: str, sha256: Callable[[Info], str]) -> Info | None:
    """The first checkpoint whose sha256 begins with the 8 to 64 digits that `wanted` is, or ends with in brackets.

    `sha256` answers "" where the hash is not known.  Equal bytes under several names paint the same picture.
    """
    titled = _TITLE.fullmatch(wanted.strip())
    digits = (titled[2] if titled else wanted.strip()).lower()
    if not _DIGITS.fullmatch(digits):
        return None
    return next((info for info in infos if sha256(info).startswith(digits)), None)


def untitled(wanted: str) -> str:
    """`wanted` with "/" between folders and without A1111's " [hash]".

    >>> untitled("sub\\\\dream.safetensors [0123456789]")
    'sub/dream.safetensors'
    """
    slashed = re.sub(r"[\\/]+", "/", wanted.strip())
    titled = _TITLE.fullmatch(slashed)
    return titled[1] if titled else slashed


def _readings(wanted: str) -> Iterator[str]:
    slashed = re.sub(r"[\\/]+", "/", wanted)
    bare = [titled[1] for text in (wanted.strip(), slashed.strip()) if (titled := _TITLE.fullmatch(text))]
    yield from filter(None, dict.fromkeys([wanted, wanted.strip(), *bare[:1], slashed, slashed.strip(), *bare[1:]]))


def _files_name(text: str) -> str:
    """The last part of a path, in any case and without a model's suffix."""
    return re.sub(r"\.(safetensors|gguf|ckpt)$", "", text.rsplit("/", 1)[-1].casefold())


_RULES: tuple[Callable[[Named, str], bool], ...] = (
    lambda info, text: info.name == text,
    lambda info, text: info.name + suffix_of(info.path) == text,
    lambda info, text: info.name.casefold() == text.casefold(),
    lambda info, text: (info.name + suffix_of(info.path)).casefold() == text.casefold(),
    lambda info, text: text in (info.path.name, stem_of(info.path)),
    lambda info, text: _files_name(info.name) == _files_name(text),
    lambda info, text: re.sub(r"[\\/]", "_", info.name).casefold() == text.casefold(),
)
"""From the exact name to what is only likely."""
