"""Autoencoders in files of their own: which are there, and which one goes with a checkpoint.  No torch: both processes list.

A1111's order: the one that was chosen, else `NAME.vae.safetensors` beside `NAME.safetensors`, else the checkpoint's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from modules.checkpoints import keys
from modules.checkpoints.completeness import check_vae
from modules.checkpoints.folders import files_below, folders_below, listing
from modules.checkpoints.header import read_header
from modules.errors import CheckpointError, UnknownName

AUTOMATIC, OWN = "Automatic", "None"
"""What a request may say in the place of a name: the file beside the checkpoint if there is one; the checkpoint's own."""

FOLDERS = frozenset(("vae", "vaes"))
SUFFIX = ".safetensors"
BESIDE = ".vae" + SUFFIX


@dataclass(frozen=True)
class VaeInfo:
    """A file with an autoencoder alone: `name` is the file's, with its suffix, as A1111 calls it; `problem` is a sentence that
    names the file, empty when it is usable."""

    name: str
    path: Path
    problem: str = ""


def scan_vaes(folders: Sequence[Path]) -> list[VaeInfo]:
    """All in folders `vae` of the models folders, and beside checkpoints, by name; of equal names the first counts."""
    infos: dict[str, VaeInfo] = {}
    for path in _files(folders):
        try:
            status = path.stat()
        except OSError:
            continue
        info = _described(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        infos.setdefault(info.name.casefold(), info)
    return sorted(infos.values(), key=lambda info: info.name.casefold())


def described_vae(path: Path) -> VaeInfo:
    """What `scan_vaes` says of the file at `path`."""
    status = path.stat()
    return _described(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


def find_vae(folders: Sequence[Path], name: str) -> VaeInfo:
    """The one of this name, in any case, with or without its suffix.

    Raises:
        UnknownName: there is none.
        CheckpointError: it cannot be used; the message names the file.
    """
    wanted, found = name.casefold(), scan_vaes(folders)
    for info in found:
        if wanted in (info.name.casefold(), info.name.casefold().removesuffix(SUFFIX)):
            if info.problem:
                raise CheckpointError(info.problem)
            return info
    raise UnknownName("VAE", name, [AUTOMATIC, OWN, *(info.name for info in found if not info.problem)])


def vae_for(folders: Sequence[Path], checkpoint: Path, name: str) -> Path | None:
    """The file of the autoencoder that goes with a checkpoint where `name` is asked for; None for the checkpoint's own.

    Raises:
        UnknownName, CheckpointError: as `find_vae`.
    """
    if name == OWN:
        return None
    if name != AUTOMATIC:
        return find_vae(folders, name).path
    beside = checkpoint.with_name(checkpoint.name.removesuffix(SUFFIX) + BESIDE)
    return beside if checkpoint.name.endswith(SUFFIX) and beside.is_file() else None


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    yield from files_below(folders, FOLDERS, (SUFFIX,))
    for base in (base for folder in folders for base in folders_below(folder)):
        yield from (base / name for name in listing(base).files if name.lower().endswith(BESIDE))


@lru_cache(maxsize=1024)
def _described(path_text: str, *identity: int) -> VaeInfo:
    path = Path(path_text)
    try:
        header = read_header(path)
        try:
            check_vae(header, keys.vae_layout(header.shapes))
        except CheckpointError as error:
            raise CheckpointError(f"{path.name} {error}") from None
    except CheckpointError as error:
        return VaeInfo(path.name, path, str(error))
    return VaeInfo(path.name, path)
