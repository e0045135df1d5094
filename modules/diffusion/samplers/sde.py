"""Samplers of the reverse-time SDE with fresh noise in every step: ER-SDE, SEEDS and SA-Solver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.multistep import integral, lagrange, weighted
from modules.diffusion.samplers.protocol import SamplerProgram, toward

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise

ER_POINTS = 200
"""Of the sums that stand for ER-SDE's integrals; ComfyUI's number, because coarse sums are part of the picture."""


def er_sde(x: Tensor, sigmas: list[float], noise: Noise, *, s_noise: float = 1.0) -> SamplerProgram:
    """ER-SDE-Solver-3: Cui et al. (2023, arXiv:2309.06169), algorithm 3 (VE form), with their noise scale "ER SDE 5"."""
    last: Tensor | None = None
    first_last: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        scale, h = _er_scale(sigma_next), sigma_next - sigma
        r = scale / _er_scale(sigma)
        x = denoised + (x - denoised) * r
        if last is not None:
            points = [sigma_next - h * k / ER_POINTS for k in range(ER_POINTS)]
            s = sum(1 / _er_scale(point) for point in points) * -h / ER_POINTS
            first = (denoised - last) / (sigma - sigmas[i - 1])
            x = x + first * (h + s * scale)
            if first_last is not None:
                s_u = sum((point - sigma) / _er_scale(point) for point in points) * -h / ER_POINTS
                second = (first - first_last) / ((sigma - sigmas[i - 2]) / 2)
                x = x + second * (h**2 / 2 + s_u * scale)
            first_last = first
        x = x + noise().to(x) * (s_noise * math.sqrt(max(0.0, sigma_next**2 - (sigma * r) ** 2)))
        last = denoised
    return x


def _er_scale(sigma: float) -> float:
    """Their phi, which says how fast old noise is let go; sigma alone would be the ODE, sigma^2 the usual SDE."""
    return sigma * (math.exp(sigma**0.3) + 10.0)


def seeds_2(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """SEEDS-2: Gonzalez et al. (2023, arXiv:2305.14267), algorithm 2: an exponential midpoint with noise in each half."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        middle = math.sqrt(sigma * sigma_next)
        noises = [noise().to(x) * s_noise for _ in range(2)] if eta > 0 else []
        x_2 = _seeds(x, denoised, sigma, middle, eta) + _gathered(noises[:1], [sigma, middle], eta)
        denoised_2 = yield x_2, middle
        x = _seeds(x, denoised_2, sigma, sigma_next, eta) + _gathered(noises, [sigma, middle, sigma_next], eta)
    return x


def seeds_3(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """SEEDS-3: Gonzalez et al. (2023, arXiv:2305.14267), algorithm 3, with stages after one and two thirds of the step."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        levels = [sigma * (sigma_next / sigma) ** (k / 3) for k in range(3)] + [sigma_next]
        noises = [noise().to(x) * s_noise for _ in range(3)] if eta > 0 else []
        x_2 = _seeds(x, denoised, sigma, levels[1], eta) + _gathered(noises[:1], levels[:2], eta)
        denoised_2 = yield x_2, levels[1]

        x_3 = _seeds(x, denoised, sigma, levels[2], eta) + (denoised_2 - denoised) * (2 * _bend(sigma, levels[2], eta))
        denoised_3 = yield x_3 + _gathered(noises[:2], levels[:3], eta), levels[2]

        x = _seeds(x, denoised, sigma, sigma_next, eta) + (denoised_3 - denoised) * (1.5 * _bend(sigma, sigma_next, eta))
        x = x + _gathered(noises, levels, eta)
    return x


def _seeds(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, eta: float) -> Tensor:
    """The mean of the SDE's transition where the denoised x stays as it is."""
    return toward(denoised, x, math.exp(-(1 + eta) * math.log(sigma / sigma_next)))


def _bend(sigma: float, sigma_next: float, eta: float) -> float:
    """What a denoised x that changes by 1 over the step adds."""
    h = math.log(sigma / sigma_next) * (1 + eta)
    return 1 + math.expm1(-h) / h


def _gathered(noises: Sequence[Tensor], levels: Sequence[float], eta: float) -> Tensor | float:
    """The noise that has come in between the levels, each part since shrunk by what the SDE forgets."""
    total: Tensor | float = 0.0
    end = levels[-1]
    for fresh, (sigma, sigma_next) in zip(noises, pairwise(levels), strict=False):
        amount = math.sqrt((end / sigma_next) ** (2 * eta) - (end / sigma) ** (2 * eta))
        total = total + fresh * (end * amount)
    return total


SA_NOISY = (0.57118, 5.09241)
"""Noise levels between which SA-Solver adds noise: those of SD 1.x's timesteps 199.8 and 799.2 (ComfyUI's default), which some
schedules hit exactly, so both are rounded outwards."""


def sa_solver_pece(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """SA-Solver as PECE: the corrected x is evaluated again, so there are two evaluations per step but the first."""
    return (yield from sa_solver(x, sigmas, noise, eta=eta, s_noise=s_noise, again=True))


def sa_solver(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0, again: bool = False
) -> SamplerProgram:
    """SA-Solver: Xue et al. (2023, arXiv:2309.05019), algorithm 1 (PEC) of the denoised x: predictor 3, corrector 4.

    tau is `eta` between the levels of `SA_NOISY` and 0 outside.  The evaluation at a predicted x also corrects it; orders rise
    at the start and, where the levels end at 0, fall at the end.
    """
    answers: list[tuple[float, Tensor]] = []
    """(level, denoised x), newest first."""
    predicted, fresh = x, None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield predicted, sigma
        answers = [(sigma, denoised), *answers][:4]
        if sigma_next == 0 and not again:
            return denoised
        to_end = len(sigmas) - 1 - i if sigmas[-1] == 0 else 4
        if i > 0:
            x = _adams(x, sigmas[i - 1], sigma, answers[: min(4, to_end)], _tau(sigma, eta), fresh)
            if again:
                answers[0] = (sigma, (yield x, sigma))
        if sigma_next == 0:
            return answers[0][1]
        tau = _tau(sigma_next, eta)
        fresh = None
        if tau > 0:
            amount = math.sqrt(1 - (sigma_next / sigma) ** (2 * tau**2))
            fresh = noise().to(x) * (s_noise * sigma_next * amount)
        predicted = _adams(x, sigma, sigma_next, answers[: max(1, min(3, to_end - 1))], tau, fresh)
    return predicted


def _tau(sigma: float, eta: float) -> float:
    return eta if SA_NOISY[0] <= sigma <= SA_NOISY[1] else 0.0


def _adams(
    x: Tensor, sigma: float, sigma_next: float, answers: Sequence[tuple[float, Tensor]], tau: float, fresh: Tensor | None
) -> Tensor:
    """Their equation 14: the answers along a polynomial in lambda, weighted as the SDE forgets."""
    rate, h = 1 + tau**2, math.log(sigma / sigma_next)
    nodes = [math.log(level / sigma_next) for level, _ in answers]  # how long before the end of the step

    def weight(j: int) -> float:
        polynomial = lagrange(nodes, j)
        return integral(lambda before: rate * math.exp(-rate * before) * polynomial(before), 0.0, h)

    x = x * (sigma_next / sigma) ** rate
    x = x + weighted([answer for _, answer in answers], [weight(j) for j in range(len(nodes))])
    return x if fresh is None else x + fresh
