"""Which noise levels a network was trained on, and how a run of n steps is spread over them.

Everything is plain floats: the web process reads this table, so it imports neither torch nor numpy, and samplers get numbers
that cost no device synchronisation.  It knows neither solvers nor networks.

The definitions are those of AUTOMATIC1111 1.10.1 (`modules/sd_schedulers.py`) and of k-diffusion behind it, because a schedule
is part of what makes an old seed give its old picture.  We compute in double precision where they use single.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.errors import RequestError, UnknownName

if TYPE_CHECKING:
    from modules.diffusion.samplers import Sampler

Spacing = Callable[["NoiseLevels", int], list[float]]
"""(levels, steps) -> `steps` falling positive noise levels and, as the last value, 0.0."""


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels of a network's training timesteps: sigma = sqrt((1 - a) / a), where a is the cumulative alpha.

    `sigmas` rises with the timestep, has at least two values and all are positive.  SD 1.x has 1000, from 0.0292 to 14.61.
    """

    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sigmas) < 2 or self.sigmas[0] <= 0.0 or not all(a < b for a, b in pairwise(self.sigmas)):
            raise ValueError("noise levels must be at least two positive numbers that rise with the timestep")

    @classmethod
    def from_betas(cls, betas: Sequence[float]) -> NoiseLevels:
        """From the variance added at each timestep (Ho et al. 2020, section 2), each in (0, 1)."""
        alpha, sigmas = 1.0, []
        for beta in betas:
            alpha *= 1.0 - beta
            sigmas.append(math.sqrt((1.0 - alpha) / alpha))
        return cls(tuple(sigmas))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> NoiseLevels:
        """Betas whose square roots rise linearly; the defaults are Stable Diffusion 1.x (its `v1-inference.yaml`)."""
        return cls.from_betas([root * root for root in _linspace(math.sqrt(beta_start), math.sqrt(beta_end), timesteps)])

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> float:
        return self.sigmas[-1]

    @property
    def last_timestep(self) -> int:
        """999 for SD 1.x."""
        return len(self.sigmas) - 1

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(math.log(sigma) for sigma in self.sigmas)

    def timestep(self, sigma: float) -> float:
        """The timestep in [0, `last_timestep`] that belongs to `sigma` > 0: linear in log sigma between trained levels.

        Levels outside the trained range get the nearest end, as in k-diffusion's `DiscreteSchedule.sigma_to_t`.
        """
        if sigma <= self.sigma_min:
            return 0.0
        high = bisect.bisect_left(self.sigmas, sigma)
        if high > self.last_timestep:
            return float(self.last_timestep)
        below, above = self._logs[high - 1], self._logs[high]
        return high - 1 + (math.log(sigma) - below) / (above - below)

    def sigma(self, timestep: float) -> float:
        """The noise level at a timestep in [0, `last_timestep`], fractions allowed; the inverse of `timestep`."""
        timestep = min(max(timestep, 0.0), float(self.last_timestep))
        low = int(timestep)
        if low == timestep:
            return self.sigmas[low]
        return math.exp(_lerp(self._logs[low], self._logs[low + 1], timestep - low))


@dataclass(frozen=True)
class Schedule:
    """An entry of the table: `name` and `label` are A1111's scheduler name and its text in the UI.

    `spacing` is None for Automatic only, which stands for the sampler's own default.
    """

    name: str
    label: str
    spacing: Spacing | None
    aliases: tuple[str, ...] = ()


def uniform(levels: NoiseLevels, steps: int) -> list[float]:
    """Evenly spread timesteps from the last to 0 (k-diffusion's `get_sigmas`)."""
    return [levels.sigma(t) for t in _linspace(levels.last_timestep, 0.0, steps)] + [0.0]


def karras(levels: NoiseLevels, steps: int, rho: float = 7.0) -> list[float]:
    """Karras et al. (2022), equation 5: evenly spread in sigma ** (1 / rho)."""
    roots = _linspace(levels.sigma_max ** (1 / rho), levels.sigma_min ** (1 / rho), steps)
    return [root**rho for root in roots] + [0.0]


def exponential(levels: NoiseLevels, steps: int) -> list[float]:
    """Evenly spread in log sigma (k-diffusion's `get_sigmas_exponential`)."""
    return [math.exp(log) for log in _linspace(math.log(levels.sigma_max), math.log(levels.sigma_min), steps)] + [0.0]


def sgm_uniform(levels: NoiseLevels, steps: int) -> list[float]:
    """Evenly spread timesteps of steps + 1 points without the lowest one (Stability's generative-models, trailing spacing)."""
    return [levels.sigma(t) for t in _linspace(levels.last_timestep, 0.0, steps + 1)[:-1]] + [0.0]


