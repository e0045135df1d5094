"""Model files read tensor by tensor, and written so that a half-made one is never seen.

A source is memory-mapped: what is in use at a time is one tensor, however large the file is.  A new file is written under a
hidden name in its own folder and linked under its name when it is whole and on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from modules.checkpoints.header import DTYPE_BITS
from modules.checkpoints.sources import open_source
from modules.checkpoints.weights import DTYPES, Weights
from modules.errors import CheckpointError, OutputError
from modules.model_tools.disk import check_space, move, unwritable
from modules.model_tools.originals import original_header

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
STORED = {dtype: name for name, dtype in DTYPES.items()} | {
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""torch's number formats by the names that safetensors files have for them."""
DIGITS = 64
"""Characters of a hash that is written into the header when the tensors are."""

Plan = Mapping[str, tuple[str, tuple[int, ...]]]
"""Format (safetensors' name) and shape of each tensor that may be written."""


class Source:
    """An open safetensors file, or a checkpoint in diffusers' layout under the names of its single file (`originals`).  Tensors
    are views of mapped bytes until they are converted.

    Raises:
        CheckpointError: as `sources.open_source`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._opened = path, contextlib.ExitStack()
        try:
            opened = self._opened.enter_context(open_source(path))
            self._stored, self._files = opened.header, opened.files
            self._weights = Weights(opened.files, opened.header)
            self.header, self._made = original_header(opened.header) if path.is_dir() else (opened.header, {})
        except CheckpointError as error:
            self._opened.close()
            text = str(error)
            raise CheckpointError(text if text.startswith(path.name) else f"{path.name} {text}") from None
        except BaseException:
            self._opened.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()  # the mappings stay for as long as a tensor of them is in use

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.header.shapes

    def is_float(self, name: str) -> bool:
        return self.header.tensors[name].dtype in DTYPES

    def read(self, name: str) -> Tensor:
        """In fp32, to compute with.

        Raises:
            CheckpointError: it has NaN or infinity, or is not stored as floating-point numbers.
        """
        tensor = self._joined(name) if name in self._made else self._weights[name].float()
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{self.path.name}: its tensor {name!r} has NaN or infinity; use another file")
        return tensor

    def _joined(self, name: str) -> Tensor:
        """A tensor of the single file, of what the folder has for it."""
        made = self._made[name]
        parts = [self._weights[part].float() for part in made.parts]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        return (whole.T if made.transposed else whole).reshape(self.header.tensors[name].shape)

    def stored(self, name: str) -> bytes:
        """The bytes of a tensor without floating-point numbers, as they are in the file."""
        entry = self._stored.tensors[self._made[name].parts[0] if name in self._made else name]
        file = self._files[entry.file]
        file.seek(self._stored.data_start + entry.start)
        return file.read(entry.end - entry.start)


class ModelWriter:
    """A new safetensors file at `part`, whose tensors come one by one, in the order of `order`; some may be left out.

    Room for the header of all that is planned, and of the metadata, is left in front; what it does not need is blanks, which
    the format allows.  Closed without `publish`, the file is removed.

    Raises:
        OutputError: the disk has no room for it, or it cannot be made.
    """

    def __init__(self, part: Path, plan: Plan, metadata: Mapping[str, str]) -> None:
        # Larger numbers first: each tensor then begins at a multiple of its own size, as readers expect
        self.order = sorted(plan, key=lambda name: -DTYPE_BITS[plan[name][0]])
        self._plan, self._metadata, self._part = dict(plan), dict(metadata), part
        self._written: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        self._end, self.digest = 0, hashlib.sha256()
        size = sum(prod(shape) * DTYPE_BITS[dtype] // 8 for dtype, shape in plan.values())
        everything = {name: (*plan[name], size, size) for name in self.order}
        self._room = len(self._header(everything, {**metadata, _HASH: "0" * DIGITS}))
        self._room += -self._room % 8
        check_space(part.parent, size + self._room)
        try:
            self._file = part.open("wb")
            self._file.seek(8 + self._room)
        except OSError as error:
            raise OutputError(f"{part.parent} cannot be written: {error.strerror}; check the folder") from None

    def __enter__(self) -> ModelWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def add(self, name: str, tensor: Tensor | bytes) -> None:
        """A tensor in the format and shape that were planned for it; floating-point numbers are rounded once.

        Raises:
            OutputError: it cannot be written, or does not fit the format.
        """
        dtype, shape = self._plan[name]
        data: bytes | memoryview
        if isinstance(tensor, bytes):
            data = tensor
        else:
            made = tensor.reshape(shape).to(_TORCH[dtype]).contiguous()
            if made.is_floating_point() and not bool(made.isfinite().all()):
                raise OutputError(f"the tensor {name!r} does not fit the number format {dtype}; choose bf16 or fp32")
            data = memoryview(made.reshape(-1).view(torch.uint8).numpy()) if made.numel() else b""  # type: ignore[arg-type]
        try:
            self._file.write(data)
        except OSError as error:
            raise unwritable(self._part, error) from None
        self.digest.update(data)
        self._written[name] = (dtype, shape, self._end, self._end + len(data))
        self._end += len(data)

    def publish(self, target: Path, replace: bool, hash_tensors: bool = False) -> None:
        """Put it under its name, whole and on disk.  `hash_tensors` adds kohya's `sshs_model_hash`, by which LoRAs are known.

        Raises:
            RequestError: there is such a file, and `replace` is off.
            OutputError: it cannot be written.
        """
        if hash_tensors:
            self._metadata[_HASH] = self.digest.hexdigest()
        text = self._header(self._written, self._metadata)
        try:
            self._file.seek(0)
            self._file.write(self._room.to_bytes(8, "little") + text + b" " * (self._room - len(text)))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            move(self._part, target, replace)
        except OSError as error:
            raise unwritable(self._part, error) from None

    @staticmethod
    def _header(entries: Mapping[str, tuple[str, tuple[int, ...], int, int]], metadata: Mapping[str, str]) -> bytes:
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        for name, (dtype, shape, start, end) in entries.items():
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


_HASH = "sshs_model_hash"
_TORCH = {name: dtype for dtype, name in STORED.items()}


def planned(source: Source, name: str, dtype: str) -> tuple[str, tuple[int, ...]]:
    """Format and shape of a source's tensor when it is written as `dtype` ("keep", "fp16", ...); integers stay as they are."""
    entry = source.header.tensors[name]
    kept = dtype == "keep" or not source.is_float(name)
    return (entry.dtype if kept else STORED[FORMATS[dtype]]), entry.shape
