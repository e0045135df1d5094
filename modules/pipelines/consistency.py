"""Latent consistency models as A1111 runs them: at the model timesteps that they were distilled at only, with their boundary.

A wrapper around any denoiser, so guidance, masks and prompt editing go with it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from modules.diffusion.networks import NoiseProcess
from modules.diffusion.samplers import Denoised
from modules.diffusion.schedules.spacings import lcm_sigmas
from modules.pipelines.denoisers import Denoiser, on_rows
from modules.pipelines.ops import Program

SIGMA_DATA = 0.5
TIMESTEP_SCALE = 10.0


def consistent(denoise: Denoiser, noise: NoiseProcess) -> Denoiser:
    """`denoise` for a network that was distilled at 50 of the sigmas that it was trained on.

    The model timestep is the nearest of theirs (in log sigma; 999, 979, ... 19), while the input is scaled by the level
    itself.  The answer is c_skip * x + c_out * denoised with the boundary of Luo et al. (2023, arXiv:2310.04378), equation 9,
    at ten times the timestep: c_skip is below 1e-5 everywhere.  `sd_samplers_lcm.py` of A1111 1.10.1 does both before guidance,
    which is the same, since guidance weighs its answers by 1 in sum.
    """
    known = lcm_sigmas(noise.trained)
    stride = len(noise.trained.sigmas) // len(known.sigmas)

    def bounded(x: Tensor, sigma: float) -> Program[Denoised]:
        nearest = min(range(len(known.sigmas)), key=lambda k: abs(math.log(sigma / known.sigmas[k])))
        timestep = nearest * stride + stride - 1
        scaled = TIMESTEP_SCALE * timestep
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / math.hypot(scaled, SIGMA_DATA)
        told = noise.model_timestep(known.sigmas[nearest])
        answer = yield from on_rows(denoise(x, sigma), lambda row: replace(row, timestep=told))
        return Denoised(*(x * skip + denoised * out for denoised in answer))

    return bounded
