"""The text transformer of latent diffusion's first text and layout models (Rombach et al. 2022, section 4.3.1), with the
state-dict names of the x-transformers library of then.

Every token attends to every other, padding included; BERT is in it the tokenizer alone (`modules.prompts.wordpiece`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.forward import ForwardContext, LayerNorm, Linear, Sequential, name_layers
from modules.prompts.chunks import WINDOW
from modules.prompts.wordpiece import VOCABULARY_SIZE


@dataclass(frozen=True)
class BERTConfig:
    """The shape of such a transformer; the defaults are those of the text-to-image model of 1.45 billion numbers.

    Attention has `heads` heads, `inner` wide together.
    """

    vocabulary: int = VOCABULARY_SIZE
    width: int = 1280
    layers: int = 32
    heads: int = 8
    inner: int = 512
    hidden: int = 5120
    positions: int = WINDOW


class BERTText(nn.Module):
    """Token ids to the context of a U-Net."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_emb = nn.Embedding(config.vocabulary, config.width)
        self.pos_emb = nn.ModuleDict({"emb": nn.Embedding(config.positions, config.width)})
        self.attn_layers = nn.ModuleDict({"layers": nn.ModuleList(_layers(config))})
        self.norm = LayerNorm(config.width)
        name_layers(self)

    def forward(self, tokens: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        """(B, T, width) of token ids (B, T), normalised; at most as many tokens as there are positions."""
        positions = cast(nn.Embedding, self.pos_emb["emb"]).weight[: tokens.shape[1]]
        x = self.token_emb(tokens) + positions
        for each in cast(nn.ModuleList, self.attn_layers["layers"]):
            norm, layer = cast(nn.ModuleList, each)
            x = x + layer(norm(x, ctx), ctx)
        return self.norm(x, ctx)  # type: ignore[no-any-return]


def _layers(config: BERTConfig) -> list[nn.Module]:
    """Self-attention and feed-forward networks in turns, each behind its norm."""
    made: list[nn.Module] = []
    for _ in range(config.layers):
        made.append(nn.ModuleList([LayerNorm(config.width), _Attention(config.width, config.inner, config.heads)]))
        made.append(nn.ModuleList([LayerNorm(config.width), _FeedForward(config.width, config.hidden)]))
    return made


class _Attention(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, inner, bias=False)
        self.to_k = Linear(width, inner, bias=False)
        self.to_v = Linear(width, inner, bias=False)
        self.to_out = Linear(inner, width)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        q, k, v = (
            project(x, ctx).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.to_q, self.to_k, self.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(-2), ctx)  # type: ignore[no-any-return]


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = Sequential(Sequential(Linear(width, hidden), nn.GELU()), nn.Identity(), Linear(hidden, width))

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.net(x, ctx)  # type: ignore[no-any-return]
