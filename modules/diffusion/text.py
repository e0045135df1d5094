"""CLIP's text encoder: prompts of any length to conditionings.

It wraps transformers' `CLIPTextModel`, built from a derived shape and never from a hub, and knows tokens, chunks and weights;
it does not know prompt syntax, which becomes `Chunk`s elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from modules.diffusion.conditioning import Conditioning
from modules.prompts.tokenizer import BOS, EOS, VOCABULARY_SIZE, Tokenizer

WINDOW = 77
"""Tokens that the encoder sees at once, start and end marks included."""
CHUNK = WINDOW - 2
"""Tokens of the prompt in one window."""
COMMA_REACH = 20
"""When a chunk is full, the words behind a comma at most this many tokens back move to the next chunk together (A1111)."""
BATCH = 16
"""Chunks of one forward; bounds the memory that a very long prompt takes."""


@dataclass(frozen=True)
class TextConfig:
    """The shape of a CLIP text encoder; the defaults are Stable Diffusion 1.x (CLIP ViT-L/14)."""

    vocabulary: int = VOCABULARY_SIZE
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = WINDOW


@dataclass(frozen=True)
class Chunk:
    """One window: `tokens` with start and end marks, and by how much each token's encoding is multiplied; both 77 long."""

    tokens: tuple[int, ...]
    multipliers: tuple[float, ...] = (1.0,) * WINDOW

    @classmethod
    def of(cls, tokens: Sequence[int], multipliers: Sequence[float] | None = None) -> Chunk:
        """The window around at most 75 tokens.  CLIP-L fills up with end marks, as it was trained."""
        weights = [1.0] * len(tokens) if multipliers is None else multipliers
        padding = CHUNK - len(tokens)
        assert padding >= 0, f"{len(tokens)} tokens do not fit into one chunk of {CHUNK}"
        return cls((BOS, *tokens, EOS, *[EOS] * padding), (1.0, *weights, 1.0, *[1.0] * padding))


class TextEncoder(nn.Module):
    """Texts to contexts.  Parameters have transformers' names from `embeddings.` on, under `clip.`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = _clip_text_model(config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer()

    @cached_property
    def _comma(self) -> int:
        return self.tokenizer.encode(",")[0]

    @property
    def network(self) -> nn.Module:
        """The module with `embeddings`, `encoder` and `final_layer_norm`; transformers 4 keeps it one level deeper than 5."""
        return getattr(self.clip, "text_model", self.clip)

    def materialise(self, device: torch.device) -> None:
        """Give the constant buffers values when the module was built on the meta device."""
        positions = torch.arange(self.config.positions, device=device)[None]
        self.network.embeddings.position_ids = positions  # type: ignore[union-attr]

    def chunks(self, text: str) -> list[Chunk]:
        """`text` without any syntax, in windows; an empty text is one empty window."""
        return [Chunk.of(tokens) for tokens in split(self.tokenizer.encode(text), self._comma)]

    def encode(self, texts: Sequence[str], clip_skip: int = 1) -> list[Conditioning]:
        """One conditioning per text, its context (77 x chunks, width).

        Args:
            texts: any length each.
            clip_skip: 1 takes the last layer's output, n the n-th from the end (at most as many as there are layers); the
                final normalisation follows in any case, as A1111 does for SD 1.x.
        """
        per_text = [self.chunks(text) for text in texts]
        encoded = self.encode_chunks([chunk for chunks in per_text for chunk in chunks], clip_skip)
        windows = iter(encoded)
        return [Conditioning(torch.cat(list(islice(windows, len(chunks))))) for chunks in per_text]

    def encode_chunks(self, chunks: Iterable[Chunk], clip_skip: int = 1) -> list[Tensor]:
        """(77, width) per chunk; equal chunks are encoded once."""
        chunks = list(chunks)
        distinct = list(dict.fromkeys(chunks))
        encoded: dict[Chunk, Tensor] = {}
        for start in range(0, len(distinct), BATCH):
            batch = distinct[start : start + BATCH]
            for chunk, window in zip(batch, self(torch.tensor([c.tokens for c in batch]), clip_skip), strict=True):
                encoded[chunk] = emphasised(window, chunk.multipliers)
        return [encoded[chunk] for chunk in chunks]

    def forward(self, tokens: Tensor, clip_skip: int = 1) -> Tensor:
        """Contexts (B, 77, width) of windows of token ids (B, 77)."""
        network: Any = self.network
        tokens = tokens.to(network.final_layer_norm.weight.device)
        skip = min(clip_skip, self.config.layers)
        if skip == 1:
            return self.clip(input_ids=tokens).last_hidden_state  # type: ignore[no-any-return]
        hidden = self.clip(input_ids=tokens, output_hidden_states=True).hidden_states
        return network.final_layer_norm(hidden[-skip])  # type: ignore[no-any-return]


def split(tokens: Sequence[int], comma: int) -> Iterator[list[int]]:
    """Windows of at most 75 tokens, cut behind a comma where one is near the end, as A1111 cuts them.

    >>> [len(part) for part in split([1] * 60 + [9] + [1] * 20, comma=9)]
    [61, 20]
    """
    start = 0
    while len(tokens) - start > CHUNK:
        end = start + CHUNK
        # The token that no longer fits would tear a phrase apart, unless it is itself a comma
        if tokens[end] != comma:
            near = (i for i in range(end - 1, end - 1 - COMMA_REACH, -1) if tokens[i] == comma)
            end = next(near, end - 1) + 1
        yield list(tokens[start:end])
        start = end
    yield list(tokens[start:])


def emphasised(window: Tensor, multipliers: Sequence[float]) -> Tensor:
    """`window` (77, width) with each token's row multiplied, then brought back to its old mean (A1111's "Original")."""
    if all(multiplier == 1.0 for multiplier in multipliers):
        return window
    weighted = window.float() * torch.tensor(multipliers, device=window.device)[:, None]
    return (weighted * (window.float().mean() / weighted.mean())).to(window.dtype)


def _clip_text_model(config: TextConfig) -> nn.Module:
    """transformers' text encoder with random weights.

    Imported here because it takes seconds; the two variables keep transformers from ever asking a server.
    """
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.positions,
            hidden_act="quick_gelu",
            projection_dim=config.width,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=EOS,
        )
    )
