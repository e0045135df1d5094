"""Schedules against k-diffusion's numbers and independent arithmetic; what must hold for every schedule and step count."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from diffusers import EulerDiscreteScheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modules.diffusion.samplers import SAMPLERS, Sampler
from modules.diffusion.samplers.euler import euler
from modules.diffusion.schedules import (
    SCHEDULES,
    TrainedSigmas,
    Tweaks,
    find_schedule,
    img2img_sigmas,
    img2img_steps,
    img2img_timesteps,
    resolve_schedule,
    sigmas_for,
)
from modules.diffusion.schedules.beta import beta_quantile
from modules.errors import RequestError, UnknownName

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text())
LEVELS = TrainedSigmas.scaled_linear()
PLAIN = Sampler("plain", euler, ())


# Noise levels


def test_levels_are_stable_diffusion_1() -> None:
    """0.0292 and 14.6146 are the ends that every SD 1.x tool prints."""
    assert len(LEVELS.sigmas) == 1000
    assert LEVELS.sigma_min == pytest.approx(0.029167, abs=1e-6)
    assert LEVELS.sigma_max == pytest.approx(14.614642, abs=1e-6)


def test_levels_match_diffusers() -> None:
    """diffusers computes in single precision: 1 - alpha near 1 costs it five digits."""
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    theirs = np.sqrt((1 - scheduler.alphas_cumprod.numpy()) / scheduler.alphas_cumprod.numpy())
    assert np.allclose(LEVELS.sigmas, theirs, rtol=1e-4)


def test_levels_match_double_precision_numpy() -> None:
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    assert np.allclose(LEVELS.sigmas, np.sqrt((1 - alphas) / alphas), rtol=1e-12)


@given(timestep=st.floats(0.0, 999.0))
@settings(deadline=None)
def test_timestep_and_sigma_are_inverse(timestep: float) -> None:
    assert LEVELS.timestep(LEVELS.sigma(timestep)) == pytest.approx(timestep, abs=1e-6)


@pytest.mark.parametrize("timestep", [0, 1, 500, 998, 999])
def test_trained_levels_keep_their_timesteps(timestep: int) -> None:
    assert LEVELS.sigma(timestep) == LEVELS.sigmas[timestep]
    assert LEVELS.timestep(LEVELS.sigmas[timestep]) == pytest.approx(timestep, abs=1e-9)


def test_between_trained_levels_the_logarithm_is_linear() -> None:
    assert LEVELS.sigma(700.25) == pytest.approx(LEVELS.sigmas[700] ** 0.75 * LEVELS.sigmas[701] ** 0.25)


@pytest.mark.parametrize(("sigma", "timestep"), [(1e-9, 0.0), (0.02, 0.0), (14.7, 999.0), (1e6, 999.0)])
def test_levels_outside_the_training_get_the_nearest_end(sigma: float, timestep: float) -> None:
    assert LEVELS.timestep(sigma) == timestep


@pytest.mark.parametrize("sigmas", [(), (1.0,), (0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, math.nan)])
def test_levels_must_rise(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        TrainedSigmas(sigmas)


# Spacings


@pytest.mark.parametrize("steps", [int(steps) for steps in GOLDEN["schedules"]])
@pytest.mark.parametrize("label", list(GOLDEN["schedules"]["1"]))
def test_k_diffusion_gives_the_same_sigmas(label: str, steps: int) -> None:
    """Its linspace is single precision, hence 1e-6."""
    assert sigmas_for(label, PLAIN, LEVELS, steps) == pytest.approx(GOLDEN["schedules"][str(steps)][label], rel=2e-6)


PUBLISHED = [label for label in SCHEDULES if label.startswith("Align")]
"""Tables with ends of their own, 14.615 and 0.029 or 0.015."""


@given(
    label=st.sampled_from(sorted(SCHEDULES)), name=st.sampled_from(sorted(SAMPLERS.keys() - {"LCM"})), steps=st.integers(1, 150)
)
@settings(max_examples=600, deadline=None)
def test_every_schedule_falls_to_zero(label: str, name: str, steps: int) -> None:
    sampler = SAMPLERS[name]
    sigmas = sigmas_for(label, sampler, LEVELS, steps)
    assert all(above > below for above, below in pairwise(sigmas))
    if sampler.spacing is not None:
        assert sigmas[0] <= LEVELS.sigma_max * (1 + 1e-9)
        return
    if label in PUBLISHED:
        assert sigmas[0] == pytest.approx(14.615)
    elif label != "DDIM":
        assert sigmas[0] == pytest.approx(LEVELS.sigma_max)
    if label != "DDIM":  # which has more levels than asked for where 1000 is not divisible
        assert len(sigmas) == steps + 1
    if label == "KL Optimal":
        assert sigmas[-1] == pytest.approx(LEVELS.sigma_min)
    else:
        assert sigmas[-1] == 0.0
        assert sigmas[-2] >= (0.0149 if label in PUBLISHED else LEVELS.sigma_min * (1 - 1e-9))


@pytest.mark.parametrize("label", [label for label, schedule in SCHEDULES.items() if "sigma_min" in schedule.takes])
def test_the_ends_may_be_moved(label: str) -> None:
    sigmas = sigmas_for(label, PLAIN, LEVELS, 12, Tweaks(sigma_min=0.2, sigma_max=9.0))
    assert sigmas[0] == pytest.approx(9.0)
    lowest = sigmas[-1] if label == "KL Optimal" else sigmas[-2]
    assert lowest > 0.2 if label == "SGM Uniform" else lowest == pytest.approx(0.2)


@pytest.mark.parametrize("label", [label for label, schedule in SCHEDULES.items() if not schedule.takes and schedule.spacing])
def test_others_do_not_mind(label: str) -> None:
    tweaked = sigmas_for(label, PLAIN, LEVELS, 12, Tweaks(sigma_min=0.2, sigma_max=9.0, rho=3.0, alpha=1.0, beta=1.0))
    assert tweaked == sigmas_for(label, PLAIN, LEVELS, 12)


def test_comfyui_s_beta_is_spread_over_timesteps() -> None:
    """scipy.stats.beta.ppf(1 - i / 8, 0.6, 0.6) * 999, rounded, of ComfyUI's `beta_scheduler`."""
    timesteps = [999, 942, 823, 670, 500, 329, 176, 57]
    assert sigmas_for("Beta timesteps", PLAIN, LEVELS, 8) == [*(LEVELS.sigmas[t] for t in timesteps), 0.0]
    assert sigmas_for("Beta", PLAIN, LEVELS, 8)[4] > 2 * sigmas_for("Beta timesteps", PLAIN, LEVELS, 8)[4]


