"""T5's encoder (Raffel et al. 2019, arXiv:1910.10683; version 1.1 with gated GELU), with transformers' state-dict names.

Attention is not scaled, and knows positions by a bias for the distance between tokens, which all layers share.  There is no
mask: the denoisers that read it were trained with its padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.adapters import Adapter
from modules.diffusion.forward import ForwardContext, Linear, context_for, name_layers
from modules.diffusion.joint import RMSNorm, bounded
from modules.diffusion.transfers import numbers

PAD, END = 0, 1
"""Token ids."""

FARTHEST = 128
"""Distances from here on share a bias."""

BATCH = 4
"""Texts of one forward."""


@dataclass(frozen=True)
class T5Config:
    """The shape of the encoder; the defaults are T5 v1.1 XXL's.  `buckets` are the distances that it tells apart."""

    vocabulary: int = 32_128
    width: int = 4096
    inner: int = 4096
    hidden: int = 10_240
    heads: int = 64
    layers: int = 24
    buckets: int = 32


class T5Text(nn.Module):
    """Token ids to the last hidden state."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocabulary, config.width)
        self.encoder = _Stack(config)
        name_layers(self)

    def forward(self, tokens: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        """(B, T, width), normalised, of token ids (B, T)."""
        x, bias = self.shared(tokens), None
        for block in self.encoder.block:
            x, bias = block(x, bias, ctx)
        return self.encoder.final_layer_norm(x)  # type: ignore[no-any-return]

    def encode(self, texts: Sequence[Sequence[int]], adapters: Sequence[tuple[Adapter, float]] = ()) -> list[Tensor]:
        """(T, width) of each text's token ids; those of one length are encoded together."""
        device = self.encoder.final_layer_norm.weight.device
        encoded: list[Tensor | None] = [None] * len(texts)
        by_length: dict[int, list[int]] = {}
        for number, text in enumerate(texts):
            by_length.setdefault(len(text), []).append(number)
        for alike in by_length.values():
            for start in range(0, len(alike), BATCH):
                batch = alike[start : start + BATCH]
                ctx = context_for([adapters] * len(batch), [()] * len(batch), None, device)
                for number, hidden in zip(batch, self(numbers([texts[each] for each in batch], device), ctx), strict=True):
                    encoded[number] = hidden
        return [each for each in encoded if each is not None]


class _Stack(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.block = nn.ModuleList(_Block(config, first=number == 0) for number in range(config.layers))
        self.final_layer_norm = RMSNorm(config.width)


class _Block(nn.Module):
    """Its two layers are called by themselves, as their weights may be streamed."""

    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([_SelfAttentionLayer(config, first), _FeedForwardLayer(config)])

    def forward(self, x: Tensor, bias: Tensor | None, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor]:
        x, bias = self.layer[0](x, bias, ctx)
        return self.layer[1](x, ctx), bias


class _SelfAttentionLayer(nn.Module):
    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.SelfAttention = _SelfAttention(config, first)
        self.layer_norm = RMSNorm(config.width)

    def forward(self, x: Tensor, bias: Tensor | None, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor]:
        bias = self.SelfAttention.bias(x.shape[1], x.dtype) if bias is None else bias
        return bounded(x + self.SelfAttention(self.layer_norm(x), bias, ctx)), bias


class _SelfAttention(nn.Module):
    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.q, self.k, self.v = (Linear(config.width, config.inner, bias=False) for _ in range(3))
        self.o = Linear(config.inner, config.width, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(config.buckets, config.heads)

    def bias(self, length: int, dtype: torch.dtype) -> Tensor:
        """(1, heads, `length`, `length`): what is added to the scores, by the distance from query to key."""
        table = self.relative_attention_bias
        positions = torch.arange(length, device=table.weight.device)
        buckets = bucketed(positions[None, :] - positions[:, None], table.num_embeddings)
        return table(buckets).permute(2, 0, 1)[None].to(dtype)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, bias: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        q, k, v = (each(x, ctx).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(out.transpose(1, 2).flatten(-2), ctx)  # type: ignore[no-any-return]


def bucketed(distances: Tensor, buckets: int) -> Tensor:
    """The number of the bias for a distance from query to key: half of them for either side, of which half are exact and the
    others grow with the logarithm."""
    side = buckets // 2
    exact = side // 2
    away = distances.abs()
    far = exact + (torch.log(away.float().clamp(min=1) / exact) / math.log(FARTHEST / exact) * (side - exact)).long()
    return (distances > 0).long() * side + torch.where(away < exact, away, far.clamp(max=side - 1))


class _FeedForwardLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = _GatedGELU(config)
        self.layer_norm = RMSNorm(config.width)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return bounded(x + self.DenseReluDense(self.layer_norm(x), ctx))


class _GatedGELU(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = (Linear(config.width, config.hidden, bias=False) for _ in range(2))
        self.wo = Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        gated = F.gelu(self.wi_0(x, ctx), approximate="tanh") * self.wi_1(x, ctx)
        return self.wo(gated, ctx)  # type: ignore[no-any-return]
