"""Drives a sampler with a denoiser: the denoising loop, where sampler, network and progress meet.

It knows no sampler by name and no network; the engine sees nothing of it but the device ops that the denoiser yields and one
`Report` per step.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import Denoised, Sampler
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.ops import Program, check, meanwhile, on_host, report

StepReport = Callable[[int, int, Tensor], Program[bool]]
"""(step, steps, x0 prediction) -> program that reports it; its result is whether to end the loop here."""


def sample(
    model: ModelHandle,
    sampler: Sampler,
    x: Tensor,
    sigmas: list[float],
    noise: Noise,
    denoise: Denoiser,
    options: Mapping[str, float] = MappingProxyType({}),
    look: Callable[[Tensor], Tensor] = lambda denoised: denoised,
    report_step: StepReport | None = None,
) -> Program[Tensor]:
    """Walk `x` down the noise levels and report every step that is complete.

    Args:
        model: passed on to the reports, so that previews know the latent space.
        sampler: what steps.
        x: (C, h, w) at noise level sigmas[0], see `starting_point`.
        sigmas: falling; there is one step between each two neighbours.
        noise: of this image.
        denoise: evaluated wherever the sampler asks.
        options: the sampler's keyword arguments, see `Sampler.options`.
        look: what a report shows of an answer.
        report_step: makes the reports, where the steps are a part of more; without, they are those of `model`.

    Returns:
        The latent at the last noise level, (C, h, w); where a report's answer ends the loop, the x0 prediction of that step, as
        A1111's interrupt returns it.

    Raises:
        NotFinite: a prediction has NaN or infinity; the message carries the step (`ops.Check`: it may come some steps later).
    """
    steps = len(sigmas) - 1
    report_step = report_step or partial(report, model)
    ends = sampler.step_ends(steps, to_zero=sigmas[-1] == 0)
    steps_of_x: Any = sampler.sample(x, sigmas, noise, **options)
    evaluations = done = 0
    answer: Denoised | None = None
    try:
        x, sigma = next(steps_of_x)
        while True:
            begun = (yield from meanwhile(noise.ahead)) if noise.pending else None
            answer = yield from denoise(x, sigma)
            yield from check(answer.guided, _not_finite(done + 1, steps))

            # A step of a higher-order sampler takes several evaluations; report whole steps only
            evaluations += 1
            before = done
            done = max(done, _done(sigma, sigmas)) if sampler.adaptive else bisect.bisect_right(ends, evaluations)
            if done > before and (yield from report_step(done, steps, look(answer.guided))):
                return answer.guided
            if begun and not begun.done():
                yield from on_host(begun.result)
            x, sigma = steps_of_x.send(answer if sampler.pair else answer.guided)
    except StopIteration as finished:
        latent: Tensor = finished.value
        if done < steps and answer is not None:
            yield from report_step(steps, steps, look(answer.guided))
        return latent
    finally:
        steps_of_x.close()


def ahead(noise: Noise) -> Program[None]:
    """Have a host thread compute what is asked of `noise` next, where that takes time, for the device's thread is everybody's.

    The denoising loop does so by itself, while the network is evaluated.
    """
    if noise.pending:
        yield from on_host(noise.ahead)


def _done(sigma: float, sigmas: list[float]) -> int:
    """Steps of a sampler that chooses its own: as many as the level reached has left behind, in log sigma."""
    part = math.log(sigmas[0] / sigma) / math.log(sigmas[0] / (sigmas[-1] or sigmas[-2]))
    return min(len(sigmas) - 1, int(part * (len(sigmas) - 1)))


def starting_point(sampler: Sampler, sigmas: list[float], noise: Noise, unit: bool = False) -> Tensor:
    """Pure noise at the first level, (C, h, w): what txt2img starts from.  It takes the first draw of `noise`.

    `unit` gives every sampler the start of unit variance (A1111's SGM noise multiplier, from Stability's generative-models).
    """
    return noise() * (math.hypot(1.0, sigmas[0]) if unit else sampler.start_scale(sigmas[0]))


def _not_finite(step: int, steps: int) -> str:
    return (
        f"step {step} of {steps}: the network returned NaN or infinity. Half precision can overflow: try --dtype float32; "
        "if that does not help, the checkpoint file is probably damaged"
    )
