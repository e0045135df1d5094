"""The part of a schedule that img2img runs, against A1111's arithmetic written out for each kind of sampler."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modules.diffusion.noise import Noise
from modules.diffusion.samplers import SAMPLERS, find_sampler
from modules.diffusion.schedules import SCHEDULES, TrainedSigmas, partial_sigmas, resolve_schedule, run_steps, sigmas_for
from modules.diffusion.schedules.spacings import falls

LEVELS = TrainedSigmas.scaled_linear()

ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
SIGMAS = np.sqrt((1 - ALPHAS) / ALPHAS)


def timesteps(steps: int) -> np.ndarray:
    """A1111's `get_timesteps` of its samplers on timesteps: rising."""
    return np.clip(np.asarray(list(range(0, 1000, 1000 // steps))) + 1, 0, 999)


@pytest.mark.parametrize(
    ("sampler", "steps", "strength", "exactly", "run"),
    [
        ("Euler", 20, 0.75, False, 16),
        ("Euler", 20, 1.0, False, 20),
        ("Euler", 20, 0.0, False, 0),
        ("Euler", 20, 0.04, False, 1),
        ("Euler", 20, 0.05, False, 2),
        ("Euler", 1, 0.5, False, 1),
        ("Euler", 20, 0.75, True, 20),
        ("Euler", 20, 0.0, True, 0),
        ("DPM++ 2M SDE", 30, 0.5, False, 16),
        ("DPM2 a", 30, 0.5, False, 16),
        ("DPM fast", 20, 0.75, False, 16),
        ("DPM adaptive", 20, 0.75, False, 16),
        ("DDIM", 20, 0.75, False, 14),
        ("PLMS", 20, 0.75, True, 18),
        ("UniPC", 20, 0.75, False, 15),
        ("DDIM", 20, 0.0, False, 0),
        ("UniPC", 20, 0.0, False, 0),
        ("DDIM", 20, 0.001, False, 0),
        ("DDIM", 20, 0.04, False, 1),
        ("UniPC", 20, 0.04, False, 1),
        ("DDIM", 20, 0.05, False, 1),
        ("DDIM", 1, 0.5, True, 1),
        ("DPM fast", 1, 0.5, False, 1),
        ("DPM adaptive", 1, 1.0, False, 1),
        ("DPM fast", 20, 0.03, False, 0),
    ],
)
def test_how_many_steps_are_run(sampler: str, steps: int, strength: float, exactly: bool, run: int) -> None:
    found, _ = find_sampler(sampler)
    part = partial_sigmas("Automatic", found, LEVELS, steps, strength, exactly)
    assert max(0, len(part.sigmas) - 1) == run_steps(found, steps, strength, exactly) == run


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("schedule", ["Karras", "Exponential", "Uniform", "KL Optimal", "DDIM", "Beta"])
def test_k_diffusion_runs_the_end_of_the_whole_schedule(schedule: str, strength: float) -> None:
    sampler = SAMPLERS["Euler"]
    whole = sigmas_for(schedule, sampler, LEVELS, 20)
    t_enc = int(min(strength, 0.999) * 20)
    part = partial_sigmas(schedule, sampler, LEVELS, 20, strength)
    assert part.sigmas == whole[20 - t_enc - 1 :]
    assert (part.noised, list(part.span), part.start_scale()) == (part.sigmas[0], whole, 1.0)


def test_exactly_so_many_steps_stretch_the_schedule() -> None:
    sampler = SAMPLERS["DPM++ 2M"]
    whole = sigmas_for("Karras", sampler, LEVELS, 26)
    part = partial_sigmas("Karras", sampler, LEVELS, 20, 0.75, exactly=True)
    assert part.sigmas == whole[26 - 19 - 1 :]


@pytest.mark.parametrize(("steps", "strength"), [(20, 0.75), (20, 0.3), (30, 1.0), (7, 0.5), (50, 0.99)])
def test_ddim_and_plms_noise_to_one_timestep_above_their_first(steps: int, strength: float) -> None:
    rising, t_enc = timesteps(steps), int(min(strength, 0.999) * steps)
    for name in ("DDIM", "PLMS", "DDIM CFG++"):
        part = partial_sigmas("Automatic", SAMPLERS[name], LEVELS, steps, strength)
        assert part.noised == pytest.approx(SIGMAS[rising[t_enc]], rel=1e-5)
        assert part.sigmas == pytest.approx(SIGMAS[rising[:t_enc]][::-1], rel=1e-5)


@pytest.mark.parametrize(("steps", "strength"), [(20, 0.75), (10, 0.5)])
def test_unipc_spreads_its_steps_below_the_same_timestep(steps: int, strength: float) -> None:
    rising, t_enc = timesteps(steps), int(strength * steps)
    part = partial_sigmas("Automatic", SAMPLERS["UniPC"], LEVELS, steps, strength)
    assert part.noised == pytest.approx(SIGMAS[rising[t_enc]], rel=1e-5)
    places = np.linspace(rising[t_enc - 1], 0, t_enc + 1)
    expected = np.exp(np.interp(places, np.arange(1000), np.log(SIGMAS)))
    assert part.sigmas == pytest.approx(expected, rel=1e-5)


def test_a_timestep_sampler_takes_x_over_in_its_own_scale() -> None:
    """y = x / sqrt(1 + sigma^2) is what A1111 hands on from the level of the noise to the first one of the run."""
    part = partial_sigmas("Automatic", SAMPLERS["DDIM"], LEVELS, 20, 0.75)
    source, noise = 0.7, -1.3
    alpha = ALPHAS[751]
    theirs = math.sqrt(alpha) * source + math.sqrt(1 - alpha) * noise
    ours = (source + noise * part.noised) * part.start_scale()
    assert ours / math.sqrt(1 + part.sigmas[0] ** 2) == pytest.approx(theirs, rel=1e-5)


def test_dpm_fast_and_adaptive_spread_log_levels_between_the_ends_of_uniform() -> None:
    whole = sigmas_for("Uniform", SAMPLERS["Euler"], LEVELS, 20)
    for name in ("DPM fast", "DPM adaptive"):
        part = partial_sigmas("Karras", SAMPLERS[name], LEVELS, 20, 0.75)
        logs = np.log(part.sigmas)
        assert (part.sigmas[0], part.sigmas[-1]) == pytest.approx((whole[4], LEVELS.sigma_min))
        assert np.diff(logs) == pytest.approx(np.full(16, np.diff(logs)[0]))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_gets_falling_levels_at_any_strength(name: str) -> None:
    sampler = SAMPLERS[name]
    for steps in (1, 2, 3, 20, 150):
        for strength in (0.0, 0.001, 0.3, 0.75, 1.0):
            for exactly in (False, True):
                part = partial_sigmas("Automatic", sampler, LEVELS, steps, strength, exactly)
                if strength == 0 or not part.sigmas:
                    assert (part.sigmas, part.noised) == ([], 0.0), "nothing is run, and no noise is added"
                    assert strength * steps < 1 or (strength, sampler.name[:3]) == (0.3, "DPM")
                    assert run_steps(sampler, steps, strength, exactly) == 0
                    continue
                assert len(part.sigmas) >= 2
                assert falls(part.sigmas)
                assert part.noised > 0
                assert len(part.sigmas) - 1 == run_steps(sampler, steps, strength, exactly)


@pytest.mark.parametrize("name", ["DDIM", "PLMS", "UniPC"])
@pytest.mark.parametrize("steps", [1, 5, 9])
def test_a_single_step_on_timesteps_begins_where_the_strength_says(name: str, steps: int) -> None:
    """It began one level up from the lowest, which for one step is the highest of all: pure noise at a strength near 0."""
    part = partial_sigmas("Automatic", SAMPLERS[name], LEVELS, steps, 0.1)
    assert part.noised == part.sigmas[0] == pytest.approx(LEVELS.sigma(99.9))
    assert part.sigmas[1:] == [LEVELS.sigmas[1]]


@pytest.mark.parametrize("name", ["DPM fast", "DPM adaptive"])
@pytest.mark.parametrize("exactly", [False, True])
def test_a_single_step_of_dpm_fast_and_adaptive_goes_down_to_the_lowest_level(name: str, exactly: bool) -> None:
    """It went from the first level to that level: the noised init image came back as the picture."""
    part = partial_sigmas("Automatic", SAMPLERS[name], LEVELS, 1, 0.75, exactly)
    assert part.sigmas == pytest.approx([LEVELS.sigma_max, LEVELS.sigma_min])


def test_names_of_schedules_are_resolved_as_ever() -> None:
    for label in SCHEDULES:
        sampler = SAMPLERS["DPM++ 2M"]
        part = partial_sigmas(label, sampler, LEVELS, 12, 0.5)
        assert part.sigmas == partial_sigmas(resolve_schedule(label, sampler), sampler, LEVELS, 12, 0.5).sigmas


def test_a_brownian_path_is_laid_over_the_whole_schedule() -> None:
    """So a run that begins in the middle meets the noise that the whole run meets there, as in A1111."""
    whole = sigmas_for("Karras", SAMPLERS["DPM++ SDE"], LEVELS, 10)
    long, short = Noise(3, (4, 8, 8)).brownian(whole), Noise(3, (4, 8, 8), span=whole).brownian(whole[5:])
    assert long.between(whole[6], whole[7]).equal(short.between(whole[6], whole[7]))
    other = Noise(3, (4, 8, 8)).brownian(whole[5:])
    assert not long.between(whole[6], whole[7]).equal(other.between(whole[6], whole[7]))
