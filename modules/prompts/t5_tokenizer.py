"""T5's tokenizer, from a `tokenizer.json` or a SentencePiece model (`spiece.model`) that lies beside the encoder.

Its vocabulary of 32,000 pieces does not ship with this program.  Built on the `tokenizers` library and free of torch.  The
formats: https://github.com/google/sentencepiece `sentencepiece_model.proto`, and the Unigram model of `tokenizers`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import Unigram

from modules.prompts.emphasis import Piece, weigh
from modules.request import Emphasis

PAD, END, UNKNOWN = 0, 1, 2
MAX_TOKENS = 511
"""Tokens of a text that are read, its end mark not counted; what is behind is left out."""
MAX_FILE = 64 * 2**20
"""Bytes of a file that is read; T5's have 0.8 and 2.4 million."""
MAX_PIECES = 300_000
_UNKNOWN_KIND = 2


class T5Tokenizer:
    """Text to T5's token ids."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def size(self) -> int:
        """Ids are below."""
        return int(self._backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without an end mark; any length."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)


class Encodes(Protocol):
    """A tokenizer: texts to ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without an end mark; any length."""


def weighted_tokens(text: str, tokenizer: Encodes, emphasis: Emphasis) -> tuple[list[int], list[float]]:
    """All tokens of a text, and the weight of each."""
    tokens: list[int] = []
    weights: list[float] = []
    for piece in [Piece(text)] if emphasis == "None" else weigh(text):
        if piece.is_break:
            continue
        found = tokenizer.encode(piece.text.strip())
        tokens += found
        weights += [1.0 if emphasis == "Ignore" else piece.weight] * len(found)
    return tokens, weights


def read_tokenizer(path: Path) -> T5Tokenizer:
    """The tokenizer in the file at `path`, a `.json` or a `.model`.

    Raises:
        ValueError: it is none of T5's form; the message says why.
        OSError: it cannot be read.
    """
    status = path.stat()
    return _read(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4)
def _read(path: str, size: int, *identity: int) -> T5Tokenizer:
    if size > MAX_FILE:
        raise ValueError(f"it has {size:,} bytes, at most {MAX_FILE:,} are read")
    data = Path(path).read_bytes()
    if path.lower().endswith(".json"):
        try:
            backend = Backend.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"it is no tokenizer.json ({str(error)[:80]})") from None
        if not isinstance(backend.model, Unigram):
            raise ValueError("its model is not Unigram, as T5's is")
        backend.no_padding()
        backend.no_truncation()
        return T5Tokenizer(backend)
    pieces, characters = parse_sentencepiece(data)
    return of_pieces(pieces, characters)


def of_pieces(pieces: Sequence[tuple[str, float]], characters: bytes = b"", unknown: int = UNKNOWN) -> T5Tokenizer:
    """The tokenizer of these pieces with their scores; `characters` is a compiled map by which texts are normalised."""
    backend = Backend(Unigram(list(pieces), unknown, False))
    steps = [normalizers.Precompiled(characters)] if characters else [normalizers.NFKC()]
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    split, mark = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, mark])
    return T5Tokenizer(backend)


def parse_sentencepiece(data: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """The pieces with their scores of a SentencePiece model, and its compiled map of characters.

    Raises:
        ValueError: it is no such model.
    """
    pieces: list[tuple[str, float]] = []
    characters, unknown = b"", -1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            inside = dict(_fields(value))
            text, score = inside.get(1, b""), inside.get(2, 0.0)
            if not isinstance(text, bytes) or not isinstance(score, float) or len(pieces) >= MAX_PIECES:
                raise ValueError("it is no SentencePiece model")
            if inside.get(3) == _UNKNOWN_KIND:
                unknown = len(pieces)
            pieces.append((text.decode("utf-8", "replace"), score))
        elif number == 3 and isinstance(value, bytes):
            found = dict(_fields(value)).get(2, b"")
            characters = found if isinstance(found, bytes) else b""
    if unknown != UNKNOWN:
        raise ValueError("it is no SentencePiece model of T5, whose third piece stands for unknown text")
    return pieces, characters


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Numbers and values of a protocol buffer's fields: whole numbers, float32 and bytes."""
    position = 0
    while position < len(data):
        tag, position = _whole_number(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _whole_number(data, position)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            length, position = _whole_number(data, position)
        if length < 0 or position + length > len(data):
            raise ValueError("it is no SentencePiece model")
        part = data[position : position + length]
        yield number, struct.unpack("<f", part)[0] if kind == 5 else part
        position += length


def _whole_number(data: bytes, position: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("it is no SentencePiece model")
