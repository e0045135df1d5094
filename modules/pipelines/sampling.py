"""Drives a sampler with a denoiser: the only place where solver, network and progress meet.

It knows no sampler by name and no network; the engine sees nothing of it but the work that the denoiser yields and one
`Report` per step.
"""

from __future__ import annotations

from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import Sampler
from modules.errors import NotFinite
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.work import Program, report


def sample(
    model: ModelHandle, sampler: Sampler, x: Tensor, sigmas: list[float], noise: Noise, denoise: Denoiser
) -> Program[Tensor]:
    """Walk `x` down the noise levels and report every step that is complete.

    Args:
        model: passed on to the reports, so that previews know the latent space.
        sampler: whose solver runs.
        x: (C, h, w) at noise level sigmas[0], see `starting_point`.
        sigmas: falling; there is one step between each two neighbours.
        noise: of this image.
        denoise: evaluated wherever the solver asks.

    Returns:
        The latent at the last noise level, (C, h, w).

    Raises:
        NotFinite: a prediction has NaN or infinity; the message carries the step.
    """
    steps = len(sigmas) - 1
    solver = sampler.solve(x, sigmas, noise)
    evaluations = done = 0
    try:
        x, sigma = next(solver)
        while True:
            denoised = yield from denoise(x, sigma)
            if not bool(denoised.isfinite().all()):
                raise NotFinite(_not_finite(done + 1, steps))

            # A step of a higher-order solver takes several evaluations; tell of whole steps only
            evaluations += 1
            before, done = done, sampler.steps_done(evaluations, steps)
            if done > before:
                yield from report(model, done, steps, denoised)
            x, sigma = solver.send(denoised)
    except StopIteration as finished:
        latent: Tensor = finished.value
        return latent
    finally:
        solver.close()


def starting_point(sampler: Sampler, sigmas: list[float], noise: Noise) -> Tensor:
    """Pure noise at the first level, (C, h, w): what txt2img starts from.  It takes the first draw of `noise`."""
    return noise() * sampler.start_scale(sigmas[0])


def _not_finite(step: int, steps: int) -> str:
    return (
        f"step {step} of {steps}: the network returned NaN or infinity. Half precision can overflow: try --dtype float32; "
        "if that does not help, the checkpoint file is probably damaged"
    )
