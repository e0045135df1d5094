"""The folders that a command needs, made and tried before anything slow begins.  Standard library only, for the doctor too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from modules.errors import SettingsError
from modules.settings import Settings


def make_folders(settings: Settings) -> None:
    """Data and outputs folder exist and can be written, or it is said now which cannot and why.

    Raises:
        SettingsError: one cannot be made or written.
    """
    for folder, flag in ((settings.data_dir, "--data-dir"), (settings.outputs_dir, "--outputs-dir")):
        check_writable(folder, flag)


def check_writable(folder: Path, flag: str) -> None:
    probe = folder / f".atelier-{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"can this be written?")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        reason = (
            "something that is not a folder is in the way"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror
        )
        raise SettingsError(f"cannot write to {folder}: {reason}; choose another folder with {flag}") from None
