"""TAESD: a tiny autoencoder, distilled from a Stable Diffusion VAE; its decoder and encoder have 1.2 million weights each.

After Ollin Boer Bohan's `taesd.py` (github.com/madebyollin/taesd, MIT), whose layer numbers are the names of the tensors.  It
works on latents as the denoiser sees them, scaled, and on images in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 64
"""Channels of every layer inside."""


class TinyBlock(nn.Module):
    """Three convolutions around an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class SoftClamp(nn.Module):
    """tanh(x / 3) * 3: latents far outside of what the VAE gives are drawn in."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class TinyDecoder(nn.Sequential):
    """Images (B, 3, 8 h, 8 w) around [0, 1] of scaled latents (B, `channels`, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            *(SoftClamp(), _conv(channels, WIDTH), nn.ReLU()),
            *(*_blocks(3), nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)),
            *(*_blocks(3), nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)),
            *(*_blocks(3), nn.Upsample(scale_factor=2), _conv(WIDTH, WIDTH, bias=False)),
            *(*_blocks(1), _conv(WIDTH, 3)),
        )
        self.channels = channels


class TinyEncoder(nn.Sequential):
    """Scaled latents (B, `channels`, H / 8, W / 8) of images (B, 3, H, W) in [0, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            *(_conv(3, WIDTH), *_blocks(1)),
            *(_conv(WIDTH, WIDTH, stride=2, bias=False), *_blocks(3)),
            *(_conv(WIDTH, WIDTH, stride=2, bias=False), *_blocks(3)),
            *(_conv(WIDTH, WIDTH, stride=2, bias=False), *_blocks(3)),
            _conv(WIDTH, channels),
        )
        self.channels = channels


def _blocks(count: int) -> list[TinyBlock]:
    return [TinyBlock() for _ in range(count)]


def _conv(incoming: int, out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(incoming, out, 3, stride=stride, padding=1, bias=bias)
