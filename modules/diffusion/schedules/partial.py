"""The part of a schedule that a run walks which starts from another picture: what `mapping` counts, for every sampler.

Plain floats; it knows neither networks nor pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modules.diffusion.schedules.mapping import img2img_sigmas, img2img_steps, img2img_timesteps
from modules.diffusion.schedules.spacings import PLAIN, SamplerTraits, Tweaks, ddim_leading, uniform
from modules.diffusion.schedules.table import sigmas_for
from modules.diffusion.schedules.trained import TrainedSigmas, linspace

LONGEST = 10_000
"""Steps of a whole schedule of which exactly so many are run: 150 at a strength of 0.001 would make 150,000."""

LOWEST = 0.002
"""Strengths below this name a timestep below the one at which samplers on timesteps end."""


@dataclass(frozen=True)
class Partial:
    """The end of a schedule.

    `sigmas` are walked down; the init image is noised to the level `noised`, which for samplers on timesteps is one above the
    first, as in A1111.  `span` are the levels of the whole schedule: A1111 lays a Brownian path over all of it.  Empty `sigmas`
    mean that there is nothing to run: the init image stays as it is, without noise.
    """

    sigmas: list[float]
    noised: float
    span: Sequence[float]

    def start_scale(self) -> float:
        """What x at level `noised` is multiplied by to be x at the first level; 1 where the two are one.

        Samplers on timesteps carry x / sqrt(1 + sigma^2) over from one level to the other.
        """
        return math.hypot(1.0, self.sigmas[0]) / math.hypot(1.0, self.noised)


def run_steps(sampler: SamplerTraits, steps: int, strength: float, exactly: bool = False) -> int:
    """How many steps of `sampler` are run, 0 where nothing is; the schedule "DDIM" alone may have one more."""
    total, t_enc = _counted(steps, strength, exactly)
    if _nothing_to_run(sampler, total, t_enc, strength):
        return 0
    if sampler.name == "UniPC":
        return max(1, t_enc)
    return max(1, t_enc - 1) if sampler.unit_start else t_enc + 1


def partial_sigmas(
    schedule: str,
    sampler: SamplerTraits,
    trained: TrainedSigmas,
    steps: int,
    strength: float,
    exactly: bool = False,
    tweaks: Tweaks = PLAIN,
    discard_penultimate: bool = False,
) -> Partial:
    """The part that `strength`, from 0 to 1, asks for; the other arguments are those of `sigmas_for` and `img2img_steps`.

    k-diffusion's samplers run t_enc + 1 steps.  DDIM and PLMS walk from the timestep below the one that the source is noised
    to; UniPC spreads t_enc steps evenly from there to timestep 0.  DPM fast and DPM adaptive spread theirs evenly in log sigma
    between the ends of what Uniform would run, a single step down to the lowest level (A1111 raises there).

    At a strength of 0 nothing is run.  Where A1111's count leaves a sampler on timesteps no step (A1111 then evaluates no
    network and returns the picture with the lowest level's noise), it makes one, from the timestep that the strength names.

    Raises:
        UnknownName, RequestError: as `sigmas_for`.
    """
    total, t_enc = _counted(steps, strength, exactly)
    if _nothing_to_run(sampler, total, t_enc, strength):
        return Partial([], 0.0, [])
    if sampler.unit_start:
        return _on_timesteps(sampler, trained, total, t_enc) if t_enc else _one_step(trained, strength)
    if sampler.spacing is None:
        whole = sigmas_for(schedule, sampler, trained, total, tweaks, discard_penultimate)
        part = img2img_sigmas(whole, total, t_enc)
        return Partial(part, part[0], whole)
    whole = uniform(trained, total)
    part = img2img_sigmas(whole, total, t_enc)
    high, low = math.log(part[0]), math.log(part[-2] if t_enc else trained.sigma_min)
    part = [math.exp(log) for log in linspace(high, low, t_enc + 2)]
    return Partial(part, part[0], whole)


def _nothing_to_run(sampler: SamplerTraits, total: int, t_enc: int, strength: float) -> bool:
    if strength <= 0:
        return True
    if sampler.unit_start:
        return t_enc < 1 and strength < LOWEST
    # Uniform ends at the lowest level, below which DPM fast and DPM adaptive have nothing to do
    return sampler.spacing is not None and t_enc < 1 and total > 1


def _counted(steps: int, strength: float, exactly: bool) -> tuple[int, int]:
    total, t_enc = img2img_steps(steps, strength, exactly and strength > 0)
    return min(total, max(steps, LONGEST)), t_enc


def _one_step(trained: TrainedSigmas, strength: float) -> Partial:
    whole = [trained.sigma(strength * trained.last_timestep), trained.sigmas[1]]
    return Partial(whole, whole[0], whole)


def _on_timesteps(sampler: SamplerTraits, trained: TrainedSigmas, total: int, t_enc: int) -> Partial:
    whole = ddim_leading(trained, min(total, len(trained.sigmas)))  # at least two
    noised, part = img2img_timesteps(whole, min(t_enc, len(whole) - 1))
    if sampler.name == "UniPC":
        part = [trained.sigma(t) for t in linspace(trained.timestep(part[0]), 0.0, t_enc + 1)]
        return Partial(part, noised, whole)
    return Partial(part, noised, whole) if len(part) > 1 else Partial(whole[-2:], whole[-2], whole)
