"""CLIP's text encoders: windows of tokens to cross-attention contexts, and to the pooled text of models that take it.

It knows windows of tokens; the network is `modules.diffusion.clip`, how a prompt becomes windows is `modules.prompts.chunks`',
and what weights do to encodings is `modules.diffusion.emphasis`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from modules.diffusion.adapters import Adapter
from modules.diffusion.clip import CLIPText, TextConfig
from modules.diffusion.forward import ForwardContext, Linear, context_for, name_layers
from modules.diffusion.transfers import sent
from modules.prompts.chunks import Chunk, Embedding, Insert
from modules.prompts.tokenizer import EOS, Tokenizer

BATCH = 16
"""Chunks of one forward; bounds the memory that a very long prompt takes."""


@dataclass(frozen=True, eq=False)
class EncodedWindow:
    """Of one window of tokens, its weights not yet applied: `context` (77, D), and `pooled` (P,) where the family reads it."""

    context: Tensor
    pooled: Tensor | None = None


class TextEncoder(nn.Module):
    """Windows to contexts.  Parameters have transformers' names from `embeddings.` on, under `network.`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CLIPText(config)
        self.text_projection = Linear(config.width, config.projection, bias=False) if config.projection else None
        name_layers(self.networks)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer()

    @property
    def networks(self) -> nn.Module:
        """All that has weights, under the names that a file's tensors are brought to."""
        parts: dict[str, nn.Module] = dict(self.network.named_children())
        return nn.ModuleDict(parts | ({"text_projection": self.text_projection} if self.text_projection else {}))

    def encode_chunks(
        self,
        chunks: Iterable[Chunk],
        clip_skip: int = 1,
        vectors: Mapping[Embedding, Tensor] | None = None,
        adapters: Sequence[tuple[Adapter, float]] = (),
    ) -> list[EncodedWindow]:
        """(77, width) per window, and its pooled text; windows of equal content are encoded once.

        Args:
            chunks: any number.
            clip_skip: 1 takes the last layer's output, n the n-th from the end (at most as many as there are layers); the
                final normalisation follows in any case, as A1111 does for SD 1.x.  Where the configuration names a layer, that
                one is read whatever is asked for.
            vectors: (n, width) of every embedding that the windows name (textual inversion).
            adapters: side paths of the network's layers, with their strengths.
        """
        bare = [chunk.bare for chunk in chunks]
        distinct = list(dict.fromkeys(bare))
        encoded: dict[Chunk, EncodedWindow] = {}
        for start in range(0, len(distinct), BATCH):
            batch = distinct[start : start + BATCH]
            with self._inserted([chunk.inserts for chunk in batch], vectors or {}):
                tokens = torch.tensor([chunk.tokens for chunk in batch])
                device = self.network.final_layer_norm.weight.device
                ctx = context_for([adapters] * len(batch), [()] * len(batch), None, device)
                contexts, pooled = self(tokens, clip_skip, ctx)
            windows = map(EncodedWindow, contexts, [None] * len(batch) if pooled is None else pooled)
            encoded.update(zip(batch, windows, strict=True))
        return [encoded[chunk] for chunk in bare]

    @contextmanager
    def _inserted(self, inserts: Sequence[tuple[Insert, ...]], vectors: Mapping[Embedding, Tensor]) -> Iterator[None]:
        """Put embeddings' vectors where the tokens' own would be, row by row (Gal et al. 2022, arXiv:2208.01618)."""
        if not any(inserts):
            yield
            return

        def insert(module: nn.Module, tokens: tuple[Tensor], embedded: Tensor) -> Tensor:
            embedded = embedded.clone()
            for row, places in zip(embedded, inserts, strict=True):
                for place in places:
                    new = vectors[place.embedding]
                    row[place.position : place.position + len(new)] = new.to(row)
            return embedded

        handle = self.network.embeddings.token_embedding.register_forward_hook(insert)
        try:
            yield
        finally:
            handle.remove()

    def forward(self, tokens: Tensor, clip_skip: int = 1, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor | None]:
        """Contexts (B, 77, width) of windows of token ids (B, 77), and their pooled texts (B, projection) if it has them.

        The pooled text is the last layer's output at the first end-of-text token, normalised and projected, whatever layer the
        context comes from.
        """
        network = self.network
        tokens = sent(_padded(tokens, self.config.pad), network.final_layer_norm.weight.device)
        hidden = network(tokens, ctx)
        context = hidden[-min(self.config.layer or clip_skip, self.config.layers)]
        context = network.final_layer_norm(context, ctx) if self.config.normalised else context
        if self.text_projection is None and not self.config.pooled:
            return context, None
        ends = (tokens == EOS).int().argmax(dim=-1)
        rows = torch.arange(len(tokens), device=tokens.device)
        pooled = network.final_layer_norm(hidden[-1][rows, ends], ctx)
        return context, pooled if self.text_projection is None else self.text_projection(pooled, ctx)


class TextEncoders(nn.Module):
    """The text encoders of a family; their contexts side by side, in its order, are what the network attends to."""

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def __iter__(self) -> Iterator[TextEncoder]:
        return iter(self.encoders)  # type: ignore[arg-type]

    @cached_property
    def first(self) -> TextEncoder:
        return next(iter(self))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.first.tokenizer

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Columns of the context by encoder."""
        return tuple(encoder.config.width for encoder in self)

    @cached_property
    def pooled_widths(self) -> tuple[int, ...]:
        """Numbers of the pooled text by encoder, 0 for one of which none is read."""
        configs = [encoder.config for encoder in self]
        return tuple(config.projection or (config.width if config.pooled else 0) for config in configs)

    def encode_chunks(
        self,
        chunks: Iterable[Chunk],
        clip_skip: int = 1,
        vectors: Mapping[Embedding, Tensor] | None = None,
        adapters: Sequence[Sequence[tuple[Adapter, float]]] = (),
    ) -> list[EncodedWindow]:
        """As `TextEncoder.encode_chunks`, of all encoders: contexts (77, sum of widths), pooled texts one behind the other.

        `vectors` are (n, sum of widths), `adapters` by encoder, in their order.
        """
        chunks = list(chunks)
        on = [*adapters, *[()] * (len(self.encoders) - len(adapters))]
        starts = [sum(self.widths[:number]) for number in range(len(self.widths))]
        by_encoder = [
            encoder.encode_chunks(chunks, clip_skip, _columns(vectors or {}, start, encoder.config.width), each)
            for encoder, start, each in zip(self, starts, on, strict=True)
        ]
        return by_encoder[0] if len(by_encoder) == 1 else [_side_by_side(windows) for windows in zip(*by_encoder, strict=True)]


def _columns(vectors: Mapping[Embedding, Tensor], start: int, width: int) -> dict[Embedding, Tensor]:
    """Of each embedding's vectors what one encoder gets."""
    return {embedding: each[:, start : start + width] for embedding, each in vectors.items()}


def _side_by_side(windows: Sequence[EncodedWindow]) -> EncodedWindow:
    pooled = [window.pooled for window in windows if window.pooled is not None]
    return EncodedWindow(torch.cat([window.context for window in windows], dim=-1), torch.cat(pooled) if pooled else None)


def _padded(tokens: Tensor, pad: int) -> Tensor:
    """Windows (B, 77) with `pad` behind their first end-of-text token, where our windows have that token again."""
    if pad == EOS:
        return tokens
    behind = (tokens == EOS).cumsum(dim=-1).roll(1, dims=-1)
    behind[:, 0] = 0
    return tokens.masked_fill(behind > 0, pad)
