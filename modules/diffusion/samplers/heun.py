"""Samplers that evaluate a step twice or more: Heun, Heun++, DPM-Solver-2 and Restart."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.protocol import SamplerProgram, ancestral_step, churned, slope

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def heun(
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> SamplerProgram:
    """Algorithm 2 of Karras et al. (2022, arXiv:2206.00364), second order."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_hat = churned(sigma, len(sigmas) - 1, s_churn, s_tmin, s_tmax)
        if s_churn > 0:
            x = x + noise().to(x) * (s_noise * math.sqrt(sigma_hat**2 - sigma**2))
        denoised = yield x, sigma_hat
        d = slope(x, sigma_hat, denoised)
        if sigma_next > 0:  # Heun's correction; the last step is Euler, since the slope at 0 is 0 / 0
            x_2 = x + d * (sigma_next - sigma_hat)
            denoised_2 = yield x_2, sigma_next
            d = (d + slope(x_2, sigma_next, denoised_2)) / 2
        x = x + d * (sigma_next - sigma_hat)
    return x


def heunpp2(
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> SamplerProgram:
    """Heun++: slopes at the next two levels too, weighted by their noise (Zhang et al., as in ComfyUI's `heunpp2`).

    The weights of the further slopes vanish with the noise and not with the step, so its order is one; it is used for its look.
    Three evaluations per step, two in the last but one, one in the last.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        sigma_hat = churned(sigma, len(sigmas) - 1, s_churn, s_tmin, s_tmax)
        if s_churn > 0:
            x = x + noise().to(x) * (s_noise * math.sqrt(sigma_hat**2 - sigma**2))
        denoised = yield x, sigma_hat
        d = slope(x, sigma_hat, denoised)
        beyond = sigmas[i + 2] if i + 2 < len(sigmas) else None
        if beyond is not None:
            x_2 = x + d * (sigma_next - sigma_hat)
            denoised_2 = yield x_2, sigma_next
            d_2 = slope(x_2, sigma_next, denoised_2)
            if i + 3 == len(sigmas):
                w_2 = sigma_next / (2 * sigmas[0])
                d = d * (1 - w_2) + d_2 * w_2
            else:
                x_3 = x_2 + d_2 * (beyond - sigma_next)
                denoised_3 = yield x_3, beyond
                w_2, w_3 = sigma_next / (3 * sigmas[0]), beyond / (3 * sigmas[0])
                d = d * (1 - w_2 - w_3) + d_2 * w_2 + slope(x_3, beyond, denoised_3) * w_3
        x = x + d * (sigma_next - sigma_hat)
    return x


def dpm_2(
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> SamplerProgram:
    """The midpoint method with the middle in log sigma: k-diffusion's `sample_dpm_2`, after DPM-Solver-2 (Lu et al. 2022)."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_hat = churned(sigma, len(sigmas) - 1, s_churn, s_tmin, s_tmax)
        if s_churn > 0:
            x = x + noise().to(x) * (s_noise * math.sqrt(sigma_hat**2 - sigma**2))
        denoised = yield x, sigma_hat
        d = slope(x, sigma_hat, denoised)
        if sigma_next > 0:
            sigma_mid = math.sqrt(sigma_hat * sigma_next)
            x_2 = x + d * (sigma_mid - sigma_hat)
            denoised_2 = yield x_2, sigma_mid
            d = slope(x_2, sigma_mid, denoised_2)
        x = x + d * (sigma_next - sigma_hat)
    return x


def dpm_2_ancestral(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """`dpm_2` down to less noise than the next level has, then fresh noise on top."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        d = slope(x, sigma, denoised)
        if sigma_down > 0:
            sigma_mid = math.sqrt(sigma * sigma_down)
            x_2 = x + d * (sigma_mid - sigma)
            denoised_2 = yield x_2, sigma_mid
            d = slope(x_2, sigma_mid, denoised_2)
        x = x + d * (sigma_down - sigma)
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
    return x


def restart(x: Tensor, sigmas: list[float], noise: Noise, *, s_noise: float = 1.0) -> SamplerProgram:
    """Heun's steps along a path that climbs back up with fresh noise: Xu et al. (2023, arXiv:2306.14878), `restart_plan`."""
    level = sigmas[0]
    for sigma, sigma_next in restart_plan(sigmas):
        if sigma > level:
            x = x + noise().to(x) * (s_noise * math.sqrt(sigma**2 - level**2))
        denoised = yield x, sigma
        d = slope(x, sigma, denoised)
        if sigma_next > 0:
            x_2 = x + d * (sigma_next - sigma)
            denoised_2 = yield x_2, sigma_next
            d = (d + slope(x_2, sigma_next, denoised_2)) / 2
        x = x + d * (sigma_next - sigma)
        level = sigma_next
    return x


def restart_plan(sigmas: list[float]) -> list[tuple[float, float]]:
    """The steps (from, to) that Restart walks, as A1111 plans them; as many as `sigmas` has.

    From 20 steps on, 9 of them walk again from about sigma 2 to about 0.1, spread like Karras'; from 36 on a quarter of them,
    twice.  The main path is then Karras' too, between the ends of `sigmas`.  With fewer steps, or a path that never comes near
    those levels, nothing is walked again.
    """
    steps = len(sigmas) - 1
    if steps < 20:
        return list(pairwise(sigmas))
    again, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    main = [*_karras(steps - again * times, sigmas[0], sigmas[-2]), 0.0]

    low = min(range(len(main)), key=lambda i: abs(main[i] - 0.1))
    high = min(range(len(main)), key=lambda i: abs(main[i] - 2.0))
    plan = list(pairwise(main))
    if high < low:
        loop = list(pairwise(_karras(again + 1, main[high], main[low])))
        plan[low:low] = loop * times
    return plan


def _karras(count: int, high: float, low: float) -> list[float]:
    """Karras et al. (2022), equation 5, with rho 7; the ends are exact, for a rounded one would look like a climb."""
    start, end = high ** (1 / 7), low ** (1 / 7)
    return [high, *[(start + (end - start) * i / (count - 1)) ** 7 for i in range(1, count - 1)], low]
