"""Validation of a safetensors header, of every model file, before anything else touches the file.

Whatever is not a whole, well-formed safetensors file is refused with what it is instead and what to do about it.  This file
knows the container format (https://huggingface.co/docs/safetensors, "Format") and nothing about models; it needs no torch.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from modules.diffusion.block_formats import BLOCK_FORMATS
from modules.errors import CheckpointError

MAX_HEADER_BYTES = 16 * 2**20
"""A real SD 1.x header has 0.1 to 0.3 MB.  An unlimited one is a memory bomb: 87 MB of legal header cost 1.1 GiB and 14 s."""
MAX_TENSORS = 20_000
"""SD 1.x has about 1,100 tensors, the largest open models about 3,000."""
MAX_PARTS = 1_000_000
"""JSON values in a header.  20,000 tensors have 160,000; millions of tiny lists would become gigabytes of objects."""
MAX_DIMENSIONS = 8

DTYPE_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one element of every dtype that the format knows."""


class Scales(NamedTuple):
    """The scales of a weight in NF4 (`nf4`), the first of which is number `first` of `absmax`.  Where these are in 8 bits they
    are numbers of `codes`, times one of `outer` for each `outer_block`, plus `offset`."""

    absmax: TensorEntry
    outer: TensorEntry | None = None
    codes: TensorEntry | None = None
    outer_block: int = 0
    offset: float = 0.0
    first: int = 0

    def moved(self, by: int, file: int) -> Scales:
        """The same in another file, `by` bytes further."""
        outer, codes = self.outer and self.outer.moved(by, file), self.codes and self.codes.moved(by, file)
        return self._replace(absmax=self.absmax.moved(by, file), outer=outer, codes=codes)


class TensorEntry(NamedTuple):
    """Where a tensor lies: `start` and `end` are byte offsets behind the header, `file` counts the files of `Header.files`.

    One that is made of several (`rows_of`) has these as `pieces`, one behind the other in its first dimension.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    file: int = 0
    pieces: tuple[TensorEntry, ...] = ()
    scales: Scales | None = None
    """Of a weight in NF4."""

    def moved(self, by: int, file: int) -> TensorEntry:
        """The same in another file, `by` bytes further."""
        scales = self.scales and self.scales.moved(by, file)
        return self._replace(start=self.start + by, end=self.end + by, file=file, scales=scales)


def rows_of(pieces: Sequence[TensorEntry]) -> TensorEntry:
    """Tensors of equal rows, stacked in their first dimension.

    Raises:
        CheckpointError: their rows are not equal; the message is the rest of a sentence.
    """
    first = pieces[0]
    if any(not piece.shape or (piece.dtype, piece.shape[1:]) != (first.dtype, first.shape[1:]) for piece in pieces):
        shapes = ", ".join(f"{piece.dtype} {piece.shape}" for piece in pieces)
        raise CheckpointError(f"has tensors that belong together and do not fit: {shapes}; use another file")
    shape = (sum(piece.shape[0] for piece in pieces), *first.shape[1:])
    return TensorEntry(first.dtype, shape, 0, sum(piece.end - piece.start for piece in pieces), first.file, tuple(pieces))


def part_of_rows(entry: TensorEntry, number: int, parts: int) -> TensorEntry:
    """The rows of `number` among `parts` equal ones; raises as `rows_of`."""
    if not entry.shape or entry.shape[0] % parts:
        raise CheckpointError(f"has a tensor of the shape {entry.shape}, which is no {parts} equal parts; use another file")
    size = (entry.end - entry.start) // parts
    start = entry.start + number * size
    part = entry._replace(shape=(entry.shape[0] // parts, *entry.shape[1:]), start=start, end=start + size)
    if (scales := entry.scales) is None:
        return part
    blocks = BLOCK_FORMATS[entry.dtype].numbers
    if prod(part.shape) % blocks:
        raise CheckpointError(f"has a weight of the shape {entry.shape} in blocks that do not end with its {parts} parts")
    return part._replace(scales=scales._replace(first=scales.first + number * prod(part.shape) // blocks))


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself.  `data_start` is the file offset at which tensor bytes begin.

    `files` are those of a model in several (`diffusers_folder`); () where there is only the one that was read.
    """

    metadata: dict[str, str]
    tensors: dict[str, TensorEntry]
    data_start: int
    files: tuple[Path, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.tensors.items()}

    @property
    def numbers(self) -> int:
        """Elements of all tensors."""
        return sum(prod(entry.shape) for entry in self.tensors.values())


def read_header(path: Path) -> Header:
    """The checked header of the file at `path`.

    Raises:
        CheckpointError: the file is missing, unreadable or not a whole safetensors file; the message names the file, says what
            it is instead, and what to do.
    """
    with open_model(path) as file:
        return header_of(file, path)


def open_model(path: Path) -> BinaryIO:
    """`path` opened for reading; refuses what is not a regular file (a pipe would block for ever)."""
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    except OSError as error:
        raise CheckpointError(
            f"{path.name} {_CANNOT_OPEN.get(error.errno or 0, f'cannot be opened ({error.strerror})')}"
        ) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CheckpointError(f"{path.name} is not a regular file; choose a .safetensors file")
    return file


_CANNOT_OPEN = {
    errno.ENOENT: "does not exist any more; refresh the list of checkpoints",
    errno.EACCES: "cannot be read: permission denied; give this user the right to read it",
    errno.EPERM: "cannot be read: permission denied; give this user the right to read it",
    errno.EISDIR: "is a folder; choose a .safetensors file",
    errno.ELOOP: "is a link to itself; replace it by the file",
}


