"""Where the tensors of a checkpoint are: one safetensors file, or the several of a folder in diffusers' layout.

Both are read through a `Header`; this file says which it is, opens it, and what its content is known by.  No torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from modules.checkpoints import diffusers_folder, gguf
from modules.checkpoints.header import Header, header_of, open_model
from modules.checkpoints.nf4 import reader, with_nf4
from modules.checkpoints.transformer_names import kind_of, single_file
from modules.errors import CheckpointError

_CHANGED = "changed while it was read; wait until it is complete and try again"


@dataclass(frozen=True)
class OpenSource:
    """An open checkpoint: `files` in the order of `Header.files`, and what its content is known by (`stamp_of`)."""

    header: Header
    files: tuple[BinaryIO, ...]
    stamp: tuple[int, int, int]
    opened: tuple[tuple[int, int, int], ...]
    """What the content of each file was known by when it was opened."""

    def check_unchanged(self) -> None:
        """Refuse what was written to since it was opened; a file that another one was renamed over is as it was.

        Raises:
            CheckpointError: as said; the message is the rest of a sentence.
        """
        if tuple([file_stamp(os.fstat(file.fileno())) for file in self.files]) != self.opened:
            raise CheckpointError(_CHANGED)


def read_source(path: Path) -> Header:
    """The checked header of the checkpoint at `path`, a file or a folder.

    Raises:
        CheckpointError: as `header.read_header` and `diffusers_folder.header_of_folder`.
    """
    if path.is_dir():
        return diffusers_folder.header_of_folder(path)
    with open_model(path) as file:
        return _header(file, path)


def _header(file: BinaryIO, path: Path) -> Header:
    """Of an open file, safetensors or GGUF."""
    begins = file.read(len(gguf.MAGIC))
    file.seek(0)
    if begins == gguf.MAGIC:
        return with_file_names(gguf.header_of_gguf(file, path), path)
    header = header_of(file, path)
    try:
        return with_file_names(with_nf4(header, reader(file, header.data_start)), path)
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(path.name) else f"{path.name} {text}") from None


def with_file_names(header: Header, path: Path) -> Header:
    """With the names of single files, where a transformer has those of diffusers; `path` is only named in messages."""
    if not kind_of(header.tensors)[0]:
        return header
    try:
        return replace(header, tensors=single_file(header.tensors))
    except CheckpointError as error:
        raise CheckpointError(f"{path.name} {error}") from None


@contextmanager
def open_source(path: Path) -> Iterator[OpenSource]:
    """The checkpoint at `path` with its files open.

    Raises:
        CheckpointError: as `read_source`, and for a folder of which a file was changed meanwhile.
    """
    with ExitStack() as stack:
        if not path.is_dir():
            file = stack.enter_context(open_model(path))
            stamp = file_stamp(os.fstat(file.fileno()))
            yield OpenSource(_header(file, path), (file,), stamp, (stamp,))
            return
        try:
            content = diffusers_folder.content(path)
            header = diffusers_folder.header_of_folder(path)
            files = tuple([stack.enter_context(open_model(each)) for each in header.files])
            opened = {each: file_stamp(os.fstat(file.fileno())) for each, file in zip(header.files, files, strict=True)}
            known = {path / name: (size, changed, inode) for name, size, changed, inode in content}
            same = diffusers_folder.content(path) == content and all(known.get(each) == was for each, was in opened.items())
        except OSError as error:
            raise CheckpointError(f"cannot be read ({error.strerror}); refresh the list of checkpoints") from None
        if not same:
            raise CheckpointError(_CHANGED)
        yield OpenSource(header, files, diffusers_folder.stamp(content), tuple(opened.values()))


def stamp_of(path: Path) -> tuple[int, int, int]:
    """What the content at `path` is known by: size, time of change and inode, of a folder a number in the inode's place.

    Raises:
        OSError: it cannot be looked at.
    """
    if path.is_dir():
        return diffusers_folder.stamp(diffusers_folder.content(path))
    return file_stamp(path.stat())


def file_stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def size_of(path: Path) -> int:
    """Bytes of the files of weights.

    Raises:
        OSError: it cannot be looked at.
    """
    if not path.is_dir():
        return path.stat().st_size
    try:
        files = [file for part in diffusers_folder.weight_files(path).values() for file in part]
    except CheckpointError:
        return diffusers_folder.stamp(diffusers_folder.content(path))[0]
    return sum(file.stat().st_size for file in files)


def stem_of(path: Path) -> str:
    """The name without a model file's suffix, under which notes and configurations lie beside it; a folder has none.

    >>> stem_of(Path("models/stable-diffusion-v1-5")), stem_of(Path("models/v1.5.safetensors")), stem_of(Path("v1.5"))
    ('stable-diffusion-v1-5', 'v1.5', 'v1.5')
    """
    return path.name if path.suffix.lower() not in SUFFIXES else path.stem


def suffix_of(path: Path) -> str:
    """The suffix of a model file; "" of a folder, whatever points are in its name."""
    return path.name.removeprefix(stem_of(path))


SUFFIXES = (".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
