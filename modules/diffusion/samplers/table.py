"""The table of samplers: their names in A1111, Forge and ComfyUI, each with its function and what a run needs to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modules.diffusion.samplers import cfgpp, dpm, dpmpp, euler, heun, multistep, sde, timestep
from modules.diffusion.samplers.protocol import SamplerFunction
from modules.diffusion.schedules.spacings import Spacing, ddim_leading, lcm_sigmas, log_uniform, through_timesteps
from modules.diffusion.schedules.table import find_schedule
from modules.errors import UnknownName
from modules.hooks import HOOKS, Table, hookimpl

if TYPE_CHECKING:
    from modules.diffusion.schedules.trained import TrainedSigmas

CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
ANCESTRAL = ("eta", "s_noise")


@dataclass(frozen=True)
class Sampler:
    """An entry of the table: a sampler's function, and what else is known of it.

    `order` is that of the deterministic part, on even steps where it makes a difference.  `stages` network evaluations make a
    step, the step to sigma 0 takes one; `ends` counts where that is not so.  `default_schedule` is the label that Automatic
    stands for ("" = Uniform).  `spacing` is set where the sampler follows its own noise levels, `distilled` where it knows only
    some of the trained sigmas.  `takes` names the options that change its pictures, `eta` is that option's value when none is
    given.  `adaptive` samplers choose their own steps.  A `pair` sampler receives `Denoised` and so always needs the negative
    prompt; `cfg_divisor` divides the guidance scale.
    """

    name: str
    sample: SamplerFunction
    aliases: tuple[str, ...]
    order: int = 1
    stages: int = 1
    default_schedule: str = ""
    takes: tuple[str, ...] = ()
    eta: float = 1.0
    stochastic: bool = False
    brownian: bool = False
    discards_penultimate: bool = False
    spacing: Spacing | None = None
    distilled: Callable[[TrainedSigmas], TrainedSigmas] | None = None
    unit_start: bool = False
    adaptive: bool = False
    pair: bool = False
    cfg_divisor: float = 1.0
    ends: Callable[[int], list[int]] | None = None

    def start_scale(self, sigma: float) -> float:
        """What unit noise is multiplied by to be x at the first level, `sigma`.

        k-diffusion's samplers start from sigma * noise.  A1111's timestep samplers (`unit_start`) start from unit noise in
        the variance-preserving form, which is sqrt(1 + sigma^2) * noise here.
        """
        return math.hypot(1.0, sigma) if self.unit_start else sigma

    def step_ends(self, steps: int, to_zero: bool = True) -> list[int]:
        """How many evaluations are over when each of `steps` steps is; `to_zero` says whether the last one leads to sigma 0."""
        if self.ends is not None:
            return self.ends(steps)
        last = self.stages * (steps - 1) + 1 if to_zero else self.stages * steps
        return [self.stages * step for step in range(1, steps)] + [last]

    def evaluations(self, steps: int) -> int:
        """Network evaluations in `steps` steps, the last of them to sigma 0."""
        return self.step_ends(steps)[-1]

    def prompt_steps(self, steps: int) -> int:
        """Evaluations for which prompts that change are worked out: A1111 counts its second-order samplers' steps twice."""
        return self.stages * steps

    def options(
        self,
        eta: float | None = None,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = 0.0,
        s_noise: float = 1.0,
    ) -> dict[str, float]:
        """The keyword arguments for `sample`; what it does not take is left out.  An `s_tmax` of 0 means no upper limit."""
        given = {"eta": eta, "s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax or math.inf, "s_noise": s_noise}
        return {name: value for name, value in given.items() if name in self.takes and value is not None}


def _heunpp2_ends(steps: int) -> list[int]:
    return [1] if steps == 1 else [3 * step for step in range(1, steps - 1)] + [3 * steps - 4, 3 * steps - 3]


def _pece_ends(steps: int) -> list[int]:
    return [2 * step - 1 for step in range(1, steps + 1)]


def _plms_ends(steps: int) -> list[int]:
    return [step + 1 for step in range(1, steps + 1)]


def _k(name: str, *further: str) -> tuple[str, ...]:
    """A1111's alias, and the same without its k_, which is ComfyUI's name."""
    return (f"k_{name}", name, *further)


_A1111 = (
    Sampler("DPM++ 2M", dpmpp.dpmpp_2m, _k("dpmpp_2m"), order=2, default_schedule="Karras"),
    Sampler(
        "DPM++ SDE",
        dpmpp.dpmpp_sde,
        _k("dpmpp_sde"),
        order=2,
        stages=2,
        default_schedule="Karras",
        takes=ANCESTRAL,
        stochastic=True,
        brownian=True,
    ),
    Sampler(
        "DPM++ 2M SDE",
        dpmpp.dpmpp_2m_sde,
        _k("dpmpp_2m_sde"),
        order=2,
        default_schedule="Exponential",
        takes=ANCESTRAL,
        stochastic=True,
        brownian=True,
    ),
    Sampler(
        "DPM++ 2M SDE Heun",
        dpmpp.dpmpp_2m_sde_heun,
        _k("dpmpp_2m_sde_heun"),
        order=2,
        default_schedule="Exponential",
        takes=ANCESTRAL,
        stochastic=True,
        brownian=True,
    ),
    Sampler(
        "DPM++ 2S a",
        dpmpp.dpmpp_2s_ancestral,
        _k("dpmpp_2s_a", "dpmpp_2s_ancestral"),
        order=2,
        stages=2,
        default_schedule="Karras",
        takes=ANCESTRAL,
        stochastic=True,
    ),
    Sampler(
        "DPM++ 3M SDE",
        dpmpp.dpmpp_3m_sde,
        _k("dpmpp_3m_sde"),
        order=2,
        default_schedule="Exponential",
        takes=ANCESTRAL,
        stochastic=True,
        brownian=True,
        discards_penultimate=True,
    ),
    Sampler(
        "Euler a",
        euler.euler_ancestral,
        ("k_euler_a", "k_euler_ancestral", "euler_ancestral"),
        takes=ANCESTRAL,
        stochastic=True,
    ),
    Sampler("Euler", euler.euler, ("k_euler",), takes=CHURN),
    Sampler("LMS", multistep.lms, ("k_lms",), order=2),
    Sampler("Heun", heun.heun, ("k_heun",), order=2, stages=2, takes=CHURN),
    Sampler(
        "DPM2",
        heun.dpm_2,
        _k("dpm_2"),
        order=2,
        stages=2,
        default_schedule="Karras",
        takes=CHURN,
        discards_penultimate=True,
    ),
    Sampler(
        "DPM2 a",
        heun.dpm_2_ancestral,
        _k("dpm_2_a", "dpm_2_ancestral"),
        order=2,
        stages=2,
        default_schedule="Karras",
        takes=ANCESTRAL,
        stochastic=True,
        discards_penultimate=True,
    ),
    Sampler("DPM fast", dpm.dpm_fast, _k("dpm_fast"), order=2, takes=ANCESTRAL, stochastic=True, spacing=log_uniform),
    Sampler(
        "DPM adaptive",
        dpm.dpm_adaptive,
        _k("dpm_ad", "dpm_adaptive"),
        order=3,
        takes=("eta",),
        stochastic=True,
        spacing=log_uniform,
        adaptive=True,
    ),
    Sampler("Restart", heun.restart, (), order=2, stages=2, default_schedule="Karras", stochastic=True),
    Sampler("DDIM", euler.ddim, (), takes=("eta",), eta=0.0, spacing=ddim_leading, unit_start=True),
    Sampler(
        "DDIM CFG++",
        cfgpp.ddim_cfgpp,
        ("ddim_cfgpp",),
        takes=("eta",),
        eta=0.0,
        spacing=ddim_leading,
        unit_start=True,
        pair=True,
        cfg_divisor=12.5,
    ),
    Sampler("PLMS", timestep.plms, (), order=2, spacing=ddim_leading, unit_start=True, ends=_plms_ends),
    Sampler("UniPC", timestep.unipc, ("uni_pc",), order=2, spacing=through_timesteps, unit_start=True),
    Sampler("LCM", euler.lcm, ("k_lcm",), stochastic=True, distilled=lcm_sigmas),
)

_FORGE = (
    Sampler("HeunPP2", heun.heunpp2, (), stages=3, takes=CHURN, ends=_heunpp2_ends),
    Sampler("IPNDM", multistep.ipndm, (), order=2),
    Sampler("IPNDM_V", multistep.ipndm_v, (), order=2),
    Sampler("DEIS", multistep.deis, (), order=2),
    # The same step as Euler a with eta 1, written in the variance-preserving form
    Sampler("DDPM", euler.euler_ancestral, (), stochastic=True),
)

_COMFY = (
    Sampler("Euler CFG++", cfgpp.euler_cfgpp, ("euler_cfg_pp",), pair=True),
    Sampler(
        "Euler a CFG++",
        cfgpp.euler_ancestral_cfgpp,
        ("euler_ancestral_cfg_pp",),
        takes=ANCESTRAL,
        stochastic=True,
        pair=True,
    ),
    Sampler(
        "DPM++ 2S a CFG++",
        cfgpp.dpmpp_2s_ancestral_cfgpp,
        ("dpmpp_2s_ancestral_cfg_pp",),
        order=2,
        stages=2,
        takes=ANCESTRAL,
        stochastic=True,
        pair=True,
    ),
    Sampler("DPM++ 2M CFG++", cfgpp.dpmpp_2m_cfgpp, ("dpmpp_2m_cfg_pp",), order=2, pair=True),
    Sampler("RES multistep", multistep.res_multistep, ("res_multistep",), order=2),
    Sampler(
        "RES multistep a",
        multistep.res_multistep_ancestral,
        ("res_multistep_ancestral",),
        order=2,
        takes=ANCESTRAL,
        stochastic=True,
    ),
    Sampler("RES multistep CFG++", cfgpp.res_multistep_cfgpp, ("res_multistep_cfg_pp",), order=2, pair=True),
    Sampler(
        "RES multistep a CFG++",
        cfgpp.res_multistep_ancestral_cfgpp,
        ("res_multistep_ancestral_cfg_pp",),
        order=2,
        takes=ANCESTRAL,
        stochastic=True,
        pair=True,
    ),
    Sampler("Gradient estimation", euler.gradient_estimation, ("gradient_estimation",)),
    Sampler("Gradient estimation CFG++", cfgpp.gradient_estimation_cfgpp, ("gradient_estimation_cfg_pp",), pair=True),
    Sampler("ER SDE", sde.er_sde, ("er_sde",), order=3, takes=("s_noise",), stochastic=True),
    Sampler("SEEDS 2", sde.seeds_2, ("seeds_2",), order=2, stages=2, takes=ANCESTRAL, stochastic=True),
    Sampler("SEEDS 3", sde.seeds_3, ("seeds_3",), order=3, stages=3, takes=ANCESTRAL, stochastic=True),
    Sampler("SA-Solver", sde.sa_solver, ("sa_solver",), order=3, takes=ANCESTRAL, stochastic=True),
    Sampler(
        "SA-Solver PECE",
        sde.sa_solver_pece,
        ("sa_solver_pece",),
        order=3,
        stages=2,
        takes=ANCESTRAL,
        stochastic=True,
        ends=_pece_ends,
    ),
    Sampler("UniPC bh2", timestep.unipc_bh2, ("uni_pc_bh2",), order=2, discards_penultimate=True),
)


class _BuiltIn:
    @hookimpl
    def samplers(self) -> tuple[Sampler, ...]:
        return (*_A1111, *_FORGE, *_COMFY)


SAMPLERS: Table[Sampler] = Table(HOOKS, "samplers", "sampler", lambda sampler: (sampler.name, *sampler.aliases))
"""Every sampler by its name: first A1111's in its order, then what Forge adds, then what ComfyUI has beyond both, then what
extensions bring."""

HOOKS.register(_BuiltIn(), "atelier.samplers", built_in=True)

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


def counted_as(name: str) -> Sampler:
    """The sampler by whose numbers of steps and evaluations a request is counted: that of its name, or Euler where nothing has
    it any more, as an extension was switched off while its requests waited.  They fail when they are begun, and not before."""
    try:
        return find_sampler(name)[0]
    except UnknownName:
        return SAMPLERS["Euler"]


def _by_name(name: str) -> Sampler | None:
    return SAMPLERS.find(" ".join(name.split()))
