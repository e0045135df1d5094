"""What a sampler is, and the few formulas that many of them share.

A sampler is a generator that yields (x, sigma), is sent the denoised x, and returns the final x.  It knows neither networks,
guidance nor progress, and never loops over a model itself: its driver decides when, so that many share a forward.  Noise
levels are floats, and torch is not imported here: the web process reads the table of samplers.

In all of them x = x0 + sigma * noise, and (x - denoised) / sigma is the slope dx/dsigma of the probability-flow ODE
(Karras et al. 2022, equation 1 with sigma(t) = t).  h is a step in lambda = -log sigma, the time of exponential integrators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

SamplerProgram = Generator[tuple["Tensor", float], "Tensor", "Tensor"]
"""Yields (x, sigma), receives the denoised x (same shape), returns the final x."""


class Denoised(NamedTuple):
    """What guidance makes of an evaluation: the guided x0, and what the network said under the negative prompt alone."""

    guided: Tensor
    negative: Tensor


CfgPPProgram = Generator[tuple["Tensor", float], Denoised, "Tensor"]
"""The program of a CFG++ sampler, which follows the guided x0 along the negative prompt's noise."""

SamplerFunction = Callable[..., "SamplerProgram | CfgPPProgram"]
"""(x at sigmas[0], falling sigmas, the image's noise, options by name) -> program."""


def slope(x: Tensor, sigma: float, denoised: Tensor) -> Tensor:
    """dx/dsigma of the probability-flow ODE."""
    return (x - denoised) / sigma


def toward(denoised: Tensor, x: Tensor, ratio: float) -> Tensor:
    """`x` with its noise shrunk to `ratio`: the exact step where the denoised x stays as it is (DDIM, DPM-Solver++ 1)."""
    return denoised + (x - denoised) * ratio


def ancestral_step(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """(sigma_down, sigma_up): the level to step down to, and the noise that leads back up to `sigma_next`.

    sigma_down^2 + sigma_up^2 = sigma_next^2.  With `eta` 1 the noise is that of the DDPM posterior (Ho et al. 2020, eq. 7).
    """
    up = min(sigma_next, eta * sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
    return math.sqrt(sigma_next**2 - up**2), up


def churned(sigma: float, steps: int, s_churn: float, s_tmin: float, s_tmax: float) -> float:
    """sigma_hat, the level to which Karras et al. (2022), algorithm 2, raise the noise before a step."""
    gamma = min(s_churn / steps, math.sqrt(2.0) - 1.0) if s_tmin <= sigma <= s_tmax else 0.0
    return sigma * (1.0 + gamma)


def phi_1(h: float) -> float:
    """(e^-h - 1) / -h: the weight of a constant in an exponential integrator's step, divided by h."""
    return -math.expm1(-h) / h


def phi_2(h: float) -> float:
    """(phi_1(h) - 1) / -h: the weight of a slope.  Below h = 0.01 its series is exacter than the difference."""
    return (1.0 - phi_1(h)) / h if h > 1e-2 else 0.5 - h / 6 + h**2 / 24 - h**3 / 120
