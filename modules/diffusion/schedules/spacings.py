"""How a run of n steps is spread over a network's noise levels: the functions behind the table of schedules.

The definitions are those of AUTOMATIC1111 1.10.1 (`modules/sd_schedulers.py`), of Forge and ComfyUI where they have more, and
of k-diffusion behind them, because a schedule is part of what makes an old seed give its old picture.  We compute in double
precision where they use single.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from modules.diffusion.schedules.beta import beta_quantile
from modules.diffusion.schedules.trained import TrainedSigmas, lerp, linspace


@dataclass(frozen=True)
class Tweaks:
    """What a user may bend: 0 leaves the schedule's own value.  `alpha` and `beta` shape Beta; `xl` chooses tables for SDXL;
    with `exact_steps` UniPC runs the steps that are asked for (`through_timesteps`)."""

    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0
    alpha: float = 0.6
    beta: float = 0.6
    xl: bool = False
    exact_steps: bool = False

    def ends(self, trained: TrainedSigmas) -> tuple[float, float]:
        """The highest and the lowest level of the run."""
        return self.sigma_max or trained.sigma_max, self.sigma_min or trained.sigma_min


PLAIN = Tweaks()

Spacing = Callable[[TrainedSigmas, int, Tweaks], list[float]]
"""(trained, steps, tweaks) -> `steps` falling positive noise levels and, as the last value, 0.0."""


class SamplerTraits(Protocol):
    """What a schedule needs to know of the sampler that walks down it; `samplers.Sampler` says what each means."""

    @property
    def name(self) -> str: ...

    @property
    def default_schedule(self) -> str: ...

    @property
    def spacing(self) -> Spacing | None: ...

    @property
    def distilled(self) -> Callable[[TrainedSigmas], TrainedSigmas] | None: ...

    @property
    def discards_penultimate(self) -> bool: ...

    @property
    def unit_start(self) -> bool: ...


def uniform(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread timesteps from the last to 0 (k-diffusion's `get_sigmas`)."""
    return [trained.sigma(t) for t in linspace(trained.last_timestep, 0.0, steps)] + [0.0]


