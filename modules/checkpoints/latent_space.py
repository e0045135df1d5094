"""The latent space of a loaded autoencoder (`diffusion.networks.LatentSpace`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from modules.checkpoints.families.parts import LatentFormat
from modules.diffusion import tiles
from modules.diffusion.preview import PUBLISHED, LinearPreview, fit_rgb_factors
from modules.diffusion.tiles import Tiling
from modules.diffusion.transfers import sent
from modules.diffusion.vae import AutoencoderKL, VAEConfig

FULL_SIZE = VAEConfig()
"""The form of the autoencoders whose latents published previews and small decoders were made for."""


@dataclass(frozen=True, eq=False)
class KLLatentSpace:
    """`vae` computes in `dtype` on `device`, in tiles where a `tiling` is given; the denoiser sees latents as `format` says."""

    vae: AutoencoderKL
    format: LatentFormat
    dtype: torch.dtype
    device: torch.device
    tiling: Tiling | None = None
    edits_scaled: bool = False
    """Whether a network that edits pictures is given their latents scaled."""

    def tiled(self, tiling: Tiling) -> KLLatentSpace:
        return replace(self, tiling=tiling)

    @property
    def channels(self) -> int:
        return self.format.channels

    @property
    def factor(self) -> int:
        return self.format.factor

    def encode(self, images: Tensor) -> Tensor:
        x = sent(images, self.device).to(self.dtype)
        mean, _ = self.vae.encode(x) if self.tiling is None else tiles.encode(self.vae, x, self.tiling)
        return self.format.scaled(mean.float())

    def decode(self, latents: Tensor) -> Tensor:
        z = sent(self.format.raw(latents), self.device).to(self.dtype)
        return (self.vae.decode(z) if self.tiling is None else tiles.decode(self.vae, z, self.tiling)).float()

    def to_edit(self, latent: Tensor) -> Tensor:
        return latent if self.edits_scaled else self.format.raw(latent)

    @property
    def published(self) -> str:
        """The name under which these latents are known (`LatentFormat.preview`), "" for those of an autoencoder of its own."""
        config = self.vae.config
        return self.format.preview if (config.channels, config.res_blocks) == (FULL_SIZE.channels, FULL_SIZE.res_blocks) else ""

    @cached_property
    def linear_preview(self) -> LinearPreview:
        """The first use may run the VAE: an autoencoder without a published map gets one fitted to it."""
        if self.published:
            return PUBLISHED[self.published]
        return fit_rgb_factors(self.decode, self.format.channels)


@dataclass(frozen=True, eq=False, kw_only=True)
class MapLatentSpace(KLLatentSpace):
    """Of a denoiser that paints along a map of classes (ldm's `SpatialRescaler`): `colours` (classes, C2), on the CPU, are what
    each class is for it, and a latent position sees the mean of its pixels."""

    colours: Tensor

    @property
    def classes(self) -> int:
        return self.colours.shape[0]

    def of_map(self, numbers: Tensor) -> Tensor:
        """(C2, h, w) of class numbers (H, W): halved by linear interpolation until it is as small as the latent.

        The mapping of classes to a few channels comes first here and last in ldm, which is the same, as both are linear.
        """
        channels = self.colours[numbers].movedim(-1, 0)[None]
        for _ in range((self.factor - 1).bit_length()):
            channels = interpolate(channels, scale_factor=0.5, mode="bilinear")
        return channels[0]
