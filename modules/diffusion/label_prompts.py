"""Prompts of models that are conditioned on something else than a text: a class, a layout of boxes, or nothing.

`networks.PromptEncoder`s.  The prompt says the class (its name or number) or lists the boxes, so that prompt editing, AND and
the picture's text work as with any prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from modules.diffusion.bert import BERTText
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.networks import LoadedAdapter, Strengths
from modules.diffusion.transfers import sent
from modules.errors import RequestError
from modules.prompts.labels import WORDLESS, Labels, boxes_in, layout_tokens
from modules.request import Txt2Img

Tokens = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TokenTexts:
    """The `networks.Tokenised` texts of one image: what each is for the network."""

    tokens: Mapping[str, Tokens]
    vectors: Mapping[Any, Tensor] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def pieces(self) -> tuple[Tokens, ...]:
        return tuple(dict.fromkeys(tokens for tokens in self.tokens.values() if tokens))

    def conditionings(
        self, sides: Sequence[Sequence[str]], negative: Sequence[str], encoded: Mapping[Tokens, Tensor]
    ) -> list[tuple[Conditioning, ...]]:
        """A text without tokens is what the first side begins with: guidance then makes no difference."""
        made = {tokens: Conditioning(context) for tokens, context in encoded.items()}
        first = self.tokens[sides[0][0]]
        return [tuple(made[self.tokens[text] or first] for text in texts) for texts in (*sides, negative)]


class ClassEmbedder(nn.Module):
    """A vector for each class, the only token of a context (ldm's `ClassEmbedder`)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, width)

    def forward(self, classes: Tensor) -> Tensor:
        """(B, 1, width) of numbers (B, 1)."""
        return self.embedding(classes)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class ClassPrompts:
    """A prompt is the name or the number of one of the `labels`.

    An empty one is no class at all, the one behind all `labels`, where the network was trained with it (classifier-free
    guidance, Ho & Salimans 2022, arXiv:2207.12598); else the negative prompt may be empty, and guidance does nothing.
    """

    network: ClassEmbedder
    labels: Labels

    @property
    def _without(self) -> Tokens:
        """The token of no class; none where the network knows none."""
        return (self.labels.count,) if self.network.embedding.num_embeddings > self.labels.count else ()

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> TokenTexts:
        """Raises:
        RequestError: a text is no class.
        """
        if not request.prompt.strip() and not self._without:
            known = f"0 to {self.labels.count - 1}"
            raise RequestError(
                f"prompt: it is empty, and this checkpoint paints classes alone; name one, or its number, {known}"
            )
        return TokenTexts({text: self._token(text) for text in texts})

    def _token(self, text: str) -> Tokens:
        return (self.labels.find(text, "prompt"),) if text.strip() else self._without

    def encode(
        self, pieces: Sequence[Tokens], clip_skip: int, vectors: Mapping[Any, Tensor], adapters: Strengths = ()
    ) -> list[Tensor]:
        return list(self.network(sent(torch.tensor(pieces), self.network.embedding.weight.device)))


@dataclass(frozen=True, eq=False)
class LayoutPrompts:
    """A prompt lists boxes (`prompts.labels.boxes_in`) of classes of `labels`; the `network` reads them as tokens."""

    network: BERTText
    labels: Labels

    @property
    def objects(self) -> int:
        """Boxes that a layout has at most: three tokens each, and two for the part that is seen."""
        return (self.network.config.positions - 2) // 3

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> TokenTexts:
        """Raises:
        RequestError: a text lists no boxes, or too many.
        """
        return TokenTexts({text: layout_tokens(boxes_in(text, self.labels, most=self.objects), self.objects) for text in texts})

    def encode(
        self, pieces: Sequence[Tokens], clip_skip: int, vectors: Mapping[Any, Tensor], adapters: Strengths = ()
    ) -> list[Tensor]:
        return list(self.network(sent(torch.tensor(pieces), self.network.norm.weight.device)))


@dataclass(frozen=True, eq=False)
class NoPrompts:
    """Nothing is said to the network; a prompt is not read, which the picture's notes say."""

    device: torch.device

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> TokenTexts:
        written = any(text.strip() for text in texts)
        return TokenTexts(dict.fromkeys(texts, (0,)), notes=(WORDLESS,) if written else ())

    def encode(
        self, pieces: Sequence[Tokens], clip_skip: int, vectors: Mapping[Any, Tensor], adapters: Strengths = ()
    ) -> list[Tensor]:
        return [torch.zeros(1, 1, device=self.device) for _ in pieces]
