"""A request's guidance: its scale, how answers are combined, and when the negative prompt is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modules.diffusion.samplers import Sampler
from modules.pipelines.denoisers import Combine, plain
from modules.pipelines.guidance.apg import projected
from modules.pipelines.guidance.early import skip_early
from modules.pipelines.guidance.ngms import skip_at_low_noise
from modules.pipelines.guidance.rescale import rescaled
from modules.pipelines.guidance.thresholding import thresholded
from modules.request import Txt2Img

Skips = Callable[[int, float], bool]
"""(evaluations so far, sigma) -> whether the negative prompt is left out."""


@dataclass(frozen=True)
class Guidance:
    """Of one run of a sampler; `combine` may remember earlier evaluations.  A `pair` sampler always gets both answers."""

    scale: float
    combine: Combine = plain
    pair: bool = False
    skips: Skips | None = None


def guidance_for(request: Txt2Img, sampler: Sampler) -> Guidance:
    """What `request` asks of a run with `sampler`.  Rescaling comes last, over whatever else is chosen."""
    combine: Combine = plain
    if request.apg:
        combine = projected(request.apg_eta, request.apg_norm, request.apg_momentum)
    elif request.mimic_scale > 0:
        combine = thresholded(request.mimic_scale, request.threshold_percentile)
    if request.cfg_rescale > 0:
        combine = rescaled(combine, request.cfg_rescale)

    skips: list[Skips] = []
    if request.skip_early_cfg > 0:
        skips.append(skip_early(request.skip_early_cfg, sampler.prompt_steps(request.steps)))
    if request.ngms > 0:
        skips.append(skip_at_low_noise(request.ngms, request.ngms_all_steps))
    any_of = (lambda evaluation, sigma: any(skip(evaluation, sigma) for skip in skips)) if skips else None
    return Guidance(request.cfg_scale / sampler.cfg_divisor, combine, sampler.pair, any_of)
