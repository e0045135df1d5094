"""DPM-Solver-1, 2 and 3 on the noise prediction (Lu et al. 2022a, arXiv:2206.00927), by a plan or with steps of their own.

`eps` is (x - denoised) / sigma.  As k-diffusion's `DPMSolver`, which A1111 runs between the lowest and the highest trained
level: those between are the sampler's own, and it stops at the lowest, whose noise stays in the latent.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.protocol import SamplerProgram, ancestral_step, slope

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def dpm_fast(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """As many evaluations as `sigmas` has steps, in steps of third order and a lower one at the end (their appendix B.1)."""
    first, last = _ends(sigmas)
    evaluations = len(sigmas) - 1
    orders = dpm_orders(evaluations)
    ratio = (last / first) ** (1 / len(orders))
    levels = [first * ratio**i for i in range(len(orders))] + [last]
    for order, (sigma, sigma_next) in zip(orders, pairwise(levels), strict=True):
        sigma_down, sigma_up = _down(sigma, sigma_next, last, eta)
        eps = slope(x, sigma, (yield x, sigma))
        if order == 1:
            x = _step_1(x, sigma, sigma_down, eps)
        elif order == 2:
            middle = _between(sigma, sigma_down, 1 / 2)
            u = _step_1(x, sigma, middle, eps)
            x = _step_2(x, sigma, sigma_down, eps, slope(u, middle, (yield u, middle)), 1 / 2)
        else:
            x = yield from _step_3(x, sigma, sigma_down, eps)
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
    return x


def dpm_adaptive(
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_first: float = 0.05,
) -> SamplerProgram:
    """Steps as long as orders 2 and 3 agree (their appendix B.2); the number of steps asked for has no meaning.

    The step length follows the last error only, limited by k-diffusion's 1 + atan(f - 1), and a step is taken where that factor
    is at least 0.81.
    """
    sigma, last = _ends(sigmas)
    h, x_last = h_first, x
    while math.log(sigma / last) > 1e-5:
        sigma_next = max(last, sigma * math.exp(-h))
        sigma_down, sigma_up = _down(sigma, sigma_next, last, eta)
        eps = slope(x, sigma, (yield x, sigma))

        # Orders 2 and 3 share their first two evaluations
        third = _between(sigma, sigma_down, 1 / 3)
        u = _step_1(x, sigma, third, eps)
        eps_1 = slope(u, third, (yield u, third))
        x_low = _step_2(x, sigma, sigma_down, eps, eps_1, 1 / 3)
        x_high = yield from _finish_3(x, sigma, sigma_down, eps, eps_1)

        tolerance = (rtol * x_low.abs().maximum(x_last.abs())).clamp(min=atol)
        error = float(((x_low - x_high) / tolerance).square().mean().sqrt())
        factor = 1.0 + math.atan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3)) - 1.0)
        if factor >= 0.81:
            x_last, x, sigma = x_low, x_high, sigma_next
            if sigma_up > 0:
                x = x + noise().to(x) * (s_noise * sigma_up)
        h *= factor
    return x


def dpm_orders(evaluations: int) -> list[int]:
    """The orders of DPM-Solver-fast's steps: as many threes as go in, and a rest that makes the sum come out."""
    threes = evaluations // 3
    return [3] * (threes - 1) + [2, 1] if evaluations % 3 == 0 else [3] * threes + [evaluations % 3]


def _ends(sigmas: list[float]) -> tuple[float, float]:
    return sigmas[0], sigmas[-1] or sigmas[-2]


def _down(sigma: float, sigma_next: float, last: float, eta: float) -> tuple[float, float]:
    """The ancestral step, but never below the last level."""
    down = max(last, ancestral_step(sigma, sigma_next, eta)[0])
    return down, math.sqrt(max(0.0, sigma_next**2 - down**2))


def _between(sigma: float, sigma_next: float, part: float) -> float:
    """`part` of the way from one level to the other, in lambda."""
    return sigma * math.exp(part * math.log(sigma_next / sigma))


def _step_1(x: Tensor, sigma: float, sigma_next: float, eps: Tensor) -> Tensor:
    return x + eps * (sigma_next - sigma)


def _step_2(x: Tensor, sigma: float, sigma_next: float, eps: Tensor, eps_1: Tensor, r: float) -> Tensor:
    """Their algorithm 1 for a first evaluation after `r` of the step."""
    return x + (eps + (eps_1 - eps) / (2 * r)) * (sigma_next - sigma)


def _step_3(x: Tensor, sigma: float, sigma_next: float, eps: Tensor) -> SamplerProgram:
    """Their algorithm 2, with evaluations after one and two thirds of the step."""
    third = _between(sigma, sigma_next, 1 / 3)
    u = _step_1(x, sigma, third, eps)
    return (yield from _finish_3(x, sigma, sigma_next, eps, slope(u, third, (yield u, third))))


def _finish_3(x: Tensor, sigma: float, sigma_next: float, eps: Tensor, eps_1: Tensor) -> SamplerProgram:
    """The rest of `_step_3`, once the evaluation after a third is there."""
    h, two_thirds = math.log(sigma / sigma_next), _between(sigma, sigma_next, 2 / 3)
    part = 2 / 3 * h
    u = x + eps * (two_thirds - sigma) - (eps_1 - eps) * (two_thirds * 2 * (math.expm1(part) / part - 1))
    eps_2 = slope(u, two_thirds, (yield u, two_thirds))
    return x + eps * (sigma_next - sigma) - (eps_2 - eps) * (sigma_next * 1.5 * (math.expm1(h) / h - 1))
