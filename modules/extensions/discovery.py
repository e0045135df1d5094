"""Which extensions there are: folders with an `extension.toml`, and packages that name one.  Nothing of them is run."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modules.errors import ExtensionError
from modules.extensions.manifest import MANIFEST, Manifest, read_manifest
from modules.extensions.packages import needs_of
from modules.settings import ROOT, Settings

log = logging.getLogger("atelier")

GROUP = "atelier.extensions"
"""The entry points of packages: each names an importable package whose folder has an `extension.toml`."""
SHIPPED = ("freeu", "slideshow")
"""The extensions that come with the program, in its folder `extensions`; all others there are ignored by git."""

Source = Literal["built in", "folder", "package"]


@dataclass(frozen=True)
class Found:
    """An extension that is there.  `problem` says why it cannot be used, "" where it can; `manifest` is None where it cannot be
    read."""

    name: str
    folder: Path
    source: Source
    manifest: Manifest | None
    problem: str = ""


def folders_of(settings: Settings) -> tuple[Path, ...]:
    """Where extensions lie: the folder of the settings, where new ones go, and the project's own."""
    return tuple(dict.fromkeys((settings.extensions_dir, ROOT / "extensions")))


def discover(folders: Iterable[Path], packages: bool = True) -> dict[str, Found]:
    """All extensions by name, those in folders first; of several of one name the first."""
    found: dict[str, Found] = {}
    for one in (*_in_folders(folders), *(_in_packages() if packages else ())):
        if one.name in found:
            log.warning(
                "the extension %s in %s is not used: %s has one of that name", one.name, one.folder, found[one.name].folder
            )
        else:
            found[one.name] = one
    return dict(sorted(found.items()))


def look(folder: Path, source: Source, name: str = "") -> Found:
    """The extension in `folder`, which is to be called `name`, as its folder unless given."""
    name = name or folder.name
    try:
        manifest = read_manifest(folder)
    except ExtensionError as error:
        return Found(name, folder, source, None, str(error))
    if manifest.name != name:
        problem = f"its {MANIFEST} calls it {manifest.name!r}; rename its folder to that, or say name = {name!r} there"
        return Found(name, folder, source, manifest, problem)
    return Found(name, folder, source, manifest, _problem(manifest, folder))


def _problem(manifest: Manifest, folder: Path) -> str:
    if misfit := manifest.misfit():
        return misfit
    for half in manifest.halves:
        module = manifest.module(half)
        if not (folder / f"{module}.py").is_file() and not (folder / module / "__init__.py").is_file():
            return f"its {MANIFEST} says {half} = {module!r}, and there is no {module}.py in its folder"
    unmet = [need.text for need in needs_of(manifest) if need.verdict != "met"]
    return "; ".join(unmet)


def _in_folders(folders: Iterable[Path]) -> list[Found]:
    found = []
    for folder in folders:
        try:
            inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
        except FileNotFoundError:
            continue
        except OSError as error:
            log.error("the extensions in %s cannot be listed: %s", folder, error.strerror or error)
            continue
        for path in map(Path, inside):
            if not path.name.startswith((".", "_")):
                shipped = path.name in SHIPPED and folder == ROOT / "extensions"
                found.append(look(path, "built in" if shipped else "folder"))
    return found


def _in_packages() -> list[Found]:
    found = []
    for entry in _entry_points():
        try:
            folder = _folder_of(entry.value)
        except (ExtensionError, ImportError, ValueError, AttributeError, OSError) as error:
            found.append(Found(entry.name, Path(entry.value), "package", None, f"its package {entry.value!r}: {error}"))
            continue
        found.append(look(folder, "package", entry.name))
    return found


@functools.cache
def _entry_points() -> Sequence[importlib.metadata.EntryPoint]:
    """Those of the packages that were installed when this was asked first: looking for them takes a while."""
    return sorted(importlib.metadata.entry_points(group=GROUP))


def _folder_of(package: str) -> Path:
    """The folder of a package, found without importing it.

    Raises:
        ExtensionError: it has none.
    """
    top, *inside = package.partition(":")[0].strip().split(".")
    spec = importlib.util.find_spec(top)
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place, *inside)
        if (folder / MANIFEST).is_file():
            return folder
    raise ExtensionError(f"there is no such package with an {MANIFEST}")
