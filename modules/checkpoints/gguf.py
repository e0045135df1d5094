"""GGUF files: their header as that of a safetensors file, and the names of T5's tensors in them.  No torch.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.  Sizes are little-endian; dimensions stand in the reverse of
torch's order; tensors begin at multiples of an alignment.  Of its formats those are read whose numbers are whole ones times
scales (`diffusion.block_formats`), beside plain numbers; those that look numbers up in tables (IQ4_XS and the like) are refused
by name.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from modules.checkpoints.header import MAX_DIMENSIONS, MAX_TENSORS, Header, TensorEntry
from modules.diffusion.block_formats import BLOCK_FORMATS, bytes_of
from modules.errors import CheckpointError

MAGIC = b"GGUF"
_PLAIN_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
_FORMATS = {
    0: "F32",
    1: "F16",
    28: "F64",
    30: "BF16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
}
_REFUSED = {
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    9: "Q8_1",
    15: "Q8_K",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
}
"""ggml's numbers of formats."""

MAX_TEXT = 2**20
MAX_ITEMS = 10_000
"""Entries of metadata."""
MAX_ARRAY = 2_000_000
MAX_NESTING = 2

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_SHAPES = "comfy.gguf.orig_shape."
"""Metadata that has the shape of a tensor which was flattened."""

_T5_LAYERS = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_T5_BLOCK = re.compile(r"enc\.blk\.(\d{1,3})\.([a-z_]+)\.weight")
_T5_OUTSIDE = {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}


class Contents(NamedTuple):
    """A file's metadata, and its tensors' entries counted from `data_start`."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]
    data_start: int


def header_of_gguf(file: BinaryIO, path: Path) -> Header:
    """The checked header of an open GGUF file; `path` is only named in messages.

    Raises:
        CheckpointError: it is damaged, or in a format that is not read.
    """
    found = contents(file, path)
    said = {name: value for name, value in found.metadata.items() if isinstance(value, str)}
    return Header(said, {_t5_name(name): entry for name, entry in found.tensors.items()}, found.data_start)


def contents(file: BinaryIO, path: Path) -> Contents:
    """All that stands in front of the tensors of an open GGUF file, checked; raises as `header_of_gguf`."""
    size = os.fstat(file.fileno()).st_size
    if size < 24:
        raise CheckpointError(f"{path.name} ends after {size} bytes; download it again")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = _Reader(data).read()
        except (struct.error, ValueError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path.name} is a GGUF file that is damaged ({error}); download it again") from None
        except CheckpointError as error:
            raise CheckpointError(f"{path.name} {error}") from None
    needed = max(entry.end for entry in found.tensors.values()) + found.data_start
    if needed > size:
        raise CheckpointError(
            f"{path.name} ends after {size:,} of {needed:,} bytes; the download is incomplete, download it again"
        )
    return found


def _t5_name(name: str) -> str:
    if found := _T5_BLOCK.fullmatch(name):
        return f"encoder.block.{found[1]}.{_T5_LAYERS.get(found[2], found[2])}.weight"
    return _T5_OUTSIDE.get(name, name)


class _Reader:
    """Reads a file from its beginning."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._position = data, 4

    def read(self) -> Contents:
        version, tensors, items = self._number("I"), self._number("Q"), self._number("Q")
        if version not in (2, 3):
            raise CheckpointError(f"is a GGUF file of version {version}; 2 and 3 are read")
        if not 0 < tensors <= MAX_TENSORS or items > MAX_ITEMS:
            raise ValueError(f"{tensors} tensors and {items} entries of metadata")
        metadata: dict[str, Any] = {}
        for _ in range(items):
            name = self._text()
            metadata[name] = self._value(self._number("I"))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 65_536:
            raise ValueError("its alignment is no number")
        entries: dict[str, TensorEntry] = {}
        for _ in range(tensors):
            name = self._text()
            if name in entries:
                raise ValueError(f"it names {name[:80]!r} twice")
            entries[name] = self._entry(name, metadata)
        return Contents(metadata, entries, -(-self._position // alignment) * alignment)

    def _entry(self, name: str, metadata: dict[str, Any]) -> TensorEntry:
        dimensions = self._number("I")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"{name[:80]!r} has {dimensions} dimensions")
        stored = tuple(self._number("Q") for _ in range(dimensions))[::-1]
        number, start = self._number("I"), self._number("Q")
        if number not in _FORMATS:
            what = _REFUSED.get(number, f"number {number}")
            raise CheckpointError(
                f"is a GGUF file whose tensor {name[:80]!r} is in the format {what}, which is not read; use the same model in "
                f"{_instead(what)}; read are {', '.join(_FORMATS.values())}"
            )
        dtype, count = _FORMATS[number], prod(stored)
        if count >= 2**48:
            raise ValueError(f"{name[:80]!r} has the impossible shape {stored}")
        if dtype in BLOCK_FORMATS and (not stored or stored[-1] % BLOCK_FORMATS[dtype].numbers):
            raise ValueError(f"the rows of {name[:80]!r} are not whole blocks")
        size = bytes_of(stored, dtype) if dtype in BLOCK_FORMATS else count * _PLAIN_BYTES[dtype]
        return TensorEntry(dtype, _shape(metadata.get(_SHAPES + name), stored), start, start + size)

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise ValueError(f"metadata of the unknown kind {kind}")
            return self._number(_SCALARS[kind])
        inner, length = self._number("I"), self._number("Q")
        if length > MAX_ARRAY or depth >= MAX_NESTING:
            raise ValueError(f"an array of {length} items")
        if inner in _SCALARS:
            form = f"<{length}{_SCALARS[inner]}"
            values = struct.unpack_from(form, self._data, self._position)
            self._position += struct.calcsize(form)
            return values
        return tuple([self._value(inner, depth + 1) for _ in range(length)])

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self._data, self._position)
        self._position += struct.calcsize("<" + form)
        return value

    def _text(self) -> str:
        length = self._number("Q")
        if length > MAX_TEXT or self._position + length > len(self._data):
            raise ValueError(f"a text of {length} bytes")
        text = self._data[self._position : self._position + length].decode("utf-8", "replace")
        self._position += length
        return text