def header_of(file: BinaryIO, path: Path) -> Header:
    """`read_header` for an open file; `path` is only named in messages."""
    name = path.name
    try:
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        beginning = file.read(512)
        length = int.from_bytes(beginning[:8], "little")

        if not size:
            raise CheckpointError(f"{name} is empty (0 bytes); download it again")
        if kind := _foreign_kind(beginning):
            raise CheckpointError(f"{name} is {kind}")
        if size < 8:
            raise CheckpointError(f"{name} ends after {size} bytes, which is not even a header; download it again")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{name} is not a safetensors file: its first bytes announce a header of {length:,} bytes, "
                f"at most {MAX_HEADER_BYTES:,} are read; download it again or convert it to safetensors"
            )
        if 8 + length > size:
            raise CheckpointError(f"{name} ends after {size:,} of at least {8 + length:,} bytes; {_INCOMPLETE}")
        file.seek(8)
        raw = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read ({error.strerror}); check the disk or the network folder") from None

    metadata, tensors = _parse(raw, name)
    _check_layout(tensors, size - 8 - length, 8 + length, name)
    return Header(metadata, tensors, 8 + length)


_INCOMPLETE = "the download is incomplete, download it again"
_DAMAGED = "the file is damaged or was made by a broken tool; download it again"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"PK\x03\x04", "a PyTorch pickle (.ckpt) or a zip archive: only safetensors are read; convert it to .safetensors"),
    (
        rb"\x80[\x02-\x05](?:[}\]c(q]|\x8a\x0a|\x95|X|K|U)",
        "a PyTorch pickle (.ckpt): only safetensors are read; convert it to .safetensors",
    ),
    (rb"GGUF", "a GGUF file: only safetensors are read; download the safetensors version"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....WEBP", "a picture; download the model file itself"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!", "a packed archive; unpack it first"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the model; run `git lfs pull` or download the file itself"),
    (
        rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<!doctype html|<html|<head|<!--)",
        "an HTML page (a log-in or error page was saved); download the file itself",
    ),
)
"""First bytes of what people most often have instead of a safetensors file."""


def _foreign_kind(beginning: bytes) -> str:
    """What a file with this beginning is when it cannot be safetensors; empty when it may be."""
    for signature, kind in _SIGNATURES:
        if re.match(signature, beginning, re.DOTALL):
            return kind
    # A safetensors file has a zero within its first 8 bytes (the header length is below 16 MiB); text has none at all
    text = beginning[:-3] if len(beginning) == 512 else beginning  # a cut inside a UTF-8 character is no evidence
    if len(beginning) > 8 and b"\0" not in beginning and _is_text(text):
        return "a text file; download the model file itself"
    return ""


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n\ufeff" for c in text)


class _Duplicate(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Duplicate keys make two readers see two files, so they are refused."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Duplicate(f"the header names {_short(twice)} twice")
    return result


def _parse(raw: bytes, name: str) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    # Counted before it is parsed: afterwards the memory would be spent
    if raw.count(b'"data_offsets"') > MAX_TENSORS:
        raise CheckpointError(f"{name} has more than {MAX_TENSORS:,} tensors, which no supported model has; use another file")
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > MAX_PARTS:
        raise CheckpointError(f"{name} has a header of more than {MAX_PARTS:,} parts, which no model needs; use another file")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except _Duplicate as error:
        raise CheckpointError(f"{name} is not a safe file: {error}; {_DAMAGED}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{name} is not a safetensors file: its header is not JSON; {_DAMAGED}") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{name} is not a safetensors file: its header is not a JSON object; {_DAMAGED}")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{name} has metadata that is not a JSON object; {_DAMAGED}")
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{name} has more than {MAX_TENSORS:,} tensors, which no supported model has; use another file")
    if not header:
        raise CheckpointError(f"{name} holds no tensors; {_DAMAGED}")
    tensors = {tensor: _entry(tensor, value, name) for tensor, value in header.items()}
    return {k: v for k, v in metadata.items() if isinstance(v, str)}, tensors


def _entry(tensor: str, value: Any, name: str) -> TensorEntry:
    """One tensor's entry, checked for itself."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: the entry of tensor {_short(tensor)} is not an object; {_DAMAGED}")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(f"{name}: tensor {_short(tensor)} has the unknown number format {_short(dtype)}; {_DAMAGED}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_count(n) for n in shape):
        raise CheckpointError(f"{name}: tensor {_short(tensor)} has the impossible shape {_short(shape)}; {_DAMAGED}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        raise CheckpointError(f"{name}: tensor {_short(tensor)} has the impossible place {_short(offsets)}; {_DAMAGED}")
    start, end = offsets
    if (end - start) * 8 != prod(shape) * DTYPE_BITS[dtype]:
        raise CheckpointError(
            f"{name}: tensor {_short(tensor)} of shape {_short(shape)} in {dtype} does not fill {end - start:,} bytes; "
            f"{_DAMAGED}"
        )
    return TensorEntry(dtype, tuple(shape), start, end)


def _check_layout(tensors: dict[str, TensorEntry], available: int, data_start: int, name: str) -> None:
    """The tensors together: inside the file, no two on the same bytes."""
    needed = max(entry.end for entry in tensors.values())
    if needed > available:
        raise CheckpointError(f"{name} ends after {data_start + available:,} of {data_start + needed:,} bytes; {_INCOMPLETE}")
    reached, before = 0, ""
    for tensor, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start < reached and entry.end > entry.start:
            raise CheckpointError(f"{name}: tensors {_short(before)} and {_short(tensor)} overlap; {_DAMAGED}")
        if entry.end > reached:
            reached, before = entry.end, tensor


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
