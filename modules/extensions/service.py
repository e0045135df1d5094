"""The extensions of one process and what users may do with them: what App, tab, APIs and command line ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modules.extensions.manifest import Manifest

State = Literal["on", "off", "failed", "suspended", "refused"]


@dataclass(frozen=True)
class ExtensionView:
    """An extension as it is now.

    `state` is "on", "off" (switched off, or new and not switched on yet), "failed" (it was disabled after failures, or a half
    cannot be loaded), "suspended" (the engine died twice while it ran), or "refused" (it cannot be used as it is);
    `reason` says why in a sentence, "" where there is nothing to say.  `source` is "built in", "folder", "package" or the address
    that it came from; `needs` are its requirements with what is found here; `hooks` the hooks that it has, as far as it is loaded
    in this process.  `needs_restart`: a part of what was changed waits for the program's next start.
    """

    name: str
    title: str
    version: str
    description: str
    state: State
    reason: str
    halves: tuple[str, ...]
    source: str
    needs: tuple[str, ...]
    needs_restart: bool
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class Need:
    """A requirement of an extension and the verdict: `met` by what is installed, `missing` and could be installed, or a
    `conflict` with what is installed, which is never changed."""

    requirement: str
    verdict: Literal["met", "missing", "conflict"]
    text: str


@dataclass(frozen=True)
class Proposal:
    """An extension that was fetched and lies aside: nothing of it has run.  `token` names it to `install`.

    `files` are (path, bytes) of all of its files, in order; `commit` is the git commit, "" of a zip; `sha256` that of all its
    files.  `changes` are, for an extension that is here already, (path, "new" | "changed" | "removed").
    """

    token: str
    manifest: Manifest
    address: str
    commit: str
    sha256: str
    files: tuple[tuple[str, int], ...]
    needs: tuple[Need, ...]
    warnings: tuple[str, ...]
    replaces: str = ""
    """The version that is here now, "" where there is none."""
    changes: tuple[tuple[str, str], ...] = ()


class Extensions:
    """See the module.  Any thread may call.

    Args:
        folders: where extensions lie, the first is where new ones go.
        data_dir: keeps their states.
        enabled: False with --no-extensions and --safe-mode: all are listed, none is loaded.
        trusting: whether an extension whose folder somebody put here is on before anybody switched it on; not where others than
            the machine's own user can come in.
        restart_engines: called when an engine half comes or goes; keeps the jobs.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        data_dir: Path,
        enabled: bool = True,
        trusting: bool = True,
        restart_engines: Callable[[str], None] = lambda why: None,
    ) -> None:
        raise NotImplementedError

    def list(self) -> list[ExtensionView]:
        """All extensions, by name."""
        raise NotImplementedError

    def find(self, name: str) -> ExtensionView:
        """Raises ExtensionError when there is none of that name."""
        raise NotImplementedError

    @property
    def notices(self) -> tuple[str, ...]:
        """A sentence for each thing that users of the page should know: who failed and was disabled, suspended or refused."""
        raise NotImplementedError

    def enable(self, name: str) -> ExtensionView:
        """Raises ExtensionError: there is none of that name, or it is refused."""
        raise NotImplementedError

    def disable(self, name: str) -> ExtensionView:
        """Raises ExtensionError: there is none of that name."""
        raise NotImplementedError

    def propose(self, address: str) -> Proposal:
        """Fetch from a git address.  Raises ExtensionError."""
        raise NotImplementedError

    def propose_zip(self, data: bytes) -> Proposal:
        """Look at a zip.  Raises ExtensionError."""
        raise NotImplementedError

    def update(self, name: str) -> Proposal:
        """Fetch what is at the address of an installed extension now.  Raises ExtensionError."""
        raise NotImplementedError

    def install(self, token: str) -> ExtensionView:
        """Install what was proposed; it is off until it is enabled.  Never calls pip.  Raises ExtensionError."""
        raise NotImplementedError

    def discard(self, token: str) -> None:
        """Forget what was proposed."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Move an extension's folder into the trash of the data folder.  Raises ExtensionError."""
        raise NotImplementedError