def _instead(what: str) -> str:
    """The names that files of about the size of one in a refused format have.

    >>> _instead("IQ4_XS"), _instead("IQ3_XXS")
    ('Q4_K_S or Q4_0', 'Q3_K_S')
    """
    bits = re.match(r"[IT]Q([1-5])|MXFP([4])", what)
    return {"1": "Q2_K", "2": "Q2_K", "3": "Q3_K_S", "4": "Q4_K_S or Q4_0"}.get((bits[1] or bits[2]) if bits else "", "Q8_0")


def _shape(said: Any, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that metadata says, where it has as many numbers."""
    if isinstance(said, tuple) and all(isinstance(side, int) for side in said) and prod(said) == prod(stored):
        return said
    return stored


def tokenizer_of(path: Path) -> tuple[list[tuple[str, float]], bytes] | None:
    """The pieces of a SentencePiece tokenizer with their scores, and its compiled map of characters, of a GGUF file of T5; None
    where it has none.

    Raises:
        OSError, CheckpointError: it cannot be read.
    """
    with path.open("rb") as file:
        said = contents(file, path).metadata
    tokens, scores = said.get("tokenizer.ggml.tokens"), said.get("tokenizer.ggml.scores")
    if not isinstance(tokens, tuple) or not isinstance(scores, tuple) or len(tokens) != len(scores):
        return None
    characters = said.get("tokenizer.ggml.precompiled_charsmap", ())
    whole = isinstance(characters, tuple) and all(isinstance(each, int) for each in characters)
    return list(zip(map(str, tokens), map(float, scores), strict=True)), bytes(
        each & 255 for each in characters
    ) if whole else b""