def test_comfyui_s_kl_optimal_ends_at_zero() -> None:
    high, low = math.atan(LEVELS.sigma_max), math.atan(LEVELS.sigma_min)
    expected = [math.tan(high + (low - high) * i / 4) for i in range(5)]
    assert sigmas_for("KL Optimal to zero", PLAIN, LEVELS, 5) == pytest.approx([*expected, 0.0])


def test_rho_and_the_shape_of_beta() -> None:
    fifth = [sigma ** (1 / 5) for sigma in sigmas_for("Karras", PLAIN, LEVELS, 9, Tweaks(rho=5.0))[:-1]]
    assert [a - b for a, b in pairwise(fifth)] == pytest.approx([fifth[0] - fifth[1]] * 8)
    even = sigmas_for("Beta", PLAIN, LEVELS, 9, Tweaks(alpha=1.0, beta=1.0))[:-1]
    assert [a - b for a, b in pairwise(even)] == pytest.approx([even[0] - even[1]] * 8)
    logs = [math.log(s / LEVELS.sigma_min) for s in sigmas_for("Polyexponential", PLAIN, LEVELS, 5, Tweaks(rho=2.0))[:-1]]
    assert [log / logs[0] for log in logs] == pytest.approx([1, 9 / 16, 1 / 4, 1 / 16, 0], abs=1e-9)


@given(p=st.floats(0.0, 0.999) | st.just(1.0), a=st.floats(0.05, 10.0), b=st.floats(0.05, 10.0))
@settings(max_examples=200, deadline=None)
def test_beta_quantiles_are_scipy_s(p: float, a: float, b: float) -> None:
    x = beta_quantile(p, a, b)
    assert 0.0 <= x <= 1.0
    expected = scipy.special.betaincinv(a, b, p)
    assume(not math.isnan(expected))  # SciPy has no answer for some p next to 0
    assert x == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("bad", [Tweaks(sigma_min=20.0), Tweaks(sigma_min=5.0, sigma_max=5.0)])
