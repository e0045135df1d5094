"""Changing one setting in the settings file: its lines are replaced, comments and everything else stay, atomically."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from modules.errors import OutputError, SettingsError
from modules.settings import read_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def change_file(path: Path, name: str, value: bool | int | str | None) -> None:
    """Set `name` at the top level of the TOML file; None removes it.  On disk when this returns.

    Raises:
        SettingsError: the file cannot be read, or is written so that it has to be changed by hand.
        OutputError: it cannot be written; the file is as it was.
    """
    before = read_file(path, required=False)
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from None
    wanted = {key: each for key, each in before.items() if key != name} | ({} if value is None else {name: value})
    changed = _replaced(text, name, value)
    if _parsed(changed) != wanted:
        raise SettingsError(f"settings file {path}: the lines of {name} were not understood; change them with an editor")
    _write(path, changed)


def _replaced(text: str, name: str, value: bool | int | str | None) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line)), None)
    said = [] if value is None else [f"{name} = {json.dumps(value, ensure_ascii=False)}"]
    if first is None:
        lines += said
    else:
        last = next(
            (end for end in range(first + 1, len(lines) + 1) if name in _parsed("\n".join(lines[first:end]))), first + 1
        )
        lines[first:last] = said
    return newline.join(lines) + newline if lines else ""


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _write(path: Path, text: str) -> None:
    """Replace the file, which may be a link to another place, with its permissions kept."""
    target, part = path.resolve(), ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(part, target.stat().st_mode & 0o777)
        os.replace(part, target)
        if sys.platform != "win32":
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)
        raise OutputError(f"the settings file could not be written: {error.strerror or error}; nothing was changed") from None
