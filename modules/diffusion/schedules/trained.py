"""Which noise levels a network was trained on.  Plain floats, neither torch nor numpy; knows neither samplers nor spacings."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise


@dataclass(frozen=True)
class TrainedSigmas:
    """The noise levels of a network's training timesteps: sigma = sqrt((1 - a) / a), where a is the cumulative alpha.

    `sigmas` rises with the timestep, has at least two values and all are positive.  SD 1.x has 1000, from 0.0292 to 14.61.
    """

    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sigmas) < 2 or self.sigmas[0] <= 0.0 or not all(a < b for a, b in pairwise(self.sigmas)):
            raise ValueError("noise levels must be at least two positive numbers that rise with the timestep")

    @classmethod
    def from_betas(cls, betas: Sequence[float]) -> TrainedSigmas:
        """From the variance added at each timestep (Ho et al. 2020, section 2), each in (0, 1)."""
        alpha, sigmas = 1.0, []
        for beta in betas:
            alpha *= 1.0 - beta
            sigmas.append(math.sqrt((1.0 - alpha) / alpha))
        return cls(tuple(sigmas))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> TrainedSigmas:
        """Betas whose square roots rise linearly; the defaults are Stable Diffusion 1.x (its `v1-inference.yaml`)."""
        return cls.from_betas([root * root for root in linspace(math.sqrt(beta_start), math.sqrt(beta_end), timesteps)])

    def zero_terminal_snr(self) -> TrainedSigmas:
        """The same levels stretched until nothing of the picture is left at the last: Lin et al. (2023), algorithm 1.

        Square roots of the cumulative alphas are shifted so that the last becomes 0, and scaled so that the first stays.  The
        last cumulative alpha is then set to A1111's 4.8973451890853435e-08, because no step starts at infinity.
        """
        roots = [1 / math.hypot(1.0, sigma) for sigma in self.sigmas]
        first, last = roots[0], roots[-1]
        alphas = [((root - last) * first / (first - last)) ** 2 for root in roots[:-1]] + [4.8973451890853435e-08]
        return TrainedSigmas(tuple(math.sqrt((1 - alpha) / alpha) for alpha in alphas))

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

    def nearest(self, sigma: float) -> int:
        """The trained timestep whose noise level is nearest to `sigma`; the lower one of two."""
        high = bisect.bisect_left(self.sigmas, sigma)
        if high > self.last_timestep:
            return self.last_timestep
        return high - 1 if high and sigma - self.sigmas[high - 1] <= self.sigmas[high] - sigma else high

    def behind(self, sigma: float) -> float:
        """The share of the trained timesteps that a run has left behind at `sigma`: (999 - t) / 1000 of the nearest t of a
        thousand, from 0 at the highest to 0.999 at the lowest."""
        return (self.last_timestep - self.nearest(sigma)) / len(self.sigmas)

    def sigma(self, timestep: float) -> float:
        """The noise level at a timestep in [0, `last_timestep`], fractions allowed; the inverse of `timestep`."""
        timestep = min(max(timestep, 0.0), float(self.last_timestep))
        low = int(timestep)
        if low == timestep:
            return self.sigmas[low]
        return math.exp(lerp(self._logs[low], self._logs[low + 1], timestep - low))


def linspace(start: float, end: float, count: int) -> list[float]:
    """`count` evenly spread values from `start` to `end`, both included; `start` alone for one."""
    if count == 1:
        return [start]
    return [lerp(start, end, i / (count - 1)) for i in range(count)]


def lerp(start: float, end: float, weight: float) -> float:
    """Between the two, exact at both ends."""
    return start * (1.0 - weight) + end * weight
