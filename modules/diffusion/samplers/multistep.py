"""Linear multistep samplers: one evaluation per step, and the last few slopes or answers remembered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.protocol import SamplerProgram, ancestral_step, phi_1, phi_2, slope

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def lms(x: Tensor, sigmas: list[float], noise: Noise, *, order: int = 4) -> SamplerProgram:
    """Adams-Bashforth in sigma for uneven steps: the polynomial through the last slopes is integrated (k-diffusion's LMS)."""
    slopes: list[Tensor] = []
    """Newest first."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        slopes = [slope(x, sigma, denoised), *slopes][:order]
        nodes = [sigmas[i - k] for k in range(len(slopes))]
        x = x + weighted(slopes, [integral(lagrange(nodes, j), sigma, sigma_next) for j in range(len(nodes))])
    return x


ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""For even steps, newest slope first."""


def ipndm(x: Tensor, sigmas: list[float], noise: Noise, *, order: int = 4) -> SamplerProgram:
    """Improved PNDM: Zhang & Chen (2022, arXiv:2204.13902), section 4 and appendix; PNDM without its Runge-Kutta start.

    Its Adams-Bashforth weights are those of even steps, whatever the steps; the step to 0 takes the denoised x (as in ComfyUI).
    """
    slopes: list[Tensor] = []
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        slopes = [slope(x, sigma, denoised), *slopes][:order]
        x = x + weighted(slopes, ADAMS_BASHFORTH[len(slopes) - 1]) * (sigma_next - sigma)
    return x


def ipndm_v(x: Tensor, sigmas: list[float], noise: Noise, *, order: int = 4) -> SamplerProgram:
    """`ipndm` with weights for uneven steps, as in diff-sampler (Zhou et al. 2024, arXiv:2312.00094), see `uneven_weights`."""
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        slopes = [slope(x, sigma, denoised), *slopes][:order]
        steps = [sigmas[i - k + 1] - sigmas[i - k] for k in range(len(slopes))]
        x = x + weighted(slopes, uneven_weights(steps)) * (sigma_next - sigma)
    return x


def uneven_weights(h: Sequence[float]) -> list[float]:
    """iPNDM_v's weights of the last slopes, newest first, for steps `h` (this one, the last, ...), at most four.

    They are Newton's divided differences, with factors that are not the integrals they stand for: the weights are exact for
    even steps and second order for others.  Known pictures were made with them, so they stay (`lms` has the exact ones).
    """
    if len(h) == 1:
        return [1.0]
    r = h[0] / h[1]
    if len(h) == 2:
        return [1 + r / 2, -r / 2]
    q = h[1] / h[2]
    third = (1 - h[0] ** 2 / (3 * h[1] * (h[1] + h[2]))) / 2
    weights = [1 + r / 2 + third, -r / 2 - (1 + q) * third, q * third]
    if len(h) == 3:
        return weights
    s = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
    one, two, three = h[0] + h[1], h[0] + h[1] + h[2], h[1] + h[2] + h[3]
    fourth = (1 - h[0] / (3 * one)) / 2 + (1 - h[0] / (2 * one)) * h[0] / (6 * two)
    fourth *= h[0] * one * two / (h[1] * (h[1] + h[2]) * three)
    further = [1.0, -(1 + q + s), q + s * (1 + h[2] / h[3]), -s * q]
    return [a + fourth * b for a, b in zip([*weights, 0.0], further, strict=True)]


def deis(x: Tensor, sigmas: list[float], noise: Noise, *, order: int = 3) -> SamplerProgram:
    """DEIS-tAB: Zhang & Chen (2022, arXiv:2204.13902), equation 15: the slope is a polynomial in the time of a VP process.

    That time (`vp_time`) is the one of diff-sampler and ComfyUI, whatever the network was trained with.
    """
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        slopes = [slope(x, sigma, denoised), *slopes][:order]
        x = x + weighted(slopes, deis_weights([sigmas[i - k] for k in range(len(slopes))], sigma_next))
    return x


def deis_weights(levels: Sequence[float], sigma_next: float) -> list[float]:
    """What the slopes at `levels`, newest first, count on the way from the first of them to `sigma_next`."""
    nodes = [vp_time(level) for level in levels]

    def weight(j: int) -> float:
        polynomial = lagrange(nodes, j)
        return integral(lambda level: polynomial(vp_time(level)), levels[0], sigma_next)

    return [weight(j) for j in range(len(nodes))]


def vp_time(sigma: float, low: float = 0.002, high: float = 80.0, epsilon: float = 1e-3) -> float:
    """The time at which a variance-preserving process with linear beta has this noise (Karras et al. 2022, table 1).

    The process is the one that has sigma `low` at time `epsilon` and `high` at 1.
    """
    at_low, at_high = math.log1p(low**2), math.log1p(high**2)
    beta_d = 2 * (at_low / epsilon - at_high) / (epsilon - 1)
    beta_min = at_high - beta_d / 2
    return (math.sqrt(beta_min**2 + 2 * beta_d * math.log1p(sigma**2)) - beta_min) / beta_d


def res_multistep(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 0.0, s_noise: float = 1.0) -> SamplerProgram:
    """RES, two steps: Zhang et al. (2023, arXiv:2308.02157), with the order conditions of exponential integrators.

    The answer is a line in lambda through its last two values.  With `eta` steps are ancestral.
    """
    denoised_last: Tensor | None = None
    sigma_before = down_before = sigmas[0]
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        if sigma_down == 0 or denoised_last is None:
            x = x + slope(x, sigma, denoised) * (sigma_down - sigma)
        else:
            b_1, b_2 = res_weights(sigma, sigma_down, sigma_before, down_before)
            x = x * (sigma_down / sigma) + denoised * b_1 + denoised_last * b_2
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
        denoised_last, sigma_before, down_before = denoised, sigma, sigma_down
    return x


def res_multistep_ancestral(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> SamplerProgram:
    """`res_multistep` down to less noise than the next level has, then fresh noise on top."""
    return res_multistep(x, sigmas, noise, eta=eta, s_noise=s_noise)


def res_weights(sigma: float, sigma_down: float, sigma_before: float, down_before: float) -> tuple[float, float]:
    """What the newest and the last answer count in a step to `sigma_down`; together with the ratio of levels they make 1.

    `down_before` is where the last step went without its noise: an ancestral step counts as long as its quiet part.
    """
    h = math.log(sigma / sigma_down)
    c_2 = math.log(down_before / sigma_before) / h
    return h * (phi_1(h) - phi_2(h) / c_2), h * phi_2(h) / c_2


def weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of tensors times numbers."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total = total + tensor * weight
    return total


def lagrange(nodes: Sequence[float], j: int) -> Callable[[float], float]:
    """The polynomial that is 1 at node `j` and 0 at the others."""

    def polynomial(at: float) -> float:
        value = 1.0
        for k, node in enumerate(nodes):
            if k != j:
                value *= (at - node) / (nodes[j] - node)
        return value

    return polynomial


_GAUSS = (
    (0.1834346424956498, 0.3626837833783620),
    (0.5255324099163290, 0.3137066458778873),
    (0.7966664774136267, 0.2223810344533745),
    (0.9602898564975363, 0.1012285362903763),
)
"""Nodes and weights of Gauss-Legendre's rule of eight points: exact for polynomials up to degree 15."""


def integral(f: Callable[[float], float], start: float, end: float) -> float:
    """Of `f` from `start` to `end`."""
    middle, half = (start + end) / 2, (end - start) / 2
    return half * sum(weight * (f(middle + half * node) + f(middle - half * node)) for node, weight in _GAUSS)
