"""Tiled VAE: decode and encode in memory that does not grow with the picture, equal to the whole but for rounding.

A tile is a strip of rows of a feature map, as wide as the picture.  Layer by layer, each strip is computed from its rows and
the neighbours that the convolution reaches, and the whole feature map waits between layers, on the device or in main memory.
GroupNorm's statistics are gathered over all strips of a layer before the next one begins.  So there is nothing to blend: no
seam, and no shift of tone as from tiles that are decoded apart and normalised by their own statistics.

Only what attends to all positions runs whole, the middle block above all: at the latent's size, where feature maps are small.
Of the networks this file knows names and order of the layers, as in ldm's state dict, and nothing of how they run when whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.vae import AutoencoderKL, ResnetBlock, ResolutionLevel

GROUPS = 32
"""Of every normalisation of an autoencoder."""


@dataclass(frozen=True)
class Tiling:
    """How an autoencoder is run in tiles.

    A tile has as many values as `side` x `side` pixels at the finest level's width, so that it takes the same memory on every
    level; one row at least.  `on_host`: whole feature maps wait in main memory, else on the device.
    """

    side: int = 512
    on_host: bool = False


def decode(vae: AutoencoderKL, z: Tensor, tiling: Tiling) -> Tensor:
    """As `AutoencoderKL.decode`, picture by picture.  Weights may lie on another device than z."""
    return torch.cat([_decoded(vae, one, tiling) for one in torch.split(z, 1)])


def encode(vae: AutoencoderKL, x: Tensor, tiling: Tiling) -> tuple[Tensor, Tensor]:
    """As `AutoencoderKL.encode`, picture by picture."""
    return vae.moments(torch.cat([_encoded(vae, one, tiling) for one in torch.split(x, 1)]))


def _decoded(vae: AutoencoderKL, z: Tensor, tiling: Tiling) -> Tensor:
    decoder = vae.decoder
    run = _Run(z, tiling, vae.config.channels[0])
    x = run.kept(decoder.mid(decoder.conv_in(vae.to_decode(z))))
    for level in reversed(decoder.up):
        x = run.blocks(x, level)
        if upsample := getattr(level, "upsample", None):
            x = run.upsampled(x, upsample.conv)
    return run.normalised(x, decoder.norm_out, decoder.conv_out)


def _encoded(vae: AutoencoderKL, x: Tensor, tiling: Tiling) -> Tensor:
    encoder = vae.encoder
    run = _Run(x, tiling, vae.config.channels[0])
    h = run.first(x, encoder.conv_in)
    for level in encoder.down:
        h = run.blocks(h, level)
        if downsample := getattr(level, "downsample", None):
            h = run.downsampled(h, downsample.conv)
    h = run.kept(encoder.mid(h.rows(0, h.height, x.device)))
    return run.normalised(h, encoder.norm_out, encoder.conv_out)


@dataclass(eq=False)
class _Map:
    """A whole feature map (1, C, H, W) between two layers, channels last, so that rows lie together; and its statistics."""

    values: Tensor
    count: int = 0
    mean: Tensor | float = 0.0
    spread: Tensor | float = 0.0
    """Of each group, in float64 (GROUPS,): the mean, and the sum of squared differences from it."""

    @property
    def height(self) -> int:
        return self.values.shape[2]

    def rows(self, first: int, last: int, device: torch.device) -> Tensor:
        return self.values[:, :, max(0, first) : last].to(device)

    def put(self, first: int, part: Tensor) -> None:
        """Keep rows from `first` on; their statistics are joined with those of the rows before (Chan et al. 1983)."""
        self.values[:, :, first : first + part.shape[2]].copy_(part)
        variance, mean = torch.var_mean(torch.unflatten(part.float(), 1, (GROUPS, -1)), dim=(0, 2, 3, 4), correction=0)
        n = part.numel() // GROUPS
        difference, total = mean.double() - self.mean, self.count + n
        self.spread = self.spread + variance.double() * n + difference**2 * (self.count * n / total)
        self.mean = self.mean + difference * (n / total)
        self.count = total

    def affine(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """GroupNorm as a factor and a summand of each channel, (C, 1, 1) in float32."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.spread, Tensor)
        per = self.values.shape[1] // GROUPS
        scale = (self.spread / self.count + norm.eps).rsqrt().repeat_interleave(per)
        scale = scale * norm.weight.to(scale)
        shift = norm.bias.to(scale) - self.mean.repeat_interleave(per) * scale
        return scale.float()[:, None, None], shift.float()[:, None, None]


