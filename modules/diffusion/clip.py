"""CLIP's text transformer (Radford et al. 2021, arXiv:2103.00020, section 2.4), with transformers' state-dict names.

Ours rather than transformers' because its import alone takes seconds of every engine's start (it brings torch.distributed and
torch's compiler), and because adapters must reach the layers.  `tests/diffusion/test_parity.py` holds it to transformers'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.forward import ForwardContext, LayerNorm, Linear
from modules.prompts.chunks import WINDOW
from modules.prompts.tokenizer import EOS, VOCABULARY_SIZE


@dataclass(frozen=True)
class TextConfig:
    """The shape of a CLIP text encoder and how it is read; the defaults are Stable Diffusion 1.x (CLIP ViT-L/14).

    `projection` is the width of the pooled text, 0 for an encoder of which none is read.  `layer` is the hidden state that
    becomes the context, counted from the end with 1 for the last, None for the one that is asked for (clip skip); the final
    normalisation follows where `normalised`.  `pad` is the token that the network expects behind a text's end.
    With `pooled` the pooled text is read without a projection.
    """

    vocabulary: int = VOCABULARY_SIZE
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = WINDOW
    projection: int = 0
    activation: str = "quick_gelu"
    layer: int | None = None
    normalised: bool = True
    pad: int = EOS
    pooled: bool = False


class CLIPText(nn.Module):
    """Windows of token ids to the hidden states of all layers."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = LayerNorm(config.width)

    def forward(self, tokens: Tensor, ctx: ForwardContext | None = None) -> list[Tensor]:
        """(B, T, width) behind the embeddings and behind each layer, none of them normalised, for token ids (B, T)."""
        hidden: list[Tensor] = [self.embeddings(tokens)]
        for layer in self.encoder.layers:
            hidden.append(layer(hidden[-1], ctx))
        return hidden


class _Embeddings(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.positions, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))


class _Layer(nn.Module):
    """Causal self-attention and a feed-forward network, each with a norm before and a residual around it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = _CausalAttention(config.width, config.heads)
        self.layer_norm1 = LayerNorm(config.width)
        self.mlp = _FeedForward(config.width, config.hidden, config.activation)
        self.layer_norm2 = LayerNorm(config.width)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x, ctx), ctx)
        return x + self.mlp(self.layer_norm2(x, ctx), ctx)  # type: ignore[no-any-return]


class _CausalAttention(nn.Module):
    """Every token attends to itself and to those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        q, k, v = (
            project(x, ctx).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(out.transpose(1, 2).flatten(-2), ctx)  # type: ignore[no-any-return]


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activate: Callable[[Tensor], Tensor] = _quick_gelu if activation == "quick_gelu" else F.gelu
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.fc2(self.activate(self.fc1(x, ctx)), ctx)  # type: ignore[no-any-return]


def _quick_gelu(x: Tensor) -> Tensor:
    """The approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)
