"""Prompts of text models with BERT's tokenizer: texts to windows of tokens, and their encodings to conditionings.

A `networks.PromptEncoder`.  Prompts mean what they mean with CLIP: weights, BREAK, editing, and more than one window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modules.diffusion.bert import BERTText
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.emphasis import contexts
from modules.diffusion.networks import LoadedAdapter, Strengths
from modules.diffusion.text import BATCH, EncodedWindow
from modules.diffusion.transfers import sent
from modules.prompts import chunks
from modules.prompts.chunks import Chunk
from modules.prompts.limits import check_length
from modules.prompts.wordpiece import EMPTY, windows
from modules.request import Txt2Img


@dataclass(frozen=True, eq=False)
class BERTPrompts:
    """Clip skip and textual inversions mean nothing to it."""

    network: BERTText

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> BERTTexts:
        """The windows of each text.

        Raises:
            RequestError: they take too many windows.
        """
        found = {text: windows(text, request.emphasis) for text in texts}
        check_length(max(map(len, found.values())))
        pieces = tuple(dict.fromkeys([EMPTY, *(window.bare for each in found.values() for window in each)]))
        return BERTTexts(request, found, pieces)

    def encode(
        self, pieces: Sequence[Chunk], clip_skip: int, vectors: Mapping[Any, Tensor], adapters: Strengths = ()
    ) -> list[EncodedWindow]:
        encoded: list[EncodedWindow] = []
        for start in range(0, len(pieces), BATCH):
            tokens = torch.tensor([piece.tokens for piece in pieces[start : start + BATCH]])
            encoded += map(EncodedWindow, self.network(sent(tokens, self.network.norm.weight.device)))
        return encoded


@dataclass(frozen=True, eq=False)
class BERTTexts:
    """The `networks.Tokenised` texts of one image: the windows of each, and all without their weights as `pieces`."""

    request: Txt2Img
    windows: Mapping[str, tuple[Chunk, ...]]
    pieces: tuple[Chunk, ...]
    vectors: Mapping[Any, Tensor] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)

    def conditionings(
        self, sides: Sequence[Sequence[str]], negative: Sequence[str], encoded: Mapping[Chunk, EncodedWindow]
    ) -> list[tuple[Conditioning, ...]]:
        """All of a timeline, and all sides of AND, are brought to one length."""
        known = {**encoded, chunks.EMPTY: encoded[EMPTY]}  # what shorter texts are filled up with
        *positive, below = [
            contexts([self.windows[text] for text in texts], known, self.request.emphasis) for texts in (*sides, negative)
        ]
        tokens = max(timeline[0].tokens for timeline in positive)
        return [*(tuple(each.lengthened(tokens) for each in timeline) for timeline in positive), tuple(below)]
