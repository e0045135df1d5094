"""A request's guidance: its scale, how answers are combined, and when the negative prompt is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modules.diffusion.samplers import Sampler
from modules.pipelines.denoisers import Addition, Combine, plain
from modules.pipelines.guidance.apg import projected
from modules.pipelines.guidance.early import skip_early
from modules.pipelines.guidance.ngms import skip_at_low_noise
from modules.pipelines.guidance.pag import PerturbedAttention
from modules.pipelines.guidance.rescale import rescaled
from modules.pipelines.guidance.sag import SelfAttention
from modules.pipelines.guidance.thresholding import thresholded
from modules.pipelines.guidance.zero import zero_star
from modules.request import Txt2Img

Skips = Callable[[int, float], bool]
"""(evaluations so far, sigma) -> whether the negative prompt is left out."""


@dataclass(frozen=True)
class Guidance:
    """Of one run of a sampler; `combine` may remember earlier evaluations.  A `pair` sampler always gets both answers.

    `added` comes on top of what is combined.  The network is not asked at all in the first `still` evaluations.  `consistent`
    says that it was distilled to some of its levels (`modules.pipelines.consistency`).
    """

    scale: float
    combine: Combine = plain
    pair: bool = False
    skips: Skips | None = None
    added: tuple[Addition, ...] = ()
    still: int = 0
    consistent: bool = False


def guidance_for(request: Txt2Img, sampler: Sampler) -> Guidance:
    """What `request` asks of a run with `sampler`.  Rescaling comes last, over what is combined, before what is added."""
    combine: Combine = plain
    if request.apg:
        combine = projected(request.apg_eta, request.apg_norm, request.apg_momentum)
    elif request.mimic_scale > 0:
        combine = thresholded(request.mimic_scale, request.threshold_percentile)
    elif request.cfg_zero:
        combine = zero_star
    if request.cfg_rescale > 0:
        combine = rescaled(combine, request.cfg_rescale)

    skips: list[Skips] = []
    if request.skip_early_cfg > 0:
        skips.append(skip_early(request.skip_early_cfg, sampler.prompt_steps(request.steps)))
    if request.ngms > 0:
        skips.append(skip_at_low_noise(request.ngms, request.ngms_all_steps))
    any_of = (lambda evaluation, sigma: any(skip(evaluation, sigma) for skip in skips)) if skips else None
    added: list[Addition] = []
    if request.pag_scale > 0:
        added.append(PerturbedAttention(request.pag_scale))
    if request.sag_scale > 0:
        added.append(SelfAttention(request.sag_scale, request.sag_blur))
    still = sampler.prompt_steps(request.cfg_zero_steps)
    return Guidance(
        request.cfg_scale / sampler.cfg_divisor, combine, sampler.pair, any_of, tuple(added), still, sampler.levels is not None
    )
