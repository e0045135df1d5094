"""CLIP's text encoder: windows of tokens to what the network attends to.

It wraps transformers' `CLIPTextModel`, built from a derived shape and never from a hub, and knows windows of tokens; how a
prompt becomes windows is `modules.prompts.chunks`', and what weights do to encodings is `modules.diffusion.emphasis`'.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from modules.prompts.chunks import WINDOW, Chunk, Embedding, Insert
from modules.prompts.tokenizer import BOS, EOS, VOCABULARY_SIZE, Tokenizer

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


class TextEncoder(nn.Module):
    """Windows to contexts.  Parameters have transformers' names from `embeddings.` on, under `clip.`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = _clip_text_model(config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer()

    @property
    def network(self) -> nn.Module:
        """The module with `embeddings`, `encoder` and `final_layer_norm`; transformers 4 keeps it one level deeper than 5."""
        return getattr(self.clip, "text_model", self.clip)

    def materialise(self, device: torch.device) -> None:
        """Give the constant buffers values when the module was built on the meta device."""
        positions = torch.arange(self.config.positions, device=device)[None]
        self.network.embeddings.position_ids = positions  # type: ignore[union-attr]

    def encode_chunks(
        self, chunks: Iterable[Chunk], clip_skip: int = 1, vectors: Mapping[Embedding, Tensor] | None = None
    ) -> list[Tensor]:
        """(77, width) per window, its weights not yet applied; windows of equal content are encoded once.

        Args:
            chunks: any number.
            clip_skip: 1 takes the last layer's output, n the n-th from the end (at most as many as there are layers); the
                final normalisation follows in any case, as A1111 does for SD 1.x.
            vectors: (n, width) of every embedding that the windows name (textual inversion).
        """
        bare = [chunk.bare for chunk in chunks]
        distinct = list(dict.fromkeys(bare))
        encoded: dict[Chunk, Tensor] = {}
        for start in range(0, len(distinct), BATCH):
            batch = distinct[start : start + BATCH]
            with self._inserted([chunk.inserts for chunk in batch], vectors or {}):
                windows = self(torch.tensor([chunk.tokens for chunk in batch]), clip_skip)
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

        network: Any = self.network
        handle = network.embeddings.token_embedding.register_forward_hook(insert)
        try:
            yield
        finally:
            handle.remove()

    def forward(self, tokens: Tensor, clip_skip: int = 1) -> Tensor:
        """Contexts (B, 77, width) of windows of token ids (B, 77)."""
        network: Any = self.network
        tokens = tokens.to(network.final_layer_norm.weight.device)
        skip = min(clip_skip, self.config.layers)
        if skip == 1:
            return self.clip(input_ids=tokens).last_hidden_state  # type: ignore[no-any-return]
        hidden = self.clip(input_ids=tokens, output_hidden_states=True).hidden_states
        return network.final_layer_norm(hidden[-skip])  # type: ignore[no-any-return]


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
