"""CFG++: Chung et al. (2024, arXiv:2406.08070): go to the guided x0, but along the noise that the negative prompt sees.

These samplers receive both (`Denoised`).  Useful guidance scales are around 1, except for A1111's DDIM CFG++, which divides
what the user sets by 12.5.  The forms of other samplers are ComfyUI's.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.samplers.multistep import res_weights
from modules.diffusion.samplers.protocol import CfgPPProgram, ancestral_step, slope, toward

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise


def euler_cfgpp(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 0.0, s_noise: float = 1.0) -> CfgPPProgram:
    """Algorithm 2 (CFG++ on DDIM, `eta` for its noise): denoised + sigma_next * eps of the negative prompt."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised, negative = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = denoised + slope(x, sigma, negative) * sigma_down
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
    return x


def euler_ancestral_cfgpp(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> CfgPPProgram:
    """`euler_cfgpp` down to less noise than the next level has, then fresh noise on top."""
    return euler_cfgpp(x, sigmas, noise, eta=eta, s_noise=s_noise)


def ddim_cfgpp(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 0.0) -> CfgPPProgram:
    """`euler_cfgpp` as A1111 runs it on timesteps, like its DDIM: the result is scaled to the variance-preserving form."""
    x = yield from euler_cfgpp(x, sigmas, noise, eta=eta)
    return x / math.hypot(1.0, sigmas[-1])


def dpmpp_2m_cfgpp(x: Tensor, sigmas: list[float], noise: Noise) -> CfgPPProgram:
    """DPM-Solver++(2M) with CFG++: the change of the answer counts from the last negative one to the guided one of now."""
    negative_last: Tensor | None = None
    h_last = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised, negative = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        x_next = denoised + (x - negative) * (sigma_next / sigma)
        if negative_last is not None:
            x_next = x_next - (denoised - negative_last) * (math.expm1(-h) * h / (2 * h_last))
        x, negative_last, h_last = x_next, negative, h
    return x


def dpmpp_2s_ancestral_cfgpp(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> CfgPPProgram:
    """DPM-Solver++(2S) with CFG++: both stages begin at x shifted by what guidance adds."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised, negative = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = x + (denoised - negative)
        if sigma_down > 0:
            sigma_mid = math.sqrt(sigma * sigma_down)
            denoised, _ = yield toward(denoised, x, sigma_mid / sigma), sigma_mid
        x = toward(denoised, x, sigma_down / sigma)
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
    return x


def res_multistep_cfgpp(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 0.0, s_noise: float = 1.0
) -> CfgPPProgram:
    """RES, two steps, with CFG++: x shifted by what guidance adds, then the negative prompt's answers."""
    negative_last: Tensor | None = None
    sigma_before = down_before = sigmas[0]
    for sigma, sigma_next in pairwise(sigmas):
        denoised, negative = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        if sigma_down == 0 or negative_last is None:
            x = denoised + slope(x, sigma, negative) * sigma_down
        else:
            b_1, b_2 = res_weights(sigma, sigma_down, sigma_before, down_before)
            x = (x + denoised - negative) * (sigma_down / sigma) + negative * b_1 + negative_last * b_2
        if sigma_up > 0:
            x = x + noise().to(x) * (s_noise * sigma_up)
        negative_last, sigma_before, down_before = negative, sigma, sigma_down
    return x


def res_multistep_ancestral_cfgpp(
    x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0, s_noise: float = 1.0
) -> CfgPPProgram:
    """`res_multistep_cfgpp` down to less noise than the next level has, then fresh noise on top."""
    return res_multistep_cfgpp(x, sigmas, noise, eta=eta, s_noise=s_noise)


def gradient_estimation_cfgpp(x: Tensor, sigmas: list[float], noise: Noise, *, gamma: float = 2.0) -> CfgPPProgram:
    """Gradient estimation with CFG++: the negative prompt's slope and its change, from the guided x0."""
    d_last: Tensor | None = None
    for sigma, sigma_next in pairwise(sigmas):
        denoised, negative = yield x, sigma
        if sigma_next == 0:
            return denoised
        d = slope(x, sigma, negative)
        x = denoised + d * sigma_next
        if d_last is not None:
            x = x + (d - d_last) * ((gamma - 1) * (sigma_next - sigma))
        d_last = d
    return x