class _Run:
    """One picture's way through the layers of an encoder or a decoder."""

    def __init__(self, like: Tensor, tiling: Tiling, finest_width: int) -> None:
        self.device, self.dtype = like.device, like.dtype
        self.store = torch.device("cpu") if tiling.on_host else like.device
        self.values = tiling.side**2 * finest_width

    def kept(self, whole: Tensor) -> _Map:
        return self._each(whole.shape[1:], whole.shape[1], lambda first, last: whole[:, :, first:last])

    def first(self, x: Tensor, conv: nn.Module) -> _Map:
        assert isinstance(conv, nn.Conv2d)
        weight, bias = self._weights(conv)

        def make(first: int, last: int) -> Tensor:
            return F.conv2d(
                _padded(x[:, :, max(0, first - 1) : last + 1], first, last, x.shape[2]), weight, bias, padding=(0, 1)
            )

        return self._each((conv.out_channels, *x.shape[2:]), conv.out_channels, make)

    def blocks(self, x: _Map, level: nn.Module) -> _Map:
        """The blocks of a level; where each is followed by attention, that sees the whole map."""
        assert isinstance(level, ResolutionLevel)
        for number, block in enumerate(level.block):
            x = self.block(x, block)
            if level.attn:
                x = self.kept(level.attn[number](x.rows(0, x.height, self.device)))
        return x

    def block(self, x: _Map, block: nn.Module) -> _Map:
        """A residual block: two halves of normalisation, SiLU and convolution, and the shortcut."""
        assert isinstance(block, ResnetBlock)
        size = x.values.shape[2:]
        shape = (block.conv1.out_channels, *size)
        widest = max(shape[0], x.values.shape[1])
        h = self._each(shape, widest, self._half(x, block.norm1, block.conv1))
        half = self._half(h, block.norm2, block.conv2)
        shortcut = self._weights(block.nin_shortcut) if block.widens else None

        def make(first: int, last: int) -> Tensor:
            out = half(first, last)
            seen = x.rows(first, last, self.device)
            return out.add_(seen if shortcut is None else F.conv2d(seen, *shortcut))

        # What a strip adds to is read before the strip is written, and by no other: one map serves as both
        return self._each(shape, widest, make, None if block.widens else x.values)

    def upsampled(self, x: _Map, conv: nn.Conv2d) -> _Map:
        """Nearest-neighbour enlargement by two, then a convolution."""
        channels, height, width = x.values.shape[1], 2 * x.values.shape[2], 2 * x.values.shape[3]
        weight, bias = self._weights(conv)

        def make(first: int, last: int) -> Tensor:
            start = max(0, first - 1) // 2
            large = F.interpolate(x.rows(start, last // 2 + 1, self.device), scale_factor=2.0, mode="nearest")
            seen = large[:, :, max(0, first - 1) - 2 * start : last + 1 - 2 * start]
            return F.conv2d(_padded(seen, first, last, height), weight, bias, padding=(0, 1))

        return self._each((conv.out_channels, height, width), max(channels, conv.out_channels), make)

    def downsampled(self, x: _Map, conv: nn.Conv2d) -> _Map:
        """A convolution with stride 2, padded on the right and bottom only."""
        channels, height, width = x.values.shape[1:]
        weight, bias = self._weights(conv)

        def make(first: int, last: int) -> Tensor:
            seen = x.rows(2 * first, 2 * last + 1, self.device)
            return F.conv2d(F.pad(seen, (0, 1, 0, max(0, 2 * last + 1 - height))), weight, bias, stride=2)

        return self._each((conv.out_channels, height // 2, width // 2), 4 * max(channels, conv.out_channels), make)

    def normalised(self, x: _Map, norm: nn.GroupNorm, conv: nn.Conv2d) -> Tensor:
        """The last normalisation and convolution: (1, C, H, W) on the device."""
        make = self._half(x, norm, conv)
        size = x.values.shape[2:]
        out = torch.empty(1, conv.out_channels, *size, dtype=self.dtype, device=self.device)
        for first, last in self._strips(x.height, x.values.shape[1] * x.values.shape[3]):
            out[:, :, first:last] = make(first, last)
        return out

    def _half(self, x: _Map, norm: nn.GroupNorm, conv: nn.Conv2d) -> Callable[[int, int], Tensor]:
        """Normalisation, SiLU and convolution of given rows."""
        scale, shift = x.affine(norm)
        weight, bias = self._weights(conv)

        def make(first: int, last: int) -> Tensor:
            seen = x.rows(first - 1, last + 1, self.device)
            active = F.silu((seen.float() * scale).add_(shift).to(self.dtype), inplace=True)
            return F.conv2d(_padded(active, first, last, x.height), weight, bias, padding=(0, 1))

        return make

    def _each(
        self, shape: tuple[int, ...], widest: int, make: Callable[[int, int], Tensor], into: Tensor | None = None
    ) -> _Map:
        """The map (C, H, W) of `shape` whose rows `make` computes, strip by strip; `widest` are the channels of its work."""
        if into is None:
            layout = torch.channels_last
            into = torch.empty(1, *shape, dtype=self.dtype, device=self.store, memory_format=layout)
        made = _Map(into)
        for first, last in self._strips(shape[1], widest * shape[2]):
            made.put(first, make(first, last))
        return made

    def _strips(self, height: int, values_per_row: int) -> list[tuple[int, int]]:
        rows = max(1, self.values // values_per_row)
        rows = math.ceil(height / math.ceil(height / rows))  # as many strips, of equal heights
        return [(first, min(height, first + rows)) for first in range(0, height, rows)]

    def _weights(self, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
        assert conv.bias is not None
        return conv.weight.to(self.device), conv.bias.to(self.device)


def _padded(seen: Tensor, first: int, last: int, height: int) -> Tensor:
    """Rows first - 1 to last + 1 as a convolution sees them: zeros where they are beyond the picture's edge."""
    return F.pad(seen, (0, 0, int(first == 0), int(last == height)))
