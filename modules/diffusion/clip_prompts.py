"""Prompts of models with CLIP text encoders: texts to windows of tokens, and their encodings to conditionings.

A `networks.PromptEncoder`.  How a text becomes windows is `modules.prompts.chunks`', what weights do to encodings is
`modules.diffusion.emphasis`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from modules.diffusion.conditioning import Conditioning, number_features
from modules.diffusion.emphasis import contexts
from modules.diffusion.networks import LoadedAdapter, Strengths
from modules.diffusion.text import EncodedWindow, TextEncoders
from modules.errors import RequestError
from modules.prompts.chunks import EMPTY, NO_EMBEDDINGS, Chunk, Embedding, Embeddings, chunk
from modules.prompts.limits import check_length
from modules.prompts.tokenizer import Tokenizer
from modules.request import Txt2Img

MAX_DISTINCT_WINDOWS = 1_000
"""Different windows of one request; a quarter of a gigabyte of encodings."""


class Inversions(Protocol):
    """The textual inversions that there are."""

    def __bool__(self) -> bool:
        """Whether there may be any."""

    def known(self, widths: Sequence[int], tokenizer: Tokenizer, bundled: Sequence[Embedding] = ()) -> Embeddings:
        """Those with vectors as wide as the text encoders', and `bundled` ones, unless a file has such a name."""

    def read(self, wanted: Iterable[Embedding]) -> tuple[Mapping[Embedding, Tensor], Mapping[str, str]]:
        """Vectors (n, width) of each, and the first digits of each file's sha256 by name."""


@dataclass(frozen=True, eq=False)
class CLIPPrompts:
    """`encoders` with what a family makes of their output.

    `blank_negative`: an empty negative prompt is no text at all, zeros in the place of its encoding.  `numbers` are what
    follows the pooled text (`families.parts.VectorNumbers`).  `inversions` are the textual inversions that are here; None knows
    none.
    """

    encoders: TextEncoders
    blank_negative: bool = False
    numbers: Sequence[str] = ()
    inversions: Inversions | None = None
    parts: tuple[str, ...] = ("text",)
    """What adapters call the encoders, in their order."""

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> CLIPTexts:
        """The windows of each text, and the vectors of the inversions in them.  A long prompt takes a tenth of a second.

        Raises:
            RequestError: they take too many windows, or an inversion cannot be read.
        """
        known, tokenizer, widths = NO_EMBEDDINGS, Tokenizer(request.raw_text), self.encoders.widths
        inside = {
            Embedding(name, len(vectors), adapter.version): (adapter.name, vectors)
            for adapter in bundled
            for name, vectors in adapter.inversions.items()
            if vectors.shape[1] == sum(widths)
        }
        if self.inversions or (inside and self.inversions is not None):
            known = self.inversions.known(widths, tokenizer, tuple(inside))
        windows = {text: chunk(text, tokenizer, request.emphasis, known).windows for text in texts}
        check_length(max(map(len, windows.values())))
        pieces = tuple(dict.fromkeys([EMPTY, *(window.bare for chunks in windows.values() for window in chunks)]))
        if len(pieces) > MAX_DISTINCT_WINDOWS:
            raise RequestError(
                f"prompt: it takes {len(pieces):,} different windows of 75 tokens, at most {MAX_DISTINCT_WINDOWS:,} are "
                "allowed; shorten the prompt or edit fewer places"
            )
        named = list(dict.fromkeys(place.embedding for window in pieces for place in window.inserts))
        if not named or self.inversions is None:
            return CLIPTexts(self, request, windows, pieces, {}, {})
        vectors, hashes = self.inversions.read(one for one in named if one not in inside)
        vectors = {**vectors, **{one: inside[one][1] for one in named if one in inside}}
        hashes = {**hashes, **{one.name: inside[one][0] for one in named if one in inside}}  # A1111: the LoRA that has it
        said = {"TI hashes": ", ".join(f"{_plain(name)}: {_plain(digits)}" for name, digits in hashes.items())}
        return CLIPTexts(self, request, windows, pieces, vectors, said)

    def encode(
        self, pieces: Sequence[Chunk], clip_skip: int, vectors: Mapping[Embedding, Tensor], adapters: Strengths = ()
    ) -> list[EncodedWindow]:
        on = [[(each.parts[part], strength) for each, strength in adapters if part in each.parts] for part in self.parts]
        return self.encoders.encode_chunks(pieces, clip_skip, vectors, on)


def _plain(name: str) -> str:
    """A name as "TI hashes" can hold it."""
    return name.replace(":", "").replace(",", "")


@dataclass(frozen=True, eq=False)
class CLIPTexts:
    """The `networks.Tokenised` texts of one image: the windows of each, and all without their weights as `pieces`."""

    prompts: CLIPPrompts
    request: Txt2Img
    windows: Mapping[str, tuple[Chunk, ...]]
    pieces: tuple[Chunk, ...]
    vectors: Mapping[Embedding, Tensor]
    said: Mapping[str, str]

    def conditionings(
        self, sides: Sequence[Sequence[str]], negative: Sequence[str], encoded: Mapping[Chunk, EncodedWindow]
    ) -> list[tuple[Conditioning, ...]]:
        """All of a timeline, and all sides of AND, are brought to one length."""
        widths, request = self.prompts.encoders.widths, self.request
        *positive, below = [
            contexts([self.windows[text] for text in texts], encoded, request.emphasis, widths) for texts in (*sides, negative)
        ]
        if self.prompts.blank_negative and not any(negative):
            below = [each.blank() for each in below]
        tokens = max(timeline[0].tokens for timeline in positive)
        made = [*([each.lengthened(tokens) for each in timeline] for timeline in positive), below]
        if self.prompts.numbers:
            device = below[0].context.device
            scores = request.aesthetic_score, request.negative_aesthetic_score
            likings = [self._numbers(score) for score in scores]
            liked, disliked = ((number_features([value for _, value in each], device), each) for each in likings)
            made = [
                *([each.with_numbers(*liked) for each in timeline] for timeline in made[:-1]),
                [each.with_numbers(*disliked) for each in made[-1]],
            ]
        return [tuple(timeline) for timeline in made]

    def _numbers(self, score: float) -> list[tuple[str, float]]:
        """The prompts' `numbers` with values: those of a picture that was not resized, unless the request says otherwise."""
        request = self.request
        values = {
            "height": request.original_height or request.height,
            "width": request.original_width or request.width,
            "top": request.crop_top,
            "left": request.crop_left,
            "target height": request.height,
            "target width": request.width,
        }
        return [(name, {**values, "score": score}[name]) for name in self.prompts.numbers]
