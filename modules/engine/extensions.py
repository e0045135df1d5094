"""The engine halves of extensions: loaded when the engine starts, watched while they run.

The web process says in its configuration where extensions lie and where their states are kept.  Which of them are in use stands
in a file that outlives this process, so that the web process can tell who was when it died (`uses_path`).  Imports no torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.engine.messages import ExtensionLoaded, ExtensionRaised, ExtensionRefused, Message
from modules.errors import ExtensionError
from modules.extensions.isolation import ISOLATION, Failure, Picture, extension_of
from modules.extensions.loading import LOAD_SECONDS, HungWhileLoading, load, unload
from modules.extensions.service import Extensions
from modules.hooks import HOOKS

log = logging.getLogger(__name__)

HUNG_SECONDS = 120.0
"""Code of an extension that does not come back in this time will not: the engine ends, and is started anew."""
KEPT_SECONDS = 7 * 24 * 3600.0
"""A file of extensions in use that was not written for so long is nobody's any more."""
_SIZE = 8192


def uses_path(data_dir: Path, worker: int) -> Path:
    """Where the engine of a worker (from 0) of this web process says which extensions are in use."""
    return data_dir / "extensions" / f"in-use-{os.getpid()}-{worker}.txt"


def sweep(data_dir: Path) -> None:
    """Remove such files of web processes that are long gone."""
    for path in (data_dir / "extensions").glob("in-use-*.txt"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


class Uses:
    """The file of `uses_path`, written with every change.  What was written survives the end of this process, however it ends.

    Where it cannot be written nobody is suspected, and all works.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        except OSError as error:
            log.warning("%s cannot be written: %s", path.name, error.strerror or error)
            self._fd = -1

    def show(self, names: Iterable[str]) -> None:
        if self._fd < 0:
            return
        text = "\n".join(names).encode()[: _SIZE - 1].ljust(_SIZE - 1) + b"\n"
        with contextlib.suppress(OSError):  # a full disk
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, text)


def used(data_dir: Path, worker: int) -> list[str]:
    """The extensions that were in use when the engine of a worker ended; asked once, as its next engine begins anew."""
    path = uses_path(data_dir, worker)
    try:
        names = path.read_text(encoding="utf-8", errors="replace").split()
        path.unlink()
    except OSError:
        return []
    return names


def load_halves(configuration: Mapping[str, Any], emit: Callable[[Message], None]) -> None:
    """Load what `configuration` asks for; never raises.

    `configuration["extensions"]` has `folders`, `data_dir`, `trusting`, `uses` (the file of `uses_path`), and for tests
    `packages` and `seconds`; without it nothing is loaded.
    """
    asked = configuration.get("extensions")
    if not asked:
        return
    data_dir = Path(asked["data_dir"])
    ISOLATION.show_uses(Uses(Path(asked["uses"])).show)
    ISOLATION.listen(lambda failure: emit(_raised(failure)))
    extensions = Extensions(
        map(Path, asked["folders"]), data_dir, trusting=asked["trusting"], packages=asked.get("packages", True)
    )
    seconds = asked.get("seconds", LOAD_SECONDS)
    for found in extensions.in_engine():
        assert found.manifest is not None, "it has an engine half"
        try:
            hooks = load(found.manifest, found.folder, "engine", seconds)
        except HungWhileLoading as error:
            emit(ExtensionRefused(found.name, str(error), hung=True).message())
        except ExtensionError as error:
            emit(ExtensionRefused(found.name, str(error)).message())
        else:
            log.info("extension %s %s is loaded", found.name, found.manifest.version)
            emit(ExtensionLoaded(found.name, list(hooks)).message())


def drop(name: str) -> None:
    """Go on without an extension."""
    unload(name, "engine")


def asked_by(request: Any, picture: Picture) -> None:
    """Note which extensions a request asks for by their options, samplers or schedules: they are in use for its picture."""
    names = set(getattr(request, "extensions", None) or ())
    names |= _owners(SAMPLERS.entries.owned(), {str(getattr(request, "sampler", ""))})
    names |= _owners(SCHEDULES.entries.owned(), {str(getattr(request, "schedule", ""))})
    names = {name for name in names if HOOKS.has(name)} - picture.used
    picture.used |= names
    ISOLATION.begin(names)


def hangs(seconds: float = HUNG_SECONDS) -> str:
    """The extension that does not come back, "" when none does so."""
    name, since = ISOLATION.longest()
    return name if since > seconds else ""


def _owners(owned: Iterable[Any], words: Collection[str]) -> set[str]:
    """The extensions whose entries have one of these names; "Karras" may stand behind a sampler's."""
    return {
        extension_of(one.owner)
        for one in owned
        if not HOOKS.is_built_in(one.owner)
        for name in _names(one.entry)
        if any(name and name.casefold() in word.casefold() for word in words)
    }


def _names(entry: Any) -> list[str]:
    return [str(getattr(entry, each, "")) for each in ("name", "label")] + [str(one) for one in getattr(entry, "aliases", ())]


def _raised(failure: Failure) -> Message:
    return ExtensionRaised(failure.extension, failure.hook, failure.error).message()