def test_ends_in_the_wrong_order_are_refused(bad: Tweaks) -> None:
    with pytest.raises(
        RequestError, match=r"schedule: Karras has no falling noise levels for 10 steps of plain from .* to .*; ask for"
    ):
        sigmas_for("Karras", PLAIN, LEVELS, 10, bad)


def test_any_schedule_may_leave_out_its_lowest_level() -> None:
    longer = sigmas_for("Exponential", PLAIN, LEVELS, 11)
    assert sigmas_for("Exponential", PLAIN, LEVELS, 10, discard_penultimate=True) == [*longer[:-2], 0.0]


def test_sdxl_has_tables_of_its_own() -> None:
    assert sigmas_for("Align Your Steps", PLAIN, LEVELS, 11, Tweaks(xl=True))[1] == pytest.approx(6.315)
    assert sigmas_for("Align Your Steps", PLAIN, LEVELS, 11)[1] == pytest.approx(6.475)


def test_zero_terminal_snr_matches_diffusers() -> None:
    betas = (
        EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True)
        .alphas_cumprod.double()
        .numpy()
    )
    ours = 1 / (1 + np.square(LEVELS.zero_terminal_snr().sigmas))
    assert np.allclose(ours[:-1], betas[:-1], rtol=1e-3, atol=1e-7)
    assert ours[-1] == pytest.approx(4.8973451890853435e-08)


def test_lcm_knows_every_twentieth_level() -> None:
    sigmas = sigmas_for("Automatic", SAMPLERS["LCM"], LEVELS, 8)
    assert [LEVELS.timestep(sigma) for sigma in sigmas[:-1]] == pytest.approx([999, 859, 719, 579, 439, 299, 159, 19])


def test_more_steps_than_levels_are_refused() -> None:
    with pytest.raises(RequestError, match="schedule: Simple has no falling noise levels for 60 steps of LCM"):
        sigmas_for("Simple", SAMPLERS["LCM"], LEVELS, 60)


@pytest.mark.parametrize(
    ("steps", "strength", "exactly", "expected"),
    [
        (20, 0.75, False, (20, 15)),
        (20, 1.0, False, (20, 19)),
        (20, 0.0, False, (20, 0)),
        (30, 0.5, False, (30, 15)),
        (20, 0.75, True, (26, 19)),
        (20, 1.0, True, (20, 19)),
        (20, 0.0, True, (0, 19)),
        (10, 0.3, True, (33, 9)),
        (1, 0.5, False, (1, 0)),
    ],
)
def test_img2img_steps_are_a1111_s(steps: int, strength: float, exactly: bool, expected: tuple[int, int]) -> None:
    assert img2img_steps(steps, strength, exactly) == expected


def test_img2img_runs_one_step_more_than_t_enc() -> None:
    total, t_enc = img2img_steps(20, 0.75)
    sigmas = sigmas_for("Karras", PLAIN, LEVELS, total)
    assert img2img_sigmas(sigmas, total, t_enc) == sigmas[4:]
    assert len(img2img_sigmas(sigmas, total, t_enc)) - 1 == 16


def test_img2img_on_timesteps_begins_below_the_level_of_its_noise() -> None:
    """A1111: timesteps 1, 51, ... 951; strength 0.75 noises to 751 and runs 701 down to 1."""
    levels = sigmas_for("Automatic", SAMPLERS["DDIM"], LEVELS, 20)
    noised, run = img2img_timesteps(levels, 15)
    assert LEVELS.sigmas.index(noised) == 751
    assert [LEVELS.sigmas.index(sigma) for sigma in run] == list(range(701, 0, -50))


@pytest.mark.parametrize("label", ["Uniform", "Karras", "Exponential", "Normal"])
def test_these_end_at_the_lowest_trained_level(label: str) -> None:
    assert sigmas_for(label, PLAIN, LEVELS, 12)[-2] == pytest.approx(LEVELS.sigma_min)


def test_karras_is_linear_in_the_seventh_root() -> None:
    roots = [sigma ** (1 / 7) for sigma in sigmas_for("Karras", PLAIN, LEVELS, 9)[:-1]]
    gaps = [above - below for above, below in pairwise(roots)]
    assert gaps == pytest.approx([gaps[0]] * 8)


