"""Installing extensions: fetched into a folder that nothing is loaded from, shown, and then moved to its place in one step.

The staging folder and the trash lie in the data folder, where no extension is looked for.  A proposal is kept with its files'
SHA-256, and what is installed is what was shown.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modules.errors import ExtensionError
from modules.extensions.discovery import Found
from modules.extensions.git import checked_address, fetch
from modules.extensions.inspecting import changes, digest, files_of, unpack, warnings_of
from modules.extensions.manifest import MANIFEST, Manifest, read_manifest
from modules.extensions.packages import Need, needs_of

KEPT_SECONDS = 24 * 3600.0
"""A proposal that nobody installs is removed after this time."""
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Proposal:
    """An extension that was fetched and lies aside: nothing of it has run.  `token` names it to `install`.

    `address` is where it came from, "" for a zip; `commit` is the git commit, "" for a zip; `sha256` that of all its files;
    `files` are (path, bytes) of all of them, in order; `warnings` are sentences.  Of an extension that is here already
    `replaces` is the version, and `changes` are (path, "new" | "changed" | "removed").
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
    changes: tuple[tuple[str, str], ...] = ()


class Staging:
    """What was fetched and is not installed.

    Args:
        folder: for proposals and the trash; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _staged(self) -> Path:
        return self.folder / "staging"

    @property
    def _trash(self) -> Path:
        return self.folder / "trash"

    def fetched(self, address: str, local: bool, here: Callable[[str], Found | None]) -> Proposal:
        """What is at a git address; `here` finds an extension that is installed.

        Raises:
            ExtensionError: it cannot be fetched, or is no extension that may be installed.
        """
        where, ref, protocol = checked_address(address, local)
        token, content = self._new()
        with self._kept_if_sound(token):
            commit = fetch(where, ref, protocol, content)
            shown = f"{where}#{ref}" if ref else where
            return self._propose(token, content, shown, commit, here)

    def unpacked(self, data: bytes, here: Callable[[str], Found | None]) -> Proposal:
        """What a zip has.  Raises as `fetched`."""
        token, content = self._new()
        with self._kept_if_sound(token):
            unpack(data, content)
            return self._propose(token, content, "", "", here)

    def proposed(self, token: str, here: Callable[[str], Found | None]) -> Proposal:
        """A proposal, looked at anew.

        Raises:
            ExtensionError: there is none (any more), or its files are not those that were shown.
        """
        place = self._place(token)
        try:
            said = json.loads((place / "proposal.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ExtensionError("this proposal is not here any more; fetch the extension again") from None
        proposal = self._propose(token, place / "content", said["address"], said["commit"], here, write=False)
        if proposal.sha256 != said["sha256"]:
            raise ExtensionError("the files of this proposal are not those that were shown; fetch the extension again")
        return proposal

    def place(self, token: str, target: Path) -> None:
        """Move the files of a proposal to `target`; what is there goes into the trash.

        Raises:
            ExtensionError: that fails; what was there is there again.
        """
        content, part = self._place(token) / "content", target.with_name(f".{target.name}.{token[:8]}.part")
        kept: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(content, part)  # copies where the data folder is on another disk
            kept = self.throw_away(target) if target.exists() else None
            os.rename(part, target)
        except (OSError, shutil.Error, ExtensionError) as error:
            if kept is not None and not target.exists():
                with suppress(OSError, shutil.Error):
                    shutil.move(kept, target)
            with suppress(OSError, shutil.Error):  # so that it can be tried again
                shutil.move(part, content)
            shutil.rmtree(part, ignore_errors=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ExtensionError(
                f"it cannot be moved to {target.parent.name}/{target.name}: {reason}; nothing was installed"
            ) from None
        self.discard(token)

    def throw_away(self, folder: Path) -> Path:
        """Move a folder into the trash, from which people can take it back; returns where it is now.

        Raises:
            ExtensionError: it cannot be moved.
        """
        place = self._trash / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if folder.is_symlink():  # what it leads to is somebody's work
                os.rename(folder, place)
            else:
                shutil.move(folder, place)
        except (OSError, shutil.Error) as error:
            raise ExtensionError(f"{folder.name} cannot be moved into the trash: {error}") from None
        return place

    def discard(self, token: str) -> None:
        """Remove a proposal; nothing happens where there is none."""
        shutil.rmtree(self._place(token), ignore_errors=True)

    # ---- inside

    def _new(self) -> tuple[str, Path]:
        """A new proposal's token, and where its files go."""
        token = secrets.token_hex(16)
        try:
            self._place(token).mkdir(parents=True)
            for old in self._staged.iterdir():
                if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise ExtensionError(f"{self._staged} cannot be written: {error.strerror or error}") from None
        return token, self._place(token) / "content"

    def _place(self, token: str) -> Path:
        if not _TOKEN.fullmatch(token):
            raise ExtensionError("this is no proposal; fetch the extension again")
        return self._staged / token

    @contextmanager
    def _kept_if_sound(self, token: str) -> Iterator[None]:
        """A proposal is removed again when the block raises."""
        try:
            yield
        except BaseException:
            self.discard(token)
            raise

    def _propose(
        self, token: str, content: Path, address: str, commit: str, here: Callable[[str], Found | None], write: bool = True
    ) -> Proposal:
        files = files_of(content)
        if MANIFEST not in files:
            raise ExtensionError(
                f"it has no {MANIFEST}, so it is no extension of Atelier; those of other programs cannot be used"
            )
        manifest = read_manifest(content)
        for half in manifest.halves:
            module = manifest.module(half)
            if f"{module}.py" not in files and f"{module}/__init__.py" not in files:
                raise ExtensionError(f"its {MANIFEST} says {half} = {module!r}, and it has no {module}.py")
        there = here(manifest.name)
        if there is not None and there.source != "folder":
            raise ExtensionError(f"the name {manifest.name!r} is taken: an extension that is {there.source} has it")
        needs = needs_of(manifest)
        warnings = list(warnings_of(manifest, files, needs))
        old: dict[str, tuple[int, str]] = {}
        if there is not None:
            try:
                old = files_of(there.folder)
            except ExtensionError as error:
                warnings.append(f"What is there now cannot be compared: {error}.")
        proposal = Proposal(
            *(token, manifest, address, commit, digest(files)),
            tuple((path, size) for path, (size, _) in sorted(files.items())),
            needs,
            tuple(warnings),
            (there.manifest.version if there.manifest else "?") if there is not None else "",
            changes(old, files) if there is not None else (),
        )
        if write:
            said = {"address": address, "commit": commit, "sha256": proposal.sha256, "name": manifest.name}
            (self._place(token) / "proposal.json").write_text(json.dumps(said), encoding="utf-8")
        return proposal
