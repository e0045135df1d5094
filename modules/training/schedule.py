"""Stable Diffusion 1.x's noise schedule (Rombach et al. 2022): what the denoiser is trained on and sampled along."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEPS = 1000


def alphas_cumprod() -> Tensor:
    """(1000,): betas linear in their square roots from .00085 to .012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def loss_weights(alphas: Tensor) -> Tensor:
    """Weights of the squared error of the noise: min-SNR-5 (Hang et al. 2023) keeps the clean end from dominating,
    min(1/alpha, 8) stresses the noisy half, where it is decided what appears on which ground."""
    return torch.minimum((1 / alphas).clamp_max(8.0), 5 * (1 - alphas) / alphas)


def karras(steps: int, rho: float = 7.0) -> list[float]:
    """Noise levels from the schedule's highest to its lowest, even in their rho-th roots, then 0 (Karras 2022, eq. 5)."""
    levels = _sigmas()
    high, low = levels[-1].item() ** (1 / rho), levels[0].item() ** (1 / rho)
    return [(high + index / max(1, steps - 1) * (low - high)) ** rho for index in range(steps)] + [0.0]


def timestep_of(sigma: float) -> float:
    """The fractional timestep at which the schedule has this noise level (linear in the logarithm)."""
    logs = _sigmas().log()
    high = int((logs < math.log(sigma)).sum().clamp(1, STEPS - 1))
    share = (math.log(sigma) - logs[high - 1]) / (logs[high] - logs[high - 1])
    return high - 1 + share.clamp(0, 1).item()


def _sigmas() -> Tensor:
    alphas = alphas_cumprod().double()
    return ((1 - alphas) / alphas).sqrt()
