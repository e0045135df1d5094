"""The samplers that A1111 runs on timesteps: PLMS and UniPC (DDIM is `euler.ddim`).

Theirs is the variance-preserving form y = x / sqrt(1 + sigma^2); here, as everywhere, x and sigma.  A1111 decodes y, so where
the levels stop above 0 the result is scaled to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.multistep import ADAMS_BASHFORTH, weighted
from modules.diffusion.samplers.protocol import SamplerProgram, slope

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def plms(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """PLMS: Liu et al. (2022, arXiv:2202.09778), equations 9 and 12, as in CompVis' `plms.py`.

    Adams-Bashforth with the weights of even steps; the first step is Heun's, so it takes two evaluations.
    """
    slopes: list[Tensor] = []
    for sigma, sigma_next in pairwise(sigmas):
        eps = slope(x, sigma, (yield x, sigma))
        slopes = [eps, *slopes][:4]
        if len(slopes) == 1 and sigma_next > 0:
            x_2 = x + eps * (sigma_next - sigma)
            direction = (eps + slope(x_2, sigma_next, (yield x_2, sigma_next))) / 2
        else:
            direction = weighted(slopes, ADAMS_BASHFORTH[len(slopes) - 1])
        x = x + direction * (sigma_next - sigma)
    return x / math.hypot(1.0, sigmas[-1])


def unipc_bh2(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """UniPC with B(h) = 1 - e^-h ("bh2"), under any schedule: ComfyUI's uni_pc_bh2."""
    return (yield from _unipc(x, sigmas, order=3, bh2=True))


def unipc(x: Tensor, sigmas: list[float], noise: Noise, *, order: int = 3) -> SamplerProgram:
    """UniPC with B(h) = h ("bh1"), as A1111 runs it."""
    x = yield from _unipc(x, sigmas, order, bh2=False)
    return x / math.hypot(1.0, sigmas[-1])


def _unipc(x: Tensor, sigmas: list[float], order: int, bh2: bool) -> SamplerProgram:
    """UniPC-3 of the denoised x: Zhao et al. (2023, arXiv:2302.04867), algorithms 7 and 8.

    The evaluation at a predicted x also corrects it, so there is one per step.  Orders rise at the start and fall at the end,
    and the last prediction is not corrected: the settings of A1111.
    """
    answers: list[tuple[float, Tensor]] = []
    """(level, denoised x), newest first."""
    predicted, used = x, 0
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = yield predicted, sigma
        if answers:
            x = _unipc_step(x, sigma, answers[:used], denoised, bh2)
        answers = [(sigma, denoised), *answers][:order]
        if sigma_next == 0:
            return denoised
        used = min(len(answers), len(sigmas) - 1 - i)
        predicted = _unipc_step(x, sigma_next, answers[:used], None, bh2)
    return predicted


def _unipc_step(
    x: Tensor, sigma_next: float, answers: Sequence[tuple[float, Tensor]], corrector: Tensor | None, bh2: bool
) -> Tensor:
    """One step from the newest answer's level, where x is, to `sigma_next`: their equations 3 (with the answer there) and 9.

    Weights that are solved for contain 1 / B(h), so B(h) counts only where there is a single one.
    """
    sigma, denoised = answers[0]
    h = math.log(sigma / sigma_next)
    ratios = [math.log(sigma / level) / h for level, _ in answers[1:]]
    differences = [(answer - denoised) / r for r, (_, answer) in zip(ratios, answers[1:], strict=True)]
    if corrector is not None:
        ratios, differences = [*ratios, 1.0], [*differences, corrector - denoised]

    x = x * (sigma_next / sigma) - denoised * math.expm1(-h)
    if differences:
        scale = -math.expm1(-h) if bh2 and len(differences) == 1 else h
        x = x + weighted(differences, [scale * weight for weight in unipc_weights(ratios, h)])
    return x


def unipc_weights(ratios: Sequence[float], h: float) -> list[float]:
    """Solves their equation 5, sum over m of ratios[m]^(k-1) * weights[m] = g_k for k = 1, 2, ..., with g_k below.

    Of one weight they take 1/2, which is its limit for small h, both to predict and to correct.
    """
    if len(ratios) == 1:
        return [0.5]
    right, phi, factorial = [], math.expm1(-h) / -h - 1, 1.0
    for k in range(1, len(ratios) + 1):
        right.append(phi * factorial / -h)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    return _solve([[ratio**k for ratio in ratios] for k in range(len(ratios))], right)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss with pivots, for systems of two or three."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(len(rows)):
            if k != i:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]
