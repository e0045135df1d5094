"""DPM-Solver++ and its stochastic forms: Lu et al. (2022b, arXiv:2211.01095), exponential integrators of the denoised x.

Coefficients and starts are k-diffusion's, which A1111 runs.  Where noise comes from the image's Brownian path, other step
counts follow the same path.
"""

from __future__ import annotations

import math
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Literal

from modules.diffusion.samplers.protocol import SamplerProgram, ancestral_step, toward

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def dpmpp_2m(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """DPM-Solver++(2M), algorithm 2.  The first step and the one to sigma 0 are first order (k-diffusion's choice)."""
    denoised_last: Tensor | None = None
    h_last = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:  # h is infinite and exp(-h) is 0
            return denoised
        h = math.log(sigma / sigma_next)
        target = denoised
        if denoised_last is not None:
            r = h_last / h
            target = denoised + (denoised - denoised_last) / (2 * r)
        x = x * (sigma_next / sigma) - target * math.expm1(-h)
        denoised_last, h_last = denoised, h
    return x


def dpmpp_2s_ancestral(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> SamplerProgram:
    """DPM-Solver++(2S), algorithm 1 with the middle in lambda, down to less noise than the next level has, then fresh noise."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        if sigma_down > 0:
            sigma_mid = math.sqrt(sigma * sigma_down)
            denoised = yield toward(denoised, x, sigma_mid / sigma), sigma_mid
        x = toward(denoised, x, sigma_down / sigma)
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
    return x


def dpmpp_sde(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """k-diffusion's stochastic DPM-Solver++: two ancestral steps from the same place, to the middle and to the end."""
    steps = _fresh(sigmas, eta)
    halves = [(sigma, math.sqrt(sigma * sigma_next)) for sigma, sigma_next in steps]
    path = noise.brownian(sigmas, chain.from_iterable(zip(halves, steps, strict=True)))
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        sigma_mid = math.sqrt(sigma * sigma_next)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_mid, eta)
        x_2 = toward(denoised, x, sigma_down / sigma)
        if sigma_up > 0:
            x_2 = x_2 + path.between(sigma, sigma_mid).to(x) * (s_noise * sigma_up)
        denoised_2 = yield x_2, sigma_mid

        # With the middle at half of h, the second answer has all the weight
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = toward(denoised_2, x, sigma_down / sigma)
        if sigma_up > 0:
            x = x + path.between(sigma, sigma_next).to(x) * (s_noise * sigma_up)
    return x


def dpmpp_2m_sde(
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    form: Literal["midpoint", "heun"] = "midpoint",
) -> SamplerProgram:
    """SDE-DPM-Solver++(2M), equation 18, in k-diffusion's two forms.  With `eta` 0 the midpoint form is `dpmpp_2m`."""
    path = noise.brownian(sigmas, _fresh(sigmas, eta))
    denoised_last: Tensor | None = None
    h_last = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        gain = -math.expm1(-h * (1 + eta))
        x_next = x * (sigma_next / sigma * math.exp(-eta * h)) + denoised * gain
        if denoised_last is not None:
            r = h_last / h
            weight = gain / 2 if form == "midpoint" else 1 - gain / (h * (1 + eta))
            x_next = x_next + (denoised - denoised_last) * (weight / r)
        if eta > 0:
            scale = s_noise * sigma_next * math.sqrt(-math.expm1(-2 * eta * h))
            x_next = x_next + path.between(sigma, sigma_next).to(x) * scale
        x, denoised_last, h_last = x_next, denoised, h
    return x


def dpmpp_2m_sde_heun(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> SamplerProgram:
    """`dpmpp_2m_sde` in its Heun form."""
    return dpmpp_2m_sde(x, sigmas, noise, eta=eta, s_noise=s_noise, form="heun")


def dpmpp_3m_sde(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0) -> SamplerProgram:
    """k-diffusion's DPM-Solver++(3M) SDE: the denoised x along a parabola through its last three values."""
    path = noise.brownian(sigmas, _fresh(sigmas, eta))
    answers: list[Tensor] = []
    """The last denoised x, newest first."""
    hs: list[float] = []
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        h_eta = h * (1 + eta)
        x_next = x * math.exp(-h_eta) - denoised * math.expm1(-h_eta)
        weight_1 = math.expm1(-h_eta) / h_eta + 1
        if len(answers) == 2:
            r_0, r_1 = hs[0] / h, hs[1] / h
            d1_0, d1_1 = (denoised - answers[0]) / r_0, (answers[0] - answers[1]) / r_1
            d1 = d1_0 + (d1_0 - d1_1) * (r_0 / (r_0 + r_1))
            d2 = (d1_0 - d1_1) / (r_0 + r_1)
            x_next = x_next + d1 * weight_1 - d2 * (weight_1 / h_eta - 0.5)
        elif answers:
            x_next = x_next + (denoised - answers[0]) * (weight_1 * h / hs[0])
        if eta > 0:
            scale = s_noise * sigma_next * math.sqrt(-math.expm1(-2 * eta * h))
            x_next = x_next + path.between(sigma, sigma_next).to(x) * scale
        x = x_next
        answers, hs = [denoised, *answers][:2], [h, *hs][:2]
    return x


def _fresh(sigmas: list[float], eta: float) -> list[tuple[float, float]]:
    """The steps that take fresh noise: with `eta` above 0, all but the one to sigma 0."""
    return [step for step in pairwise(sigmas) if step[1] > 0] if eta > 0 else []
