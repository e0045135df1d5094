"""The blocks of the latent-diffusion networks, with the state-dict names of CompVis' latent-diffusion.

They know shapes and nothing else: no device, no checkpoint, no sampler.  Sizes: B batch, C channels, H W latent rows and
columns, N = H·W tokens, T context tokens, D context width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.attention import Attend, sdpa
from modules.diffusion.forward import Conv2d, ForwardContext, GroupNorm, LayerNorm, Linear, Sequential, Stack
from modules.diffusion.kernels import PLAIN, Kernels


def timestep_embedding(timesteps: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal features of the timesteps, cosines first (ldm's order).

    Args:
        timesteps: (B,), fractions allowed.
        width: even number of features.

    Returns:
        (B, width) in fp32.  DDPM (Ho et al. 2020), after Vaswani et al. 2017, section 3.5.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Residual block with the time embedding added between its two convolutions.

    With `scale_shift` the time embedding scales and shifts the second norm instead (ldm's `use_scale_shift_norm`).  `resample`
    is "down" or "up" for a block in the place of a `Downsample` or `Upsample` (ldm's `resblock_updown`, after BigGAN).
    """

    def __init__(
        self,
        channels: int,
        time_width: int,
        out_channels: int,
        kernels: Kernels = PLAIN,
        scale_shift: bool = False,
        resample: str = "",
    ) -> None:
        super().__init__()
        self.kernels, self.scale_shift, self.resample = kernels, scale_shift, resample
        self.in_layers = Sequential(GroupNorm(32, channels), nn.SiLU(), Conv2d(channels, out_channels, 3, padding=1))
        self.emb_layers = Sequential(nn.SiLU(), Linear(time_width, out_channels * (2 if scale_shift else 1)))
        self.out_layers = Sequential(
            GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Identity(),  # ldm's dropout sits here: the convolution must keep the name out_layers.3
            Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = None if channels == out_channels else Conv2d(channels, out_channels, 1)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        ctx: ForwardContext | None = None,
        embedded: Tensor | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """`embedded` (B, out_channels) is what `emb_layers` make of the time embedding, where that is known already; `size` is
        that of the output where the block enlarges."""
        if embedded is None:
            embedded = cast(Tensor, self.emb_layers(time, ctx))
        kernels = self.kernels
        norm, conv = cast(GroupNorm, self.in_layers[0]), cast(Conv2d, self.in_layers[2])
        h = norm.by(kernels, x, ctx, silu=True)
        if self.resample:
            x, h = self._resampled(x, size), self._resampled(h, size)
        h, bias = conv.with_bias_later(h, kernels, ctx)
        norm, conv = cast(GroupNorm, self.out_layers[0]), cast(Conv2d, self.out_layers[3])
        if self.scale_shift:
            scale, shift = embedded[:, :, None, None].chunk(2, dim=1)
            h = F.silu(norm.by(kernels, h, ctx, bias=bias) * (1 + scale) + shift)
        else:
            h = norm.by(kernels, h, ctx, silu=True, shift=embedded, bias=bias)
        h, bias = conv.with_bias_later(h, kernels, ctx)
        skip = x if self.skip_connection is None else self.skip_connection(x, ctx, kernels)
        return kernels.add(skip, h, bias)

    def _resampled(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Means of 2x2 positions, at an odd edge of those that there are; or each position repeated."""
        if self.resample == "down":
            return F.avg_pool2d(x, 2, ceil_mode=True)
        return F.interpolate(x, size=size, mode="nearest")


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.op(x, ctx)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to `size` (the skip's size, so that odd latents work), then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int], ctx: ForwardContext | None = None) -> Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"), ctx)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class KeysValues:
    """The keys and values (B, T, width) that attentions to a context make of it, by the attention's place."""

    of: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(tensor.numel() * tensor.element_size() for pair in self.of.values() for tensor in pair)


class CrossAttention(nn.Module):
    """Multi-head attention of x to a context; to itself when none is given.  `place` is its name in the state dict."""

    place = ""

    def __init__(self, width: int, context_width: int, heads: int, attend: Attend = sdpa) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(context_width, width, bias=False)
        self.to_v = Linear(context_width, width, bias=False)
        self.to_out = Sequential(Linear(width, width), nn.Identity())
        self.of_x = Stack([self.to_q, self.to_k, self.to_v])
        self.of_context = Stack([self.to_k, self.to_v])

    def forward(self, x: Tensor, context: Tensor | KeysValues | None = None, ctx: ForwardContext | None = None) -> Tensor:
        projected: tuple[Any, ...]
        if isinstance(context, KeysValues):
            projected = (self.to_q(x, ctx), *context.of[self.place])
        elif ctx is not None and ctx.hypernetworks and ctx.changes_input(self.to_k.place):
            source = x if context is None else context
            k, v = ctx.changed_input(self.to_k.place, source), ctx.changed_input(self.to_v.place, source)
            projected = self.to_q(x, ctx), self.to_k(k, ctx), self.to_v(v, ctx)
        else:
            projected = self.of_x(x, ctx) if context is None else (self.to_q(x, ctx), *self.of_context(context, ctx))
        q, k, v = (each.unflatten(-1, (self.heads, -1)) for each in projected)
        out = self.attend(q, k, v)
        if ctx is not None and ctx.taps:
            out = ctx.tapped(self.place, q, k, v, out)
        return self.to_out(out.flatten(-2), ctx)  # type: ignore[no-any-return]


class GEGLU(nn.Module):
    """Gated linear unit with GELU (Shazeer 2020)."""

    def __init__(self, width: int, out_width: int, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.kernels = kernels
        self.proj = Linear(width, out_width * 2)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.kernels.geglu(self.proj(x, ctx))


class FeedForward(nn.Module):
    def __init__(self, width: int, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.kernels = kernels
        self.net = nn.ModuleList([GEGLU(width, width * 4, kernels), nn.Identity(), Linear(width * 4, width)])  # ldm's dropout

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.net[2](self.net[0](x, ctx), ctx)  # type: ignore[no-any-return]

    def added_to(self, total: Tensor, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        """`total` + `forward` of x, where `total` has the `bias` already and is not used any more."""
        out, h = cast(Linear, self.net[2]), self.net[0](x, ctx)
        return out.adapted(h, self.kernels.accumulate(total, h, out.weight), ctx)

    @property
    def bias(self) -> Tensor | None:
        return cast(Linear, self.net[2]).bias


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; each with a norm before and a residual around it.

    With `cross_only` the first attention is to the text as well (ldm's `disable_self_attn`).
    """

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        attend: Attend = sdpa,
        kernels: Kernels = PLAIN,
        cross_only: bool = False,
    ) -> None:
        super().__init__()
        self.kernels, self.cross_only = kernels, cross_only
        self.attn1 = CrossAttention(width, context_width if cross_only else width, heads, attend)
        self.ff = FeedForward(width, kernels)
        self.attn2 = CrossAttention(width, context_width, heads, attend)
        self.norm1, self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width), LayerNorm(width)

    @property
    def to_context(self) -> list[CrossAttention]:
        """The attentions to the text."""
        return [self.attn1, self.attn2] if self.cross_only else [self.attn2]

    def join(self) -> None:
        """Let projections of one input be one matrix product each (`Stack`)."""
        if not self.cross_only:
            self.attn1.of_x.join()
        for attention in self.to_context:
            attention.of_context.join()

    def forward(self, x: Tensor, context: Tensor | KeysValues, ctx: ForwardContext | None = None) -> Tensor:
        kernels = self.kernels
        seen = context if self.cross_only else None
        x, normal = self.norm2.after(kernels, x, self.attn1(self.norm1.by(kernels, x, ctx), seen, ctx), ctx)
        later = self.ff.bias if kernels.late_bias else None
        x, normal = self.norm3.after(kernels, x, self.attn2(normal, context, ctx), ctx, later)
        return x + self.ff(normal, ctx) if later is None else self.ff.added_to(x, normal, ctx)


class SelfAttentionBlock(nn.Module):
    """Attention of the positions of a feature map to each other, in networks without a context (ldm's `AttentionBlock`).

    Queries, keys and values of a head lie behind one another, and heads behind these: ldm's older order.  ldm's convolutions
    over positions in a row are the same numbers as linear layers.
    """

    def __init__(self, channels: int, heads: int, attend: Attend = sdpa, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.heads, self.attend, self.kernels = heads, attend, kernels
        self.norm = GroupNorm(32, channels)
        self.qkv = Linear(channels, 3 * channels)
        self.proj_out = Linear(channels, channels)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        """x: (B, C, H, W)."""
        tokens = self.norm.by(self.kernels, x, ctx).flatten(2).transpose(1, 2)  # (B, N, C)
        q, k, v = self.qkv(tokens, ctx).unflatten(-1, (self.heads, 3, -1)).unbind(-2)
        out = self.proj_out(self.attend(q, k, v).flatten(-2), ctx)
        return x + out.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, between two 1x1 convolutions (SD 1.x's form)."""

    def __init__(
        self,
        channels: int,
        context_width: int,
        heads: int,
        depth: int,
        attend: Attend = sdpa,
        kernels: Kernels = PLAIN,
        cross_only: bool = False,
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.norm = GroupNorm(32, channels, eps=1e-6)
        self.proj_in = Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(channels, context_width, heads, attend, kernels, cross_only) for _ in range(depth)
        )
        self.proj_out = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor | KeysValues, ctx: ForwardContext | None = None) -> Tensor:
        if ctx is not None:
            ctx.grid = x.shape[-2], x.shape[-1]
        h = self.proj_in(self.norm.by(self.kernels, x, ctx), ctx, self.kernels)
        tokens = h.flatten(2).transpose(1, 2)  # (B, N, C)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, ctx)
        h = tokens.transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h, ctx, self.kernels)  # type: ignore[no-any-return]
