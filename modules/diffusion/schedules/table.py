"""The table of schedules, and which levels a sampler walks under one of them.  It knows neither samplers nor networks."""

from __future__ import annotations

from dataclasses import dataclass

from modules.diffusion.schedules import published, spacings
from modules.diffusion.schedules.spacings import PLAIN, SamplerTraits, Spacing, Tweaks, falls, tabled
from modules.diffusion.schedules.trained import TrainedSigmas
from modules.errors import RequestError, UnknownName
from modules.hooks import HOOKS, Table, hookimpl

BOUNDS = ("sigma_min", "sigma_max")


@dataclass(frozen=True)
class Schedule:
    """An entry of the table: `name` and `label` are A1111's scheduler name and its text in the UI.

    `spacing` is None for Automatic only, which stands for the sampler's own default.  `takes` names the fields of `Tweaks` that
    change it.
    """

    name: str
    label: str
    spacing: Spacing | None
    aliases: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


_ALIGN = tabled(published.ALIGN_SD1, published.ALIGN_SDXL)

_SCHEDULES = (
    Schedule("automatic", "Automatic", None),
    Schedule("uniform", "Uniform", spacings.uniform),
    Schedule("karras", "Karras", spacings.karras, takes=(*BOUNDS, "rho")),
    Schedule("exponential", "Exponential", spacings.exponential, takes=BOUNDS),
    Schedule("polyexponential", "Polyexponential", spacings.polyexponential, takes=(*BOUNDS, "rho")),
    Schedule("sgm_uniform", "SGM Uniform", spacings.sgm_uniform, ("SGMUniform",), takes=BOUNDS),
    Schedule("kl_optimal", "KL Optimal", spacings.kl_optimal, takes=BOUNDS),
    Schedule("align_your_steps", "Align Your Steps", _ALIGN),
    Schedule("simple", "Simple", spacings.simple),
    Schedule("normal", "Normal", spacings.normal, takes=BOUNDS),
    Schedule("ddim", "DDIM", spacings.ddim_uniform, ("ddim_uniform",)),
    Schedule("beta", "Beta", spacings.beta, takes=(*BOUNDS, "alpha", "beta")),
    Schedule("turbo", "Turbo", spacings.turbo),
    Schedule("align_your_steps_GITS", "Align Your Steps GITS", tabled(published.GITS_SD1, published.GITS_SDXL)),
    Schedule("align_your_steps_11", "Align Your Steps 11", _ALIGN),
    Schedule("align_your_steps_32", "Align Your Steps 32", tabled(published.ALIGN_32_SD1, published.ALIGN_32_SDXL)),
    Schedule("linear_quadratic", "Linear Quadratic", spacings.linear_quadratic),
    Schedule("beta_timesteps", "Beta timesteps", spacings.beta_timesteps, takes=("alpha", "beta")),
    Schedule("kl_optimal_to_zero", "KL Optimal to zero", spacings.kl_optimal_to_zero, takes=BOUNDS),
)


class _BuiltIn:
    @hookimpl
    def schedules(self) -> tuple[Schedule, ...]:
        return _SCHEDULES


SCHEDULES: Table[Schedule] = Table(
    HOOKS, "schedules", "schedule", lambda schedule: tuple(dict.fromkeys((schedule.label, schedule.name, *schedule.aliases)))
)
"""Every schedule by its label, in the order of A1111, then Forge's, then ComfyUI's, then what extensions bring."""

HOOKS.register(_BuiltIn(), "atelier.schedules", built_in=True)


def find_schedule(name: str) -> Schedule:
    """The schedule of a label, name or alias, in any case.

    Raises:
        UnknownName: none has it; the message names those that are here.

    >>> find_schedule("sgm_uniform").label
    'SGM Uniform'
    """
    if found := SCHEDULES.find(name.strip()):
        return found
    raise UnknownName("schedule", name, SCHEDULES)


def sigmas_for(
    schedule: str,
    sampler: SamplerTraits,
    trained: TrainedSigmas,
    steps: int,
    tweaks: Tweaks = PLAIN,
    discard_penultimate: bool = False,
) -> list[float]:
    """The noise levels that `sampler` walks down in `steps` steps, highest first.

    Args:
        schedule: a label, name or alias; Automatic means the sampler's default, and Uniform where it has none.
        sampler: its flags matter: a sampler with its own spacing ignores the schedule.
        trained: of the network.
        steps: at least 1.
        tweaks: the user's own ends and shape, where the schedule takes them.
        discard_penultimate: leave out the lowest level above 0 for every sampler, not only for those that want it.

    Returns:
        steps + 1 strictly falling values, the last one 0.0.  Samplers with their own spacing and the schedules KL Optimal and
        DDIM differ; their functions say how.

    Raises:
        UnknownName: there is no such schedule.
        RequestError: `steps` is less than 1, or the tweaks leave no falling levels.
    """
    chosen = SCHEDULES[resolve_schedule(schedule, sampler)]
    if steps < 1:
        raise RequestError(f"steps: at least 1 is needed, {steps} was given")
    if sampler.distilled is not None:
        trained = sampler.distilled(trained)
    if sampler.spacing is not None:
        return sampler.spacing(trained, steps, tweaks)
    assert chosen.spacing is not None
    if sampler.discards_penultimate or discard_penultimate:  # A1111: one step more, then drop the lowest positive level
        sigmas = chosen.spacing(trained, steps + 1, tweaks)
        sigmas = [*sigmas[:-2], sigmas[-1]]
    else:
        sigmas = chosen.spacing(trained, steps, tweaks)
    if not falls(sigmas):
        high, low = tweaks.ends(trained)
        raise RequestError(
            f"schedule: {chosen.label} has no falling noise levels for {steps} steps of {sampler.name} from {high:.4g} to "
            f"{low:.4g}; ask for fewer steps, a lower sigma_min or a higher sigma_max"
        )
    return sigmas


def resolve_schedule(schedule: str, sampler: SamplerTraits) -> str:
    """The label of what `schedule` (label, name or alias) means for `sampler`.

    Automatic becomes the sampler's default.  For a sampler that follows its own levels every schedule becomes Automatic: naming
    another would say that it made a difference.
    """
    found = find_schedule(schedule)
    if sampler.spacing is not None:
        return "Automatic"
    if found.spacing is None:
        return sampler.default_schedule or "Uniform"
    return found.label
