"""The sha256 of model files, remembered in one JSON file so that gigabytes are read once.

A remembered hash counts only while the file keeps its size, its time of change and its inode.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from modules.checkpoints.diffusers_folder import content, weight_files
from modules.checkpoints.header import open_model
from modules.checkpoints.sources import stamp_of
from modules.errors import CheckpointError
from modules.locks import ProcessLock

MAX_REMEMBERED = 20_000
"""Files in the cache; the oldest entries go first."""
LOCK_SECONDS = 10.0
"""How long another process's turn at the cache is waited for; it takes milliseconds."""
AT_ONCE = 64 * 2**20
"""Bytes of a file that is hashed at once: a tenth of a second."""
_BLOCK = 4 * 2**20

log = logging.getLogger(__name__)


def file_sha256(path: Path, cache: Path, read: Callable[[int], None] = lambda count: None) -> str:
    """The sha256 of the file at `path` as 64 hex digits, from `cache` (a JSON file, made when missing) where it is known.

    `read` is told how many more bytes were read; what it raises ends the work.  A cache that cannot be read or written costs
    time, never the answer.

    Of a folder in diffusers' layout: the sha256 of what `sha256sum` prints of its files of weights, by their paths below it in
    order.

    Raises:
        CheckpointError: the file is missing or unreadable.
    """
    if path.is_dir():
        return _folder_sha256(path, cache, read)
    with open_model(path) as file:
        identity = _identity(os.fstat(file.fileno()))
        entry = _read(cache).get(_key(path))
        if _fits(entry, identity):
            return entry["sha256"]
        digest, block = hashlib.sha256(), bytearray(_BLOCK)
        try:
            while count := file.readinto(block):  # type: ignore[attr-defined]
                digest.update(memoryview(block)[:count])
                read(count)
        except OSError as error:
            raise CheckpointError(
                f"{path.name} cannot be read ({error.strerror}); check the disk or the network folder"
            ) from None
        unchanged = _identity(os.fstat(file.fileno())) == identity
    if unchanged:
        _remember(cache, _key(path), {**identity, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _folder_sha256(folder: Path, cache: Path, read: Callable[[int], None]) -> str:
    try:
        before = content(folder)
        if known := known_sha256(folder, cache):
            return known
        files = sorted(file.relative_to(folder).as_posix() for part in weight_files(folder).values() for file in part)
        lines = "".join(f"{file_sha256(folder / file, cache, read)}  {file}\n" for file in files)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        if content(folder) == before:
            _remember(cache, _key(folder), {**_identity_of(folder), "sha256": digest})
    except OSError as error:
        raise CheckpointError(
            f"{folder.name} cannot be read ({error.strerror}); check the disk or the network folder"
        ) from None
    return digest


class FileHash:
    """The sha256 of a model file that is in use: gigabytes are read on a thread of their own, while the model works.

    Args:
        value: where it is known already.
    """

    def __init__(self, value: str = "") -> None:
        self._value, self._ready = value, threading.Event()
        if value:
            self._ready.set()

    @classmethod
    def of(cls, path: Path, cache: Path, stamp: tuple[int, int, int]) -> FileHash:
        """Of the content that the file has while its size, time of change and inode are `stamp`."""
        digest = cls(known_sha256(path, cache))
        if not digest.ready and stamp[0] <= AT_ONCE:
            digest._read(path, cache, stamp)
        elif not digest.ready:
            threading.Thread(target=digest._read, args=(path, cache, stamp), name="hash", daemon=True).start()
        return digest

    def _read(self, path: Path, cache: Path, stamp: tuple[int, int, int]) -> None:
        try:
            digest = file_sha256(path, cache)
            if stamp_of(path) == stamp:
                self._value = digest
        except (CheckpointError, OSError) as error:
            log.warning("the hash of %s stays unknown: %s", path.name, error)
        finally:
            self._ready.set()

    @property
    def ready(self) -> bool:
        """Whether `value` answers at once."""
        return self._ready.is_set()

    def value(self) -> str:
        """64 hex digits, as soon as they are known; empty where the file was replaced or could not be read meanwhile."""
        self._ready.wait()
        return self._value


def known_sha256(path: Path, cache: Path) -> str:
    """The remembered sha256 of `path`; empty when it is not known.  Never reads the file itself."""
    try:
        entry = _read(cache).get(_key(path))
        return entry["sha256"] if _fits(entry, _identity_of(path)) else ""
    except OSError:
        return ""


class KnownHashes:
    """`known_sha256` for whole lists of files: the cache is read again only when it was changed.  Any thread may call."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._read: tuple[tuple[int, int, int] | None, dict[str, Any]] = (None, {})

    def sha256(self, path: Path) -> str:
        """The remembered sha256 of `path`; empty when it is not known."""
        try:
            stamp = tuple(_identity(self._cache.stat()).values())
            if self._read[0] != stamp:
                self._read = (stamp[0], stamp[1], stamp[2]), _read(self._cache)
            entry = self._read[1].get(_key(path))
            return entry["sha256"] if _fits(entry, _identity_of(path)) else ""
        except OSError:
            return ""


def _key(path: Path) -> str:
    return os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")


def _identity_of(path: Path) -> dict[str, int]:
    size, changed, inode = stamp_of(path)
    return {"size": size, "mtime_ns": changed, "inode": inode}


def _identity(status: os.stat_result) -> dict[str, int]:
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def _fits(entry: Any, identity: dict[str, int]) -> TypeGuard[dict[str, str]]:
    return (
        isinstance(entry, dict)
        and all(entry.get(name) == value for name, value in identity.items())
        and isinstance(entry.get("sha256"), str)
        and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) is not None
    )


def _read(cache: Path) -> dict[str, Any]:
    try:
        content = json.loads(cache.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(cache: Path, key: str, entry: dict[str, Any]) -> None:
    """Add to the cache: under a lock, because a server's engine and a command may do so at once, and each writes all of it.

    A temporary file is moved into place, so that no reader ever sees half of it.
    """
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        lock = ProcessLock(cache.with_name(cache.name + ".lock"), LOCK_SECONDS)
    except OSError as error:
        log.warning("the hash of %s is not remembered: %s", key, error)
        return
    temporary = ""
    try:
        entries = _read(cache)
        entries.pop(key, None)
        entries[key] = entry
        kept = dict(list(entries.items())[-MAX_REMEMBERED:])
        descriptor, temporary = tempfile.mkstemp(dir=cache.parent, prefix=cache.name, suffix=".part")
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=0)
        os.replace(temporary, cache)
    except OSError as error:
        log.warning("the hash of %s is not remembered: %s", key, error)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    finally:
        lock.release()