def test_exponential_falls_by_a_constant_factor() -> None:
    sigmas = sigmas_for("Exponential", PLAIN, LEVELS, 9)[:-1]
    factors = [below / above for above, below in pairwise(sigmas)]
    assert factors == pytest.approx([factors[0]] * 8)


def test_sgm_uniform_is_uniform_without_its_lowest_level() -> None:
    assert sigmas_for("SGM Uniform", PLAIN, LEVELS, 9)[:-1] == sigmas_for("Uniform", PLAIN, LEVELS, 10)[:-2]


def test_simple_takes_trained_levels_only() -> None:
    sigmas = sigmas_for("Simple", PLAIN, LEVELS, 7)
    timesteps = [LEVELS.sigmas.index(sigma) for sigma in sigmas[:-1]]
    assert timesteps == [999, 857, 714, 571, 428, 285, 142]


@pytest.mark.parametrize("steps", [2, 3, 7, 20, 30, 33, 150])
def test_ddim_follows_a1111_s_timesteps(steps: int) -> None:
    sigmas = sigmas_for("Karras", SAMPLERS["DDIM"], LEVELS, steps)
    timesteps = np.clip(np.arange(0, 1000, 1000 // steps) + 1, 0, 999)
    assert sigmas == [LEVELS.sigmas[t] for t in timesteps[::-1]]


def test_ddim_with_one_step_still_denoises() -> None:
    assert sigmas_for("Karras", SAMPLERS["DDIM"], LEVELS, 1) == [LEVELS.sigmas[999], LEVELS.sigmas[1]]


def test_discarding_the_penultimate_level() -> None:
    """A1111's DPM2: one step more, and the last but one is dropped."""
    sampler = Sampler("discards", euler, (), discards_penultimate=True)
    longer = sigmas_for("Karras", PLAIN, LEVELS, 11)
    assert sigmas_for("Karras", sampler, LEVELS, 10) == [*longer[:-2], 0.0]


# Names


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [
        ("Euler", "Uniform"),
        ("Euler a", "Uniform"),
        ("Heun", "Uniform"),
        ("DPM++ 2M", "Karras"),
        ("DPM++ 2M SDE", "Exponential"),
    ],
)
def test_automatic_is_the_sampler_s_default(sampler: str, schedule: str) -> None:
    assert resolve_schedule("automatic", SAMPLERS[sampler]) == schedule
    assert sigmas_for("Automatic", SAMPLERS[sampler], LEVELS, 8) == sigmas_for(schedule, PLAIN, LEVELS, 8)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.spacing is not None])
def test_samplers_with_levels_of_their_own_say_so(name: str) -> None:
    """No record names a schedule that made no difference."""
    assert resolve_schedule("Karras", SAMPLERS[name]) == "Automatic"
    assert sigmas_for("Karras", SAMPLERS[name], LEVELS, 7) == sigmas_for("Automatic", SAMPLERS[name], LEVELS, 7)


def test_defaults_are_schedules() -> None:
    assert all(sampler.default_schedule in {"", *SCHEDULES} for sampler in SAMPLERS.values())


@pytest.mark.parametrize(
    ("asked", "label"),
    [("Karras", "Karras"), ("karras", "Karras"), (" KARRAS ", "Karras"), ("SGMUniform", "SGM Uniform")]
    + [(schedule.name, label) for label, schedule in SCHEDULES.items()],
)
def test_labels_names_and_aliases_in_any_case(asked: str, label: str) -> None:
    assert find_schedule(asked).label == label


@pytest.mark.parametrize("asked", ["", "Karas", "Uniform Karras"])
def test_unknown_schedules_are_refused_with_the_known_ones(asked: str) -> None:
    with pytest.raises(UnknownName, match=r"schedule .* Known: .*Automatic, .*Karras"):
        sigmas_for(asked, PLAIN, LEVELS, 5)


def test_misspelt_schedule_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="did you mean 'Karras'"):
        find_schedule("Karas")


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps: int) -> None:
    with pytest.raises(RequestError, match=f"at least 1 is needed, {steps} was given"):
        sigmas_for("Karras", SAMPLERS["DDIM"], LEVELS, steps)
