"""What transformers with joint attention are made of: text and image tokens attend to each other in one softmax.

Shared by SD 3's network (`mmdit`) and Flux's (`flux`).  Sizes: B batch, N image tokens, T text tokens, D width, H heads.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.attention import Attend
from modules.diffusion.forward import ForwardContext, Linear, Sequential
from modules.diffusion.layers import timestep_embedding

FREQUENCIES = 256
"""Sinusoidal features of a timestep, and of a guidance scale."""

PATCH = 2
"""Latent positions of a token on each axis."""


class JointConfig(Protocol):
    """What all configurations of such networks have: latent channels, those of concat conditioning among the ones that come in,
    and the widths of the context and of the pooled text."""

    @property
    def in_channels(self) -> int: ...

    @property
    def out_channels(self) -> int: ...

    @property
    def context_width(self) -> int: ...

    @property
    def pooled_width(self) -> int: ...


class JointTransformer(nn.Module):
    """A denoising network with joint attention."""

    def __init__(self, config: JointConfig, guided: bool = False) -> None:
        super().__init__()
        self.context_width, self.in_channels, self.out_channels = config.context_width, config.in_channels, config.out_channels
        self.vector_width = config.pooled_width + (FREQUENCIES if guided else 0)
        """Of the pooled text, with the features of the guidance scale behind it where it takes one."""

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        vector: Tensor,
        seen: Tensor | None = None,
        ctx: ForwardContext | None = None,
    ) -> Tensor:
        """The velocity (B, C, h, w) at x (B, C2, h, w), h and w even, and `timesteps` (B,) in [0, 1000].

        Args:
            context: (B, T, `context_width`), of which `seen` (B, T) is text and no padding; None where all of it is.
            vector: (B, `vector_width`).
        """
        raise NotImplementedError("each network has its own")


class RMSNorm(nn.Module):
    """x / root mean square(x) * weight, in float32 (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_normalised(x, self.weight, self.eps)


def rms_normalised(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)).to(x.dtype) * weight


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The layer norm, without weights of its own, of tokens x (B, N, D), scaled and shifted by (B, D): adaLN (Peebles & Xie
    2022, arXiv:2212.09748)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def bounded(x: Tensor) -> Tensor:
    """x held to what float16 can represent; residual streams of these networks can grow beyond it."""
    return x.clamp(-65504.0, 65504.0) if x.dtype == torch.float16 else x


def attended(attend: Attend, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention over (B, N, H, D / H), flattened to (B, N, D); `mask` (B, N) says which keys count."""
    if mask is None:
        return attend(q, k, v).flatten(-2)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :]).transpose(1, 2).flatten(-2)


def joint_mask(seen: Tensor | None, image_tokens: int) -> Tensor | None:
    """(B, T) of the text to (B, T + N): all image tokens count."""
    return None if seen is None else torch.cat([seen, seen.new_ones(len(seen), image_tokens)], dim=1)


def silu_linear(width: int, out: int) -> Sequential:
    """SiLU and a linear layer, which is called 1 in files."""
    return Sequential(nn.SiLU(), Linear(width, out))


def tanh_mlp(width: int, hidden: int) -> Sequential:
    """Linear, GELU by tanh, linear: 0 and 2 in files."""
    return Sequential(Linear(width, hidden), nn.GELU(approximate="tanh"), Linear(hidden, width))


def features(values: Tensor, like: Tensor) -> Tensor:
    """Sinusoidal features (B, 256) of numbers (B,), in the number format of `like`."""
    return timestep_embedding(values, FREQUENCIES).to(like.dtype)


def patches(x: Tensor) -> Tensor:
    """(B, C, h, w) to tokens (B, h w / 4, 4 C), row by row; of a token first all of one channel."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH * PATCH)


def of_patches(tokens: Tensor, height: int, width: int) -> Tensor:
    """The reverse of `patches`, to (B, C, `height`, `width`)."""
    batch, _, numbers = tokens.shape
    x = tokens.reshape(batch, height // PATCH, width // PATCH, numbers // PATCH**2, PATCH, PATCH)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height, width)
