"""The solvers: each is a generator that yields (x, sigma), is sent the denoised x, and returns the final x.

They know neither networks, guidance nor progress, and never loop over a model themselves; whoever drives them owns time, so
many can share one forward.  Noise levels are floats, and torch is not imported here: the web process reads the table.

In all of them x = x0 + sigma * noise, and (x - denoised) / sigma is the slope dx/dsigma of the probability-flow ODE
(Karras et al. 2022, equation 1 with sigma(t) = t).  Coefficients are those of k-diffusion, which A1111 runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from modules.diffusion.schedules import Spacing, ddim_leading, find_schedule
from modules.errors import UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from modules.diffusion.noise import Noise

SamplerProgram = Generator[tuple["Tensor", float], "Tensor", "Tensor"]
"""Yields (x, sigma), receives the denoised x (same shape), returns the final x."""

Solve = Callable[["Tensor", list[float], "Noise"], SamplerProgram]
"""(x at sigmas[0], falling sigmas, the image's noise) -> program."""


def euler(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """Algorithm 2 of Karras et al. (2022), first order, without churn."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        x = x + slope(x, sigma, denoised) * (sigma_next - sigma)
    return x


def euler_ancestral(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0) -> SamplerProgram:
    """Euler down to less noise than the next level has, then fresh noise on top (k-diffusion's ancestral step).

    With `eta` 1 the noise added is that of the DDPM posterior (Ho et al. 2020, equation 7); with 0 this is `euler`.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = x + slope(x, sigma, denoised) * (sigma_down - sigma)
        if sigma_up > 0:
            x = x + noise().to(x) * sigma_up
    return x


def heun(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """Algorithm 2 of Karras et al. (2022), second order, without churn; two evaluations per step."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        d = slope(x, sigma, denoised)
        if sigma_next > 0:  # Heun's correction; the last step is Euler, since the slope at 0 is 0 / 0
            x_2 = x + d * (sigma_next - sigma)
            denoised_2 = yield x_2, sigma_next
            d = (d + slope(x_2, sigma_next, denoised_2)) / 2
        x = x + d * (sigma_next - sigma)
    return x


def dpmpp_2m(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """DPM-Solver++(2M), algorithm 2 of Lu et al. (2022b, arXiv:2211.01095), in the time lambda = -log sigma.

    The first step and the one to sigma 0 are first order (k-diffusion's choice).
    """
    denoised_last: Tensor | None = None
    h_last = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:  # h is infinite and exp(-h) is 0
            return denoised
        h = math.log(sigma / sigma_next)
        target = denoised
        if denoised_last is not None:
            r = h_last / h
            target = denoised + (denoised - denoised_last) / (2 * r)
        x = x * (sigma_next / sigma) - target * math.expm1(-h)
        denoised_last, h_last = denoised, h
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: list[float], noise: Noise, *, eta: float = 1.0) -> SamplerProgram:
    """SDE-DPM-Solver++(2M), Lu et al. (2022b, arXiv:2211.01095), equation 18, midpoint form as in k-diffusion.

    The noise is the increments of one Brownian path per image, so other step counts follow the same path.  With `eta` 0 it is
    `dpmpp_2m`.
    """
    path = noise.brownian(sigmas)
    denoised_last: Tensor | None = None
    h_last = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        gain = -math.expm1(-h * (1 + eta))
        x_next = x * (sigma_next / sigma * math.exp(-eta * h)) + denoised * gain
        if denoised_last is not None:
            r = h_last / h
            x_next = x_next + (denoised - denoised_last) * (gain / (2 * r))
        if eta > 0:
            x_next = x_next + path.between(sigma, sigma_next).to(x) * (sigma_next * math.sqrt(-math.expm1(-2 * eta * h)))
        x, denoised_last, h_last = x_next, denoised, h
    return x


def ddim(x: Tensor, sigmas: list[float], noise: Noise) -> SamplerProgram:
    """DDIM with eta 0: Song et al. (2021, arXiv:2010.02502), equation 12.

    In the paper's variance-preserving form y = x / sqrt(1 + sigma^2), and its step is exactly Euler's in x and sigma (their
    section 4.3).  A1111 decodes y, so where the levels stop above 0 (`schedules.ddim_leading`) the result is scaled to it.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        x = denoised + (x - denoised) * (sigma_next / sigma)
    return x / math.hypot(1.0, sigmas[-1])


def slope(x: Tensor, sigma: float, denoised: Tensor) -> Tensor:
    """dx/dsigma of the probability-flow ODE."""
    return (x - denoised) / sigma


def ancestral_step(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """(sigma_down, sigma_up): the level to step down to, and the noise that leads back up to `sigma_next`.

    sigma_down^2 + sigma_up^2 = sigma_next^2.
    """
    up = min(sigma_next, eta * sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
    return math.sqrt(sigma_next**2 - up**2), up


@dataclass(frozen=True)
class Sampler:
    """An entry of the table: a solver, and what is not solver.

    `name` is A1111's.  `order` is that of the deterministic part.  `stages` network evaluations make a step, the step to
    sigma 0 takes one.  `default_schedule` is the label that Automatic stands for ("" = Uniform).  `spacing` is set where the
    sampler follows its own noise levels.
    """

    name: str
    solve: Solve
    aliases: tuple[str, ...]
    order: int = 1
    stages: int = 1
    default_schedule: str = ""
    stochastic: bool = False
    brownian: bool = False
    discards_penultimate: bool = False
    spacing: Spacing | None = None
    unit_start: bool = False

    def start_scale(self, sigma: float) -> float:
        """What unit noise is multiplied by to be x at the first level, `sigma`.

        k-diffusion's samplers start from sigma * noise.  A1111's timestep samplers (`unit_start`) start from unit noise in
        the variance-preserving form, which is sqrt(1 + sigma^2) * noise here.
        """
        return math.hypot(1.0, sigma) if self.unit_start else sigma

    def evaluations(self, steps: int) -> int:
        """Network evaluations in `steps` steps, the last of them to sigma 0."""
        return self.stages * (steps - 1) + 1

    def prompt_steps(self, steps: int) -> int:
        """Evaluations for which prompts that change are worked out: A1111 counts its second-order samplers' steps twice."""
        return 2 * steps if self.stages == 2 else steps

    def steps_done(self, evaluations: int, steps: int) -> int:
        """How many of `steps` steps are complete after that many evaluations."""
        return steps if evaluations >= self.evaluations(steps) else evaluations // self.stages


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("DPM++ 2M", dpmpp_2m, ("k_dpmpp_2m", "dpmpp_2m"), order=2, default_schedule="Karras"),
        Sampler(
            "DPM++ 2M SDE",
            dpmpp_2m_sde,
            ("k_dpmpp_2m_sde", "dpmpp_2m_sde"),
            order=2,
            default_schedule="Exponential",
            stochastic=True,
            brownian=True,
        ),
        Sampler("Euler a", euler_ancestral, ("k_euler_a", "k_euler_ancestral", "euler_ancestral"), stochastic=True),
        Sampler("Euler", euler, ("k_euler",)),
        Sampler("Heun", heun, ("k_heun",), order=2, stages=2),
        Sampler("DDIM", ddim, ("ddim",), spacing=ddim_leading, unit_start=True),
    )
}
"""Every sampler by its name, in the order in which A1111 lists them."""

_OLD_SUFFIXES = {"_ka": "Karras", "_exp": "Exponential"}
"""How A1111 before 1.9 wrote a schedule into a sampler's alias ("k_dpmpp_2m_ka")."""


def find_sampler(name: str) -> tuple[Sampler, str]:
    """The sampler of a name or alias in any case, and the schedule's label where an old combined name carries one, else "".

    Raises:
        UnknownName: none has it; the message names those that are here.

    >>> sampler, schedule = find_sampler("DPM++ 2M Karras")
    >>> sampler.name, schedule
    ('DPM++ 2M', 'Karras')
    """
    if found := _by_name(name):
        return found, ""

    # "DPM++ 2M SGM Uniform": the schedule is the shortest tail that leaves a sampler's name
    words = name.split()
    for cut in range(len(words) - 1, 0, -1):
        if found := _by_name(" ".join(words[:cut])):
            try:
                return found, find_schedule(" ".join(words[cut:])).label
            except UnknownName:
                break

    for suffix, label in _OLD_SUFFIXES.items():
        alias = name.strip().casefold()
        if alias.startswith("k_") and (found := _by_name(alias.removesuffix(suffix))):
            return found, label
    raise UnknownName("sampler", name, SAMPLERS)


def _by_name(name: str) -> Sampler | None:
    wanted = " ".join(name.split()).casefold()
    for sampler in SAMPLERS.values():
        if wanted in (known.casefold() for known in (sampler.name, *sampler.aliases)):
            return sampler
    return None
