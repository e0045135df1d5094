"""The latent space of a loaded autoencoder (`diffusion.networks.LatentSpace`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from modules.checkpoints.families.parts import LatentFormat
from modules.diffusion.preview import PUBLISHED, LinearPreview, fit_rgb_factors
from modules.diffusion.transfers import sent
from modules.diffusion.vae import AutoencoderKL, VAEConfig


@dataclass(frozen=True, eq=False)
class KLLatentSpace:
    """`vae` computes in `dtype` on `device`; the denoiser sees its latents as `format` says."""

    vae: AutoencoderKL
    format: LatentFormat
    dtype: torch.dtype
    device: torch.device

    @property
    def channels(self) -> int:
        return self.format.channels

    @property
    def factor(self) -> int:
        return self.format.factor

    def encode(self, images: Tensor) -> Tensor:
        mean, _ = self.vae.encode(sent(images, self.device).to(self.dtype))
        return self.format.scaled(mean.float())

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(sent(self.format.raw(latents), self.device).to(self.dtype)).float()

    def raw(self, latent: Tensor) -> Tensor:
        return self.format.raw(latent)

    @cached_property
    def linear_preview(self) -> LinearPreview:
        """The first use may run the VAE: an autoencoder without a published map gets one fitted to it."""
        if self.vae.config == VAEConfig() and self.format.preview:
            return PUBLISHED[self.format.preview]
        return fit_rgb_factors(self.decode, self.format.channels)