def simple(levels: NoiseLevels, steps: int) -> list[float]:
    """Every (levels / steps)-th trained level, counted from the top and never interpolated (ComfyUI's "simple")."""
    count = len(levels.sigmas)
    return [levels.sigmas[-(1 + int(i * (count / steps)))] for i in range(steps)] + [0.0]


def normal(levels: NoiseLevels, steps: int) -> list[float]:
    """Evenly spread timesteps between those of sigma_max and sigma_min (ComfyUI's "normal").

    Equal to Uniform as long as nobody overrides sigma_min or sigma_max; A1111 lists both, so recipes name both.
    """
    start, end = levels.timestep(levels.sigma_max), levels.timestep(levels.sigma_min)
    return [levels.sigma(t) for t in _linspace(start, end, steps)] + [0.0]


def ddim_leading(levels: NoiseLevels, steps: int) -> list[float]:
    """The noise levels of A1111's DDIM, which follow its timesteps whatever schedule is chosen.

    Its timesteps are clip(range(0, 1000, 1000 // steps) + 1, 0, 999); the solver starts at the highest and *stops at* the
    lowest, timestep 1, whose noise (sigma 0.041) stays in the latent.  So the list does not end in 0.0, and a run takes
    len(list) - 1 steps: 19 when 20 were asked for, 30 for 30.  One step would leave nothing to do (A1111 then returns plain
    noise); here it goes from the highest timestep to the lowest.
    """
    count = len(levels.sigmas)
    timesteps = [min(t + 1, count - 1) for t in range(0, count, max(1, count // steps))]
    if len(timesteps) == 1:
        timesteps.append(count - 1)
    return [levels.sigmas[t] for t in reversed(timesteps)]


SCHEDULES: dict[str, Schedule] = {
    schedule.label: schedule
    for schedule in (
        Schedule("automatic", "Automatic", None),
        Schedule("uniform", "Uniform", uniform),
        Schedule("karras", "Karras", karras),
        Schedule("exponential", "Exponential", exponential),
        Schedule("sgm_uniform", "SGM Uniform", sgm_uniform, ("SGMUniform",)),
        Schedule("simple", "Simple", simple),
        Schedule("normal", "Normal", normal),
    )
}
"""Every schedule by its label, in the order in which A1111 lists them."""


def find_schedule(name: str) -> Schedule:
    """The schedule of a label, name or alias, in any case.

    Raises:
        UnknownName: none has it; the message names those that are here.

    >>> find_schedule("sgm_uniform").label
    'SGM Uniform'
    """
    wanted = name.strip().casefold()
    for schedule in SCHEDULES.values():
        if wanted in (known.casefold() for known in (schedule.label, schedule.name, *schedule.aliases)):
            return schedule
    raise UnknownName("schedule", name, SCHEDULES)


def sigmas_for(schedule: str, sampler: Sampler, levels: NoiseLevels, steps: int) -> list[float]:
    """The noise levels that `sampler` walks down in `steps` steps, highest first.

    Args:
        schedule: a label, name or alias; Automatic means the sampler's default, and Uniform where it has none.
        sampler: its flags matter: a sampler with its own spacing ignores the schedule.
        levels: of the network.
        steps: at least 1.

    Returns:
        steps + 1 strictly falling values, the last one 0.0.  Samplers with their own spacing may differ (`ddim_leading`).

    Raises:
        UnknownName: there is no such schedule.
        RequestError: `steps` is less than 1.
    """
    chosen = SCHEDULES[resolve_schedule(schedule, sampler)]
    if steps < 1:
        raise RequestError(f"steps: at least 1 is needed, {steps} was given")
    if sampler.spacing is not None:
        return sampler.spacing(levels, steps)
    assert chosen.spacing is not None
    if sampler.discards_penultimate:  # A1111: one step more, then drop the lowest positive level
        sigmas = chosen.spacing(levels, steps + 1)
        return [*sigmas[:-2], sigmas[-1]]
    return chosen.spacing(levels, steps)


def resolve_schedule(schedule: str, sampler: Sampler) -> str:
    """The label of what `schedule` (label, name or alias) means for `sampler`: never Automatic."""
    found = find_schedule(schedule)
    if found.spacing is None:
        return sampler.default_schedule or "Uniform"
    return found.label


def _linspace(start: float, end: float, count: int) -> list[float]:
    """`count` evenly spread values from `start` to `end`, both included; `start` alone for one."""
    if count == 1:
        return [start]
    return [_lerp(start, end, i / (count - 1)) for i in range(count)]


def _lerp(start: float, end: float, weight: float) -> float:
    """Between the two, exact at both ends."""
    return start * (1.0 - weight) + end * weight