def karras(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Karras et al. (2022), equation 5: evenly spread in sigma ** (1 / rho), rho 7."""
    rho = tweaks.rho or 7.0
    high, low = tweaks.ends(trained)
    return [root**rho for root in linspace(high ** (1 / rho), low ** (1 / rho), steps)] + [0.0]


def exponential(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread in log sigma (k-diffusion's `get_sigmas_exponential`)."""
    high, low = tweaks.ends(trained)
    return [math.exp(log) for log in linspace(math.log(high), math.log(low), steps)] + [0.0]


def polyexponential(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """log sigma falls as a ramp to the power of rho, which is 1 (k-diffusion's `get_sigmas_polyexponential`)."""
    high, low = (math.log(end) for end in tweaks.ends(trained))
    return [math.exp(lerp(low, high, ramp ** (tweaks.rho or 1.0))) for ramp in linspace(1.0, 0.0, steps)] + [0.0]


def sgm_uniform(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread timesteps of steps + 1 points without the lowest one (Stability's generative-models, trailing spacing)."""
    high, low = (trained.timestep(end) for end in tweaks.ends(trained))
    return [trained.sigma(t) for t in linspace(high, low, steps + 1)[:-1]] + [0.0]


def kl_optimal(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread in atan sigma: Sabour et al. (2024, arXiv:2404.14507), equation 10.

    A1111's has steps + 1 points and stops at the lowest level instead of 0; so does this.
    """
    high, low = (math.atan(end) for end in tweaks.ends(trained))
    return [math.tan(angle) for angle in linspace(high, low, steps + 1)]


def simple(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Every (levels / steps)-th trained level, counted from the top and never interpolated (ComfyUI's "simple")."""
    count = len(trained.sigmas)
    return [trained.sigmas[-(1 + int(i * (count / steps)))] for i in range(steps)] + [0.0]


def normal(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread timesteps between those of sigma_max and sigma_min (ComfyUI's "normal").

    Equal to Uniform unless sigma_min or sigma_max is overridden; A1111 lists both, so recipes name both.
    """
    high, low = (trained.timestep(end) for end in tweaks.ends(trained))
    return [trained.sigma(t) for t in linspace(high, low, steps)] + [0.0]


def ddim_uniform(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Every (levels // steps)-th trained level, counted from timestep 1 (ComfyUI's "ddim_uniform", A1111's "DDIM").

    Where `steps` does not divide their number there are more levels than asked for: 31 steps for 30.
    """
    return [*reversed(trained.sigmas[1 :: max(len(trained.sigmas) // steps, 1)]), 0.0]


def beta(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Quantiles of a Beta distribution: Lee et al. (2024, arXiv:2407.12173), but spread over sigma.

    The paper spreads timesteps; A1111 and Forge spread sigma itself, which stays high for long.  Theirs is what recipes mean.
    """
    high, low = tweaks.ends(trained)
    parts = [beta_quantile(part, tweaks.alpha, tweaks.beta) for part in linspace(1.0, 0.0, steps)]
    return [lerp(low, high, part) for part in parts] + [0.0]


def beta_timesteps(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Quantiles of a Beta distribution spread over timesteps, as in the paper, rounded to trained levels (ComfyUI's "beta").

    ComfyUI drops the second of two quantiles that round to one level, from 139 steps on; here none is rounded then, so
    that there are as many steps as were asked for.
    """
    last = trained.last_timestep
    places = [last * beta_quantile(1.0 - i / steps, tweaks.alpha, tweaks.beta) for i in range(steps)]
    rounded = [float(round(place)) for place in places]
    return [trained.sigma(place) for place in (rounded if len(set(rounded)) == steps else places)] + [0.0]


def kl_optimal_to_zero(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """`kl_optimal` with one point less, and 0 behind them (ComfyUI's "kl_optimal")."""
    high, low = (math.atan(end) for end in tweaks.ends(trained))
    return [math.tan(angle) for angle in linspace(high, low, steps)] + [0.0]


def turbo(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Trained levels at k * levels / steps - 1, rounded, from the top (Forge's, for SD Turbo)."""
    count = len(trained.sigmas)
    timesteps = [min(max(round(k * count / steps - 1), 0), count - 1) for k in range(steps, 0, -1)]
    return [trained.sigmas[t] for t in timesteps] + [0.0]


def linear_quadratic(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Half the steps fall evenly by 2.5 % of sigma_max in all, the other half along a parabola to 0 (Genmo's Mochi, ComfyUI).

    The parabola has the line's value and slope where they meet.
    """
    if steps == 1:
        return [trained.sigma_max, 0.0]
    threshold, even = 0.025, steps // 2
    curved = steps - even
    rate = threshold / even
    bend = (1.0 - threshold - rate * curved) / curved**2
    done = [rate * i for i in range(even)] + [threshold + rate * k + bend * k * k for k in range(curved)]
    return [(1.0 - part) * trained.sigma_max for part in done] + [0.0]


def tabled(sd1: tuple[float, ...], sdxl: tuple[float, ...]) -> Spacing:
    """A published table of levels, interpolated linearly in log sigma over the number of steps."""

    def spacing(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
        logs = [math.log(sigma) for sigma in (sdxl if tweaks.xl else sd1)]
        places = linspace(0.0, len(logs) - 1.0, steps) if steps > 1 else [0.0]
        sigmas = []
        for place in places:
            low = min(int(place), len(logs) - 2)
            sigmas.append(math.exp(lerp(logs[low], logs[low + 1], place - low)))
        return [*sigmas, 0.0]

    return spacing


# What samplers with noise levels of their own follow


def ddim_leading(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """The noise levels of A1111's DDIM and PLMS, which follow its timesteps whatever schedule is chosen.

    Its timesteps are clip(range(0, 1000, 1000 // steps) + 1, 0, 999); the sampler starts at the highest and *stops at* the
    lowest, timestep 1, whose noise (sigma 0.041) stays in the latent.  So the list does not end in 0.0, and a run takes
    len(list) - 1 steps: 19 when 20 were asked for, 30 for 30.  One step would leave nothing to do (A1111 then returns plain
    noise); here it goes from the highest timestep to the lowest.
    """
    count = len(trained.sigmas)
    timesteps = [min(t + 1, count - 1) for t in range(0, count, max(1, count // steps))]
    if len(timesteps) == 1:
        timesteps.append(count - 1)
    return [trained.sigmas[t] for t in reversed(timesteps)]


def through_timesteps(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread timesteps from the last to 0, both ends included, the last level above 0 (A1111's UniPC).

    A1111 takes the number of steps from its list of timesteps, range(0, 1000, 1000 // steps): where `steps` does not divide
    their number it runs more than were asked for, 31 for 30, 16 for 15, 7 for 6.  Its pictures depend on it, so this does too,
    unless the tweaks say `exact_steps`: what this program did at first, and its records of that time still mean.
    """
    count = len(trained.sigmas)
    run = steps if tweaks.exact_steps else math.ceil(count / max(1, count // steps))
    return [trained.sigma(t) for t in linspace(trained.last_timestep, 0.0, run + 1)]


def log_uniform(trained: TrainedSigmas, steps: int, tweaks: Tweaks = PLAIN) -> list[float]:
    """Evenly spread in log sigma, both ends included: steps + 1 levels, the last above 0 (DPM fast and DPM adaptive)."""
    high, low = (math.log(end) for end in (trained.sigma_max, trained.sigma_min))
    return [math.exp(log) for log in linspace(high, low, steps + 1)]


def lcm_sigmas(trained: TrainedSigmas) -> TrainedSigmas:
    """The 50 levels that a latent consistency model was distilled at: every 20th timestep, from the last down (A1111's LCM)."""
    stride = max(1, len(trained.sigmas) // 50)
    return TrainedSigmas(tuple(reversed(trained.sigmas[::-1][::stride])))


def falls(sigmas: list[float]) -> bool:
    """Whether every level is below the one before, which samplers need."""
    return all(above > below for above, below in pairwise(sigmas))
