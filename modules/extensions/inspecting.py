"""Looking at the files of an extension before anything of it runs: what is there, and unpacking zips."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from modules.errors import ExtensionError
from modules.extensions.manifest import MANIFEST, Manifest
from modules.extensions.packages import Need

MAX_ZIP = 64 << 20
"""Bytes of a zip."""
MAX_BYTES = 256 << 20
"""Bytes of all files of an extension."""
MAX_FILES = 5000
MAX_PATH = 200
"""Characters of a file's path within the extension."""
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_COMPILED = (".so", ".pyd", ".dll", ".dylib", ".exe", ".pyc", ".pyo", ".a", ".bin")
RIGHTS = (
    "An extension is a program: it runs with all rights of Atelier, can read and change your files, and can use the network. "
    "Install it only when you trust who made it."
)


def unpack(data: bytes, folder: Path) -> None:
    """Write the files of a zip into `folder`, which is made; one folder around all of them is left out.

    Raises:
        ExtensionError: it is no zip, damaged or encrypted, too large when unpacked, or has names or kinds of entries that no
            extension needs, such as links and paths that lead out of the folder.
    """
    if len(data) > MAX_ZIP:
        raise ExtensionError(f"the zip is larger than {MAX_ZIP >> 20} MiB")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _entries(archive)
            left = MAX_BYTES
            folder.mkdir(parents=True)
            for path, entry in entries:
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    while block := source.read(min(1 << 20, left + 1)):
                        left -= len(block)
                        if left < 0:
                            raise ExtensionError(f"the zip has more than {MAX_BYTES >> 20} MiB when it is unpacked")
                        file.write(block)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise ExtensionError(f"this is no zip that can be read: {str(error)[:200]}") from None
    except OSError as error:
        raise ExtensionError(f"the zip cannot be unpacked: {error.strerror or error}") from None


def _entries(archive: zipfile.ZipFile) -> list[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """The files of a zip with their paths, checked.  Sizes that the zip states are not believed, only refused."""
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise ExtensionError(f"the zip has {len(infos)} entries; {MAX_FILES} are the most")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise ExtensionError(f"the zip has more than {MAX_BYTES >> 20} MiB when it is unpacked")
    entries = []
    for info in infos:
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ExtensionError(f"the zip has {info.filename[:80]!r}, which is a link or no file; extensions have neither")
        if info.flag_bits & 1:
            raise ExtensionError("the zip is encrypted")
        path = checked_path(info.orig_filename.removesuffix("/") if info.is_dir() else info.orig_filename)
        if not info.is_dir():
            entries.append((path, info))
    tops = {path.parts[0] for path, _ in entries}
    if len(tops) == 1 and all(len(path.parts) > 1 for path, _ in entries):
        entries = [(PurePosixPath(*path.parts[1:]), info) for path, info in entries]
    _check_apart([path for path, _ in entries])
    return entries


def checked_path(name: str) -> PurePosixPath:
    """A path below the extension's folder, on every system.

    Raises:
        ExtensionError: it is not.
    """
    parts = name.split("/")
    odd = any(
        not part
        or part in (".", "..")
        or part.endswith((" ", "."))
        or _RESERVED.fullmatch(part)
        or any(c in '\\:*?"<>|' or unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in part)
        for part in parts
    )
    if odd or len(name) > MAX_PATH:
        raise ExtensionError(
            f"the file name {name[:80]!r} is not one that is taken: it leads elsewhere, or not on every system"
        )
    return PurePosixPath(*parts)


def _check_apart(paths: Iterable[PurePosixPath]) -> None:
    """Raises ExtensionError when two paths are one on a system that does not tell upper from lower case."""
    seen: dict[str, str] = {}
    for path in paths:
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in seen:
            raise ExtensionError(f"it has both {seen[key][:80]!r} and {str(path)[:80]!r}")
        seen[key] = str(path)


def files_of(folder: Path) -> dict[str, tuple[int, str]]:
    """(bytes, SHA-256) of every file in `folder` by its path, but for what Python keeps there.

    Raises:
        ExtensionError: there is a link or anything else that is no file, too much, or a name that not every system takes.
    """
    found: dict[str, tuple[int, str]] = {}
    total = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in folders:
            if Path(place, name).is_symlink():
                raise ExtensionError(f"it has {name!r}, which is a link; extensions have none")
        for name in sorted(names):
            path = Path(place, name)
            shown = path.relative_to(folder).as_posix()
            try:
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode):
                    raise ExtensionError(f"it has {shown[:80]!r}, which is a link or no file; extensions have neither")
                total += status.st_size
                if total > MAX_BYTES or len(found) >= MAX_FILES:
                    raise ExtensionError(f"it has more than {MAX_BYTES >> 20} MiB or {MAX_FILES} files")
                checked_path(shown)
                found[shown] = status.st_size, _sha256(path)
            except OSError as error:
                raise ExtensionError(f"its {shown} cannot be read: {error.strerror or error}") from None
    _check_apart(map(PurePosixPath, found))
    return found


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def digest(files: dict[str, tuple[int, str]]) -> str:
    """One SHA-256 over the paths and contents of all files."""
    lines = "".join(f"{sha}  {path}\n" for path, (_, sha) in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def changes(before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]) -> tuple[tuple[str, str], ...]:
    """(path, "new" | "changed" | "removed") of the files that differ."""
    new = dict.fromkeys(after.keys() - before.keys(), "new")
    removed = dict.fromkeys(before.keys() - after.keys(), "removed")
    changed = {path: "changed" for path in after.keys() & before.keys() if after[path][1] != before[path][1]}
    return tuple(sorted({**new, **removed, **changed}.items()))


def warnings_of(manifest: Manifest, paths: Iterable[str], needs: Iterable[Need]) -> tuple[str, ...]:
    """What somebody should know before it is installed, in sentences; the first is true of every extension."""
    names = list(paths)
    said = [RIGHTS]
    if compiled := [path for path in names if path.casefold().endswith(_COMPILED)]:
        said.append(
            f"It has compiled code, which cannot be read: {', '.join(compiled[:5])}{' …' if len(compiled) > 5 else ''}."
        )
    if programs := [path for path in names if path in ("install.py", "setup.py")]:
        said.append(f"Its {' and '.join(programs)} will not be run; what it needs stands in its {MANIFEST}.")
    if ".gitmodules" in names:
        said.append("It refers to other repositories (submodules), which are not fetched.")
    if misfit := manifest.misfit():
        said.append(f"It will be refused: {misfit}.")
    said += [f"It will be refused: {need.text}." for need in needs if need.verdict != "met"]
    return tuple(said)
