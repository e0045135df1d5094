"""The trash: a hidden folder of the outputs, into which files are moved with all of their path.

    outputs/.trash/20260814T142530Z-3f2a9c1d/2026-08-14/142530-....png

When it went there, and where it came from, stand in that path, so the trash needs no record: it is found again by the scan.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from modules.errors import OutputError
from modules.images import files

TRASH = ".trash"
_TOKEN = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}")


def new_token(when: float) -> str:
    """A folder for what goes into the trash at once, in seconds since 1970."""
    return f"{datetime.fromtimestamp(when, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def origin_of(path: str) -> tuple[str, float] | None:
    """Where a file of the trash came from, and when; None for any other path.

    >>> origin_of(".trash/20260814T142530Z-3f2a9c1d/2026-08-14/a.png")
    ('2026-08-14/a.png', 1786717530.0)
    """
    parts = path.split("/", 2)
    found = _TOKEN.fullmatch(parts[1]) if len(parts) == 3 and parts[0] == TRASH else None
    if found is None or not parts[2]:
        return None
    try:
        return parts[2], datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def discard(outputs: Path, path: str, token: str) -> str:
    """Move the file `path`, below the outputs, into the trash; returns its path there.

    Raises:
        OutputError: it cannot be moved; it is where it was.
    """
    target = f"{TRASH}/{token}/{path}"
    try:
        (outputs / target).parent.mkdir(parents=True, exist_ok=True)
        _move(outputs / path, outputs / target)
    except OSError as error:
        raise OutputError(f"{Path(path).name} could not be put into the trash: {error.strerror or error}") from None
    return target


def restore(outputs: Path, path: str) -> str:
    """Put a file of the trash back; returns its path, another than before where that is taken now.

    Raises:
        OutputError: it cannot be moved; it is still in the trash.
    """
    found = origin_of(path)
    assert found is not None, "only what is in the trash is restored"
    origin = Path(found[0])
    for name in (origin.name, f"{origin.stem}-{secrets.token_hex(4)}{origin.suffix}"):
        target = origin.with_name(name)
        try:
            (outputs / target).parent.mkdir(parents=True, exist_ok=True)
            _move(outputs / path, outputs / target)
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"{origin.name} could not be taken out of the trash: {error.strerror or error}") from None
        _tidy(outputs, path)
        return target.as_posix()
    raise OutputError(f"{origin.name} could not be taken out of the trash: its name is taken; move the other file away")


def destroy(outputs: Path, path: str) -> None:
    """Delete a file of the trash for good.

    Raises:
        OutputError: it cannot be deleted.
    """
    assert origin_of(path) is not None, "only what is in the trash is deleted"
    try:
        (outputs / path).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{Path(path).name} could not be deleted: {error.strerror or error}") from None
    _tidy(outputs, path)


def _move(source: Path, target: Path) -> None:
    """Never replaces a file; what is at `target` when this returns survives power loss."""
    files.Part(source).publish(target)
    try:
        source.unlink(missing_ok=True)  # it is gone already where the file system has no links
    except OSError:
        target.unlink()
        raise
    with suppress(OSError):
        files.sync_folder(source.parent)


def _tidy(outputs: Path, path: str) -> None:
    """Remove the folders of the trash that are empty now."""
    folder = (outputs / path).parent
    while folder != outputs and folder.is_relative_to(outputs / TRASH):
        try:
            os.rmdir(folder)
        except OSError:
            return
        folder = folder.parent
