"""What training minimises: the error of the predicted noise (or v) of noised latents, weighted by the noise level.

Ho et al. (2020), section 3.4, on the schedule of the model; the weights are min-SNR-gamma's (Hang et al. 2023,
arXiv:2303.09556).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.diffusion.networks import NoiseProcess
from modules.diffusion.prediction import DiscreteNoise
from modules.errors import RequestError


@dataclass(frozen=True, eq=False)
class Objective:
    """`alphas` are the cumulative ones (T,), `weights` the loss's (T,); `v` says what the network predicts."""

    alphas: Tensor
    weights: Tensor
    v: bool

    @classmethod
    def of(cls, noise: NoiseProcess, gamma: float, device: torch.device) -> Objective:
        """`gamma` 0 for a weight of 1 everywhere.

        Raises:
            RequestError: the model's noise is not that of discrete timesteps.
        """
        if not isinstance(noise, DiscreteNoise):
            raise RequestError("--model: this checkpoint was not trained on discrete timesteps of noise; choose an SD 1.x one")
        sigmas = torch.tensor(noise.trained.sigmas, dtype=torch.float64)
        snr = sigmas**-2
        v = noise.prediction.name == "v"
        weights = snr.clamp(max=gamma) / (snr + 1 if v else snr) if gamma else torch.ones_like(snr)
        return cls((1 / (1 + sigmas**2)).float().to(device), weights.float().to(device), v)

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t (B, C, h, w) with unit variance, what the network is fed."""
        alpha = self.alphas[timesteps][:, None, None, None]
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise

    def errors(self, predicted: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(B,) weighted mean squared errors."""
        target = noise
        if self.v:
            alpha = self.alphas[timesteps][:, None, None, None]
            target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        return (predicted.float() - target).square().mean((1, 2, 3)) * self.weights[timesteps]
