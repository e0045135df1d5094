"""Weighted text to chunks: windows of 75 tokens, as a CLIP text encoder takes them.

How a prompt is cut decides the picture, so the rules are A1111's (`sd_hijack_clip.tokenize_line` 1.10.1).  This file knows
token ids, not encodings; what weights do to an encoding is `modules.diffusion.text`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modules.prompts.emphasis import Piece, weigh
from modules.prompts.tokenizer import BOS, EOS, Tokenizer
from modules.request import Emphasis


class Encodes(Protocol):
    """A tokenizer: texts to ids, of which none is a mark of CLIP's (`BOS`, `EOS`)."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text` without start and end marks; any length."""


WINDOW = 77
"""Tokens that the encoder sees at once, start and end marks included."""
CHUNK = WINDOW - 2
"""Tokens of the prompt in one window."""
COMMA_REACH = 20
"""When a chunk is full, the words behind a comma at most this many tokens back move to the next chunk together."""


@dataclass(frozen=True)
class Embedding:
    """A textual inversion: used by writing its name, it stands for `vectors` learned token embeddings (1 to 75).

    `version` tells files apart that had the same name one after the other.
    """

    name: str
    vectors: int
    version: str = ""


@dataclass(frozen=True)
class Insert:
    """The vectors of an embedding replace the token embeddings from `position` (in the window, so at least 1) on."""

    position: int
    embedding: Embedding


@dataclass(frozen=True)
class Chunk:
    """One window: `tokens` with start and end marks, and by how much each token's encoding is multiplied; both 77 long."""

    tokens: tuple[int, ...]
    multipliers: tuple[float, ...] = (1.0,) * WINDOW
    inserts: tuple[Insert, ...] = ()

    @classmethod
    def of(cls, tokens: Sequence[int], multipliers: Sequence[float] | None = None, inserts: Sequence[Insert] = ()) -> Chunk:
        """The window around at most 75 tokens.  CLIP-L fills up with end marks, as it was trained."""
        weights = [1.0] * len(tokens) if multipliers is None else multipliers
        padding = CHUNK - len(tokens)
        assert padding >= 0, f"{len(tokens)} tokens do not fit into one chunk of {CHUNK}"
        return cls((BOS, *tokens, EOS, *[EOS] * padding), (1.0, *weights, 1.0, *[1.0] * padding), tuple(inserts))

    @property
    def is_neutral(self) -> bool:
        return all(multiplier == 1.0 for multiplier in self.multipliers)

    @property
    def bare(self) -> Chunk:
        """The window without its weights: what the encoder has to see, and the same for every emphasis."""
        return self if self.is_neutral else Chunk(self.tokens, inserts=self.inserts)


EMPTY = Chunk.of([])


class Embeddings:
    """Finds the embeddings whose names stand in a text, by the names' tokens.

    >>> known = Embeddings([Embedding("ink", 2), Embedding("ink cat", 3)], Tokenizer())
    >>> tokens = Tokenizer().encode("an ink cat")
    >>> known.match(tokens, 1)
    (Embedding(name='ink cat', vectors=3, version=''), 2)
    """

    def __init__(self, embeddings: Iterable[Embedding] = (), tokenizer: Encodes | None = None) -> None:
        self._by_first: dict[int, list[tuple[list[int], Embedding]]] = {}
        for embedding in embeddings:
            ids = (tokenizer or Tokenizer()).encode(embedding.name)
            if ids and 0 < embedding.vectors <= CHUNK:
                self._by_first.setdefault(ids[0], []).append((ids, embedding))
        for candidates in self._by_first.values():
            candidates.sort(key=lambda candidate: -len(candidate[0]))

    def match(self, tokens: Sequence[int], position: int) -> tuple[Embedding, int] | None:
        """The embedding with the longest name whose tokens stand at `position`, and how many they are."""
        for ids, embedding in self._by_first.get(tokens[position], ()):
            if list(tokens[position : position + len(ids)]) == ids:
                return embedding, len(ids)
        return None


NO_EMBEDDINGS = Embeddings()


@dataclass(frozen=True)
class Chunks:
    """The windows of a text, at least one, and its length in tokens as the counter shows it, `count`/`limit`."""

    windows: tuple[Chunk, ...]
    count: int

    @property
    def limit(self) -> int:
        return CHUNK * max(1, -(-self.count // CHUNK))


def chunk(text: str, tokenizer: Encodes, emphasis: Emphasis = "Original", embeddings: Embeddings = NO_EMBEDDINGS) -> Chunks:
    """Cut a text without prompt editing into windows, with the weights of its emphasis.

    >>> chunk("a (red:1.5) cat BREAK on a mat", Tokenizer()).count
    78
    """
    cutter = _Cutter(tokenizer.encode(",")[0], embeddings)
    for piece in [Piece(text)] if emphasis == "None" else weigh(text):
        if piece.is_break:
            cutter.finish()
        else:
            cutter.add(tokenizer.encode(piece.text), 1.0 if emphasis == "Ignore" else piece.weight)
    return cutter.result()


@dataclass
class _Cutter:
    """Fills one window after the other."""

    comma: int
    embeddings: Embeddings
    windows: list[Chunk] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)
    inserts: list[Insert] = field(default_factory=list)
    last_comma: int | None = None

    def add(self, tokens: list[int], weight: float) -> None:
        position = 0
        while position < len(tokens):
            if tokens[position] == self.comma:
                self.last_comma = len(self.tokens)
            elif len(self.tokens) == CHUNK and self.last_comma is not None and CHUNK - self.last_comma <= COMMA_REACH:
                self._finish_behind(self.last_comma + 1)
            if len(self.tokens) == CHUNK:
                self.finish()

            found = self.embeddings.match(tokens, position)
            if found is None:
                self.tokens.append(tokens[position])
                self.multipliers.append(weight)
                position += 1
                continue
            embedding, length = found
            if len(self.tokens) + embedding.vectors > CHUNK:
                self.finish()
            self.inserts.append(Insert(len(self.tokens) + 1, embedding))
            self.tokens += [0] * embedding.vectors
            self.multipliers += [weight] * embedding.vectors
            position += length

    def finish(self) -> None:
        """Close the window, also an empty one."""
        self.windows.append(Chunk.of(self.tokens, self.multipliers, self.inserts))
        self.tokens, self.multipliers, self.inserts, self.last_comma = [], [], [], None

    def _finish_behind(self, cut: int) -> None:
        """Close the window before token `cut`; the rest opens the next one."""
        tokens, multipliers = self.tokens[cut:], self.multipliers[cut:]
        moved = [Insert(i.position - cut, i.embedding) for i in self.inserts if i.position > cut]
        self.inserts = [i for i in self.inserts if i.position <= cut]
        self.tokens, self.multipliers = self.tokens[:cut], self.multipliers[:cut]
        self.finish()
        self.tokens, self.multipliers, self.inserts = tokens, multipliers, moved

    def result(self) -> Chunks:
        count = CHUNK * len(self.windows) + len(self.tokens)
        if self.tokens or not self.windows:
            self.finish()
        return Chunks(tuple(self.windows), count)
