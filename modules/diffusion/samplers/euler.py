"""Samplers of first order: Euler and its relatives.  One evaluation per step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.protocol import SamplerProgram, ancestral_step, churned, slope, toward

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def euler(
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> SamplerProgram:
    """Algorithm 2 of Karras et al. (2022, arXiv:2206.00364), first order."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_hat = churned(sigma, len(sigmas) - 1, s_churn, s_tmin, s_tmax)
        if s_churn > 0:  # drawn even where it is not used, as k-diffusion does: later draws stay where they are
            x = x + noise().to(x) * (s_noise * math.sqrt(sigma_hat**2 - sigma**2))
        denoised = yield x, sigma_hat
        x = x + slope(x, sigma_hat, denoised) * (sigma_next - sigma_hat)
    return x


def euler_ancestral(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """Euler down to less noise than the next level has, then fresh noise on top (k-diffusion's ancestral step).

    With `eta` 1 it is DDPM's own sampler (Ho et al. 2020, arXiv:2006.11239), with 0 it is `euler`.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = x + slope(x, sigma, denoised) * (sigma_down - sigma)
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
    return x


def ddim(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 0.0) -> SamplerProgram:
    """DDIM: Song et al. (2021, arXiv:2010.02502), equation 12.

    In the paper's variance-preserving form y = x / sqrt(1 + sigma^2), and in x and sigma its step is exactly the ancestral one
    (Euler's for `eta` 0: their section 4.3).  A1111 decodes y, so where the levels stop above 0 (`schedules.ddim_leading`) the
    result is scaled to it.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = toward(denoised, x, sigma_down / sigma)
        if sigma_up > 0:
            x = x + noise().to(x) * sigma_up
    return x / math.hypot(1.0, sigmas[-1])


def lcm(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """Multistep consistency sampling: Luo et al. (2023, arXiv:2310.04378), algorithm 3.  For networks distilled to it.

    A1111's timesteps and boundary scaling belong to what it asks: `modules.pipelines.consistency`.
    """
    for sigma, sigma_next in pairwise(sigmas):
        x = yield x, sigma
        if sigma_next > 0:
            x = x + noise().to(x) * sigma_next
    return x


def gradient_estimation(x: Tensor, sigmas: list[float], noise: Noise, *, gamma: float = 2.0) -> SamplerProgram:
    """Euler along a slope that is corrected by its last change: Permenter & Yuan (2023, arXiv:2306.04848), algorithm 2.

    `gamma` 2 is the paper's choice; 1 is `euler`.
    """
    d_last: Tensor | None = None
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        d = slope(x, sigma, denoised)
        d_bar = d if d_last is None else gamma * d + (1 - gamma) * d_last
        x = x + d_bar * (sigma_next - sigma)
        d_last = d
    return x
