"""Which model files there are: a walk of the models folders that costs a stat for each folder that is as it was.

No file is opened or looked at; names alone say which neighbours (previews, notes) belong to a model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from modules.checkpoints.files import listed
from modules.checkpoints.folders import Listing, listing
from modules.checkpoints.sources import stem_of
from modules.model_library.kinds import KINDS, PICKLES, SAFE
from modules.request import clean_text

NOTES = ".json"
"""A1111's metadata of a model, which people edit: `name.json`."""
CIVITAI = ".civitai.info"
"""What download helpers write beside a model: `name.civitai.info`."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
PREVIEWS = (*(f".preview{suffix}" for suffix in PICTURES), *PICTURES)
"""Endings of preview pictures, the first that is there counts."""
MAX_DEPTH = 32
"""Folders in one another."""


@dataclass(frozen=True)
class Found:
    """A model file by its name alone.

    `name` is what one writes or selects; `file` and `folder` are below its models folder, "/" separated.  `notes`, `civitai`
    and `preview` are names of files beside it, "" for none.  `hidden_by`: the file of the same name that is used instead.
    """

    id: str
    kind: str
    name: str
    path: Path
    file: str
    folder: str
    notes: str = ""
    civitai: str = ""
    preview: str = ""
    hidden_by: str = ""

    @property
    def stem(self) -> str:
        return stem_of(self.path)

    @property
    def pickle(self) -> bool:
        return self.path.suffix.lower() in PICKLES

    @property
    def neighbours(self) -> tuple[str, ...]:
        return tuple(name for name in (self.notes, self.civitai, self.preview) if name)


Survey = tuple[tuple[str, Path, Path, Listing], ...]


def survey(folders: Sequence[Path]) -> tuple[object, ...]:
    """What the folders hold now, to be compared with an earlier answer and handed to `models_in`."""
    checkpoints = tuple(listed(folders))
    beside = {path: listing(path) for path in dict.fromkeys(each.path.parent for each in checkpoints)}
    places = tuple(
        (kind.name, folder, base, listing(base))
        for folder in folders
        for kind in KINDS.values()
        if kind.folders
        for top in _tops(folder, kind.folders)
        for base in _below(top)
    )
    return checkpoints, tuple(beside.items()), places


def models_in(surveyed: tuple[object, ...], folders: Sequence[Path]) -> list[Found]:
    """All model files of a survey, by kind; of equal names the first is used."""
    checkpoints, beside, places = surveyed
    names = {path: frozenset(inside.files) for path, inside in beside}  # type: ignore[attr-defined]
    found: list[Found] = []
    for each in checkpoints:  # type: ignore[attr-defined]
        root = next((folder for folder in folders if each.path.is_relative_to(folder)), each.path.parent)
        found.append(_found("checkpoint", each.name, root, each.path, names[each.path.parent]))
    used: dict[tuple[str, str], Found] = {}
    rest = [one for place in places for one in _models_of(*place)]  # type: ignore[attr-defined]
    for one in sorted(rest, key=lambda one: one.pickle):
        first = used.setdefault((one.kind, one.name.casefold()), one)
        if first.path == one.path:
            found.append(one)
        elif first is not one:
            found.append(replace(one, hidden_by=first.file))
    return found


@lru_cache(maxsize=4096)
def _models_of(kind: str, root: Path, base: Path, inside: Listing) -> tuple[Found, ...]:
    names = frozenset(inside.files)
    files = (name for name in inside.files if name.lower().endswith((SAFE, *PICKLES)))
    return tuple(_found(kind, _written(Path(name).stem), root, base / name, names) for name in files)


def _found(kind: str, name: str, root: Path, path: Path, beside: frozenset[str]) -> Found:
    file, stem = _written(path.relative_to(root).as_posix()), stem_of(path)
    return Found(
        id=hashlib.blake2b(os.fsencode(path), digest_size=12).hexdigest(),
        kind=kind,
        name=name,
        path=path,
        file=file,
        folder=file.rpartition("/")[0],
        notes=stem + NOTES if stem + NOTES in beside else "",
        civitai=stem + CIVITAI if stem + CIVITAI in beside else "",
        preview=next((stem + ending for ending in PREVIEWS if stem + ending in beside), ""),
    )


def _written(name: str) -> str:
    """A file's name as JSON and pictures' records can carry it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in clean_text(name))


def _tops(folder: Path, names: frozenset[str]) -> list[Path]:
    return [folder / name for name in listing(folder).folders if name.casefold() in names]


def _below(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """`folder` and all folders in it; links to folders are not followed."""
    yield folder
    for name in listing(folder).folders if depth else ():
        if not (folder / name).is_symlink():
            yield from _below(folder / name, depth - 1)
