"""The autoencoders between pixels and latents (Rombach et al. 2022, section 3.1), with ldm's state-dict names: those with a
Gaussian over latents (KL), and those with a codebook (VQ).

It knows nothing of the latent scale factor (0.18215 for SD 1.x): that belongs to the family's latent format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.attention import Attend, sdpa
from modules.diffusion.forward import convolved
from modules.diffusion.kernels import PLAIN, Kernels


@dataclass(frozen=True)
class VAEConfig:
    """The shape of an autoencoder; the defaults are Stable Diffusion 1.x (f = 8).

    `channels` has one entry per resolution level, finest first; `res_blocks` is the encoder's count per level (the decoder has
    one more).  `codebook` are the vectors of a VQ autoencoder's codebook, 0 for a KL one.  `attention` has an entry per level,
    True where each block is followed by attention; () for nowhere.  `middle_attention`: whether the middle attends.
    `quantised` ones have 1x1 convolutions between encoder, latents and decoder.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    res_blocks: int = 2
    latent_channels: int = 4
    image_channels: int = 3
    codebook: int = 0
    attention: tuple[bool, ...] = ()
    middle_attention: bool = True
    quantised: bool = True

    def attends(self, level: int) -> bool:
        """Whether the blocks of a level are followed by attention."""
        return bool(self.attention) and self.attention[level]

    @property
    def downsampling(self) -> int:
        """Pixels per latent position and side (8 for SD)."""
        return int(2 ** (len(self.channels) - 1))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.kernels = kernels
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)
        self.widens = channels != out_channels

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.kernels
        h, bias = convolved(self.conv1, kernels.group_norm(x, self.norm1, silu=True), kernels)
        h, bias = convolved(self.conv2, kernels.group_norm(h, self.norm2, silu=True, bias=bias), kernels)
        if self.widens:
            x = kernels.pointwise(x, self.nin_shortcut.weight, self.nin_shortcut.bias)
        return kernels.add(x, h, bias)


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int, attend: Attend = sdpa, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.attend, self.kernels = attend, kernels
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.kernels.group_norm(x, self.norm)
        q, k, v = (layer(h).flatten(2).transpose(1, 2).unsqueeze(2) for layer in (self.q, self.k, self.v))
        out = self.attend(q, k, v).squeeze(2)  # (B, N, C)
        return x + self.proj_out(out.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """Stride-2 convolution padded on the right and bottom only, as ldm does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # type: ignore[no-any-return]


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


class Middle(nn.Module):
    def __init__(self, channels: int, attend: Attend = sdpa, kernels: Kernels = PLAIN, attends: bool = True) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, kernels)
        self.attn_1 = AttnBlock(channels, attend, kernels) if attends else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels, kernels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))  # type: ignore[no-any-return]


class ResolutionLevel(nn.Module):
    """The blocks of one resolution, each with attention behind it where `attend` is given, and the step to the next one (none
    on the last)."""

    def __init__(
        self, channels: int, out_channels: int, blocks: int, step: str, kernels: Kernels = PLAIN, attend: Attend | None = None
    ) -> None:
        super().__init__()
        widths = [channels, *[out_channels] * (blocks - 1)]
        self.block = nn.ModuleList(ResnetBlock(width, out_channels, kernels) for width in widths)
        self.attn = nn.ModuleList(AttnBlock(out_channels, attend, kernels) for _ in range(blocks if attend else 0) if attend)
        if step == "down":
            self.downsample = Downsample(out_channels)
        elif step == "up":
            self.upsample = Upsample(out_channels)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        if self.step == "down":
            return self.downsample(x)  # type: ignore[no-any-return]
        return self.upsample(x) if self.step == "up" else x


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig, attend: Attend = sdpa, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        widths = config.channels
        self.conv_in = nn.Conv2d(config.image_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            ResolutionLevel(
                widths[max(0, i - 1)],
                width,
                config.res_blocks,
                "down" if i < len(widths) - 1 else "",
                kernels,
                attend if config.attends(i) else None,
            )
            for i, width in enumerate(widths)
        )
        self.mid = Middle(widths[-1], attend, kernels, config.middle_attention)
        self.kernels = kernels
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], _moments(config), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(self.kernels.group_norm(self.mid(h), self.norm_out, silu=True))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig, attend: Attend = sdpa, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        widths = config.channels
        top = len(widths) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], attend, kernels, config.middle_attention)
        self.up = nn.ModuleList(  # index = resolution level, finest first, as ldm numbers them; run from the last to the first
            ResolutionLevel(
                widths[min(top, i + 1)],
                width,
                config.res_blocks + 1,
                "up" if i else "",
                kernels,
                attend if config.attends(i) else None,
            )
            for i, width in enumerate(widths)
        )
        self.kernels = kernels
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(self.kernels.group_norm(h, self.norm_out, silu=True))  # type: ignore[no-any-return]


def _moments(config: VAEConfig) -> int:
    """Channels of what the encoder says: mean and log variance of each latent channel, or with a codebook the latent alone."""
    return config.latent_channels * (1 if config.codebook else 2)


class Codebook(nn.Module):
    """Of each vector of a latent the nearest one of a codebook (van den Oord et al. 2017, arXiv:1711.00937)."""

    AT_ONCE = 2048
    """Positions whose distances are in memory at once: 64 MiB to a codebook of 8192."""

    def __init__(self, vectors: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vectors, width)

    def forward(self, z: Tensor) -> Tensor:
        """z: (B, C, h, w)."""
        vectors = self.embedding.weight
        positions = z.movedim(1, -1).reshape(-1, z.shape[1])
        lengths = vectors.square().sum(dim=1)
        nearest = [(lengths - 2 * part @ vectors.T).argmin(dim=1) for part in torch.split(positions, self.AT_ONCE)]
        found: Tensor = self.embedding(torch.cat(nearest)).reshape(z.movedim(1, -1).shape)
        return found.movedim(-1, 1).contiguous()


class AutoencoderKL(nn.Module):
    """Pixels in [-1, 1] to a Gaussian over latents, and back; with a codebook to latents that are brought to its vectors only
    when they are decoded (ldm's `VQModelInterface`)."""

    def __init__(self, config: VAEConfig, attend: Attend = sdpa, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, attend, kernels)
        self.decoder = Decoder(config, attend, kernels)
        self.quantize = Codebook(config.codebook, config.latent_channels) if config.codebook else None
        moments, latent = _moments(config), config.latent_channels
        self.quant_conv: Any = nn.Conv2d(moments, moments, 1) if config.quantised else nn.Identity()
        self.post_quant_conv: Any = nn.Conv2d(latent, latent, 1) if config.quantised else nn.Identity()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents, unscaled.

        Args:
            x: (B, 3, H, W) in [-1, 1]; H and W divisible by `config.downsampling`.

        Returns:
            Two tensors (B, latent_channels, H/f, W/f); the log variance is clamped to [-30, 20], and with a codebook -30:
            nothing is drawn.
        """
        return self.moments(self.encoder(x))

    def moments(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents from what the encoder says."""
        said = self.quant_conv(encoded)
        if self.quantize is not None:
            return said, torch.full_like(said, -30.0)
        mean, logvar = said.chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode(self, z: Tensor) -> Tensor:
        """Pixels, roughly in [-1, 1] and not clamped, from unscaled latents (B, latent_channels, h, w)."""
        return self.decoder(self.to_decode(z))  # type: ignore[no-any-return]

    def to_decode(self, z: Tensor) -> Tensor:
        """What the decoder gets for unscaled latents."""
        return self.post_quant_conv(z if self.quantize is None else self.quantize(z))  # type: ignore[no-any-return]
