"""Samplers against closed forms, against k-diffusion's numbers and against diffusers' schedulers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modules.diffusion.noise import Noise
from modules.diffusion.samplers import SAMPLERS, Sampler, ancestral_step, find_sampler
from modules.diffusion.samplers.dpmpp import dpmpp_2m, dpmpp_2m_sde
from modules.diffusion.samplers.euler import euler, euler_ancestral
from modules.diffusion.samplers.heun import restart_plan
from modules.diffusion.schedules import TrainedSigmas, sigmas_for
from modules.errors import UnknownName
from tests.diffusion.toy import Counting, correlated, curved, paired, run

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text())
LEVELS = TrainedSigmas.scaled_linear()
SD1_TRAINING = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

# numpy 2 warns about how diffusers turns a tensor into an array
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic]
STOCHASTIC = [name for name, sampler in SAMPLERS.items() if sampler.stochastic]
NO_SDE = ("LCM", "Restart", "DPM adaptive")
"""They add noise, but do not step along the reverse SDE with steps of a given length."""


def falling(high: float, low: float, steps: int) -> list[float]:
    """Spread like Karras', so that neither sigma nor log sigma falls evenly and every ratio of steps matters."""
    return [(high ** (1 / 7) + (low ** (1 / 7) - high ** (1 / 7)) * i / steps) ** 7 for i in range(steps + 1)]


def no_noise() -> Noise:
    return Noise(0, (1,))


def even(high: float, low: float, steps: int) -> list[float]:
    return [high + (low - high) * i / steps for i in range(steps + 1)]


ON_EVEN_STEPS = {"PLMS": 3.0, "IPNDM": 3.0}
"""Their weights are those of even steps; on others they are second order."""

ERRORS = {1: 0.004, 2: 3.3e-5, 3: 2e-8}
"""What 323 steps may leave, by order."""
CLOSER = {"UniPC": 6e-6, "LMS": 1e-6, "PLMS": 2e-7, "IPNDM": 3e-7, "IPNDM_V": 2.2e-5, "DEIS": 1e-6, "DPM fast": 6e-7}
CLOSER |= {"DPM++ 3M SDE": 6e-6, "SA-Solver": 1e-8, "SA-Solver PECE": 5e-9, "UniPC bh2": 6e-6}
"""Multistep samplers and UniPC start with low orders, so their order is two, but their error is that of their further steps."""

QUIET = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic or "eta" in sampler.takes]
"""Those that solve the ODE, at least where they add no noise."""


def global_error(sampler: Sampler, steps: int) -> float:
    """Distance to the exact solution of the ODE from sigma 10 in the Gaussian world."""
    world = correlated()
    low = 1.0 if sampler.name in ON_EVEN_STEPS else 0.1
    levels = (even if sampler.name in ON_EVEN_STEPS else falling)(10.0, low, steps)
    x = torch.tensor([[6.0, -8.0, 3.0], [-2.0, 9.0, -11.0]], dtype=torch.float64)
    result = run(sampler.sample(x, levels, no_noise(), **sampler.options(eta=0.0)), paired(sampler, world.denoise))
    if sampler.unit_start:  # A1111's samplers on timesteps hand back the variance-preserving form
        result = result * math.hypot(1.0, low)
    return float((result - world.flow(x, 10.0, low)).abs().max())


@pytest.mark.parametrize("name", [name for name in QUIET if not SAMPLERS[name].adaptive])
def test_order_of_accuracy(name: str) -> None:
    """Twice the steps make the error 2^order times smaller.  A wrong coefficient leaves order 0 or 1."""
    sampler = SAMPLERS[name]
    order = ON_EVEN_STEPS.get(name, sampler.order)
    coarse, fine = (global_error(sampler, steps) for steps in (161, 323))
    if name in CLOSER:
        assert math.log2(coarse / fine) > min(order, 2) - 0.3
        assert fine < CLOSER[name]
    else:
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.03)
        assert fine < ERRORS[sampler.order]


@pytest.mark.parametrize(("rtol", "evaluations"), [(0.05, 45), (0.0005, 150)])
def test_adaptive_steps_keep_the_error_near_the_tolerance(rtol: float, evaluations: int) -> None:
    world, sampler = correlated(), SAMPLERS["DPM adaptive"]
    x = torch.tensor([[6.0, -8.0, 3.0], [-2.0, 9.0, -11.0]], dtype=torch.float64)
    denoise = Counting(world.denoise)
    options: dict[str, float] = {"eta": 0.0, "rtol": rtol, "atol": rtol / 6}
    result = run(sampler.sample(x, [10.0, 0.1], no_noise(), **options), denoise)
    assert float((result - world.flow(x, 10.0, 0.1)).abs().max()) < rtol
    assert len(denoise.sigmas) < evaluations


def test_sde_solver_without_noise_is_the_ode_sampler() -> None:
    x = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    sigmas = [*falling(10.0, 0.05, 9), 0.0]
    still = run(dpmpp_2m_sde(x, sigmas, no_noise(), eta=0.0), curved)
    assert torch.allclose(still, run(dpmpp_2m(x, sigmas, no_noise()), curved), atol=1e-12)


def test_ancestral_euler_without_noise_is_euler() -> None:
    x = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    sigmas = [*falling(10.0, 0.05, 9), 0.0]
    still = run(euler_ancestral(x, sigmas, no_noise(), eta=0.0), curved)
    assert torch.allclose(still, run(euler(x, sigmas, no_noise()), curved), atol=1e-12)


class BasisNoise:
    """Instead of random numbers, draw k is the k-th group of unit vectors in a space with one dimension per draw.

    In the Gaussian world everything is linear, so x is a matrix M times all draws, and M M^T is the samples' exact covariance.
    """

    def __init__(self, draws: int, dimensions: int) -> None:
        self.shape = (draws, dimensions, dimensions)
        self.drawn = 0
        self.asked: dict[float, tuple[float, Tensor]] = {}

    def __call__(self) -> Tensor:
        draw = torch.zeros(self.shape, dtype=torch.float64)
        draw[self.drawn] = torch.eye(self.shape[1])
        self.drawn += 1
        return draw.flatten(0, 1)

    def brownian(self, sigmas: list[float], asks: object = ()) -> BasisNoise:
        return self

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """An interval whose first part was asked before consists of that part and something new, as on a real path."""
        if sigma not in self.asked:
            self.asked[sigma] = sigma_next, self()
            return self.asked[sigma][1]
        middle, first = self.asked[sigma]
        both = first * math.sqrt(sigma - middle) + self() * math.sqrt(middle - sigma_next)
        return both / math.sqrt(sigma - sigma_next)


def covariance_error(sampler: Sampler, steps: int, end: float = 0.1) -> float:
    """Of the samples' exact covariance, from perfect starts at sigma 20 to `end`."""
    world, identity = correlated(), torch.eye(3, dtype=torch.float64)
    world.mean = torch.zeros(3, dtype=torch.float64)
    noise: Any = BasisNoise(3 * steps + 1, 3)
    start = noise() @ torch.linalg.cholesky(world.covariance + 20.0**2 * identity).T
    levels = falling(20.0, end, steps) if end > 0 else [*falling(20.0, 0.02, steps - 1), 0.0]
    result = run(sampler.sample(start, levels, noise), paired(sampler, world.denoise))
    return float((result.T @ result - world.covariance - end**2 * identity).abs().max())


COVARIANCE = {"DPM fast": (1.3, 1e-4), "ER SDE": (1.5, 4e-4), "SEEDS 3": (1.8, 1.2e-4), "SA-Solver": (1.9, 2.2e-4)}
COVARIANCE |= {"DPM++ SDE": (1.9, 3e-4), "DPM++ 3M SDE": (1.9, 6e-4), "SA-Solver PECE": (1.9, 2.2e-4)}
"""Rate and error of those whose noise is of lower order than their steps, or whose steps at the start are."""


@pytest.mark.parametrize("name", [name for name in STOCHASTIC if name not in NO_SDE])
def test_order_of_the_covariance(name: str) -> None:
    """The stochastic twin of the order test: as exact, no luck involved.  A wrong amount of noise leaves order 0."""
    sampler = SAMPLERS[name]
    coarse, fine = (covariance_error(sampler, steps) for steps in (81, 162))
    rate, error = COVARIANCE.get(name, {1: (0.94, 0.06), 2: (1.94, 1.7e-3)}.get(sampler.order, (sampler.order, 0.0)))
    assert math.log2(coarse / fine) > rate
    assert fine < error


def test_restart_climbs_back_without_leaving_the_distribution() -> None:
    """Its plan is walked twice in places, and the noise that leads back up is what the levels say."""
    few, many = (covariance_error(SAMPLERS["Restart"], steps, end=0.0) for steps in (36, 144))
    assert few < 0.06
    assert many < 0.01


@pytest.mark.parametrize(("steps", "again", "times"), [(19, 0, 0), (20, 9, 1), (35, 9, 1), (36, 9, 2), (60, 15, 2)])
def test_restart_plans_as_a1111(steps: int, again: int, times: int) -> None:
    sigmas = sigmas_for("Karras", SAMPLERS["Restart"], LEVELS, steps)
    plan = restart_plan(sigmas)
    climbs = [i for i, (before, after) in enumerate(pairwise(plan), 1) if after[0] > before[1]]
    assert (len(plan), len(climbs)) == (steps, times)
    assert (plan[0][0], plan[-1][1]) == (sigmas[0], 0.0)
    for first in climbs:
        loop = plan[first : first + again]
        assert loop[0][0] == pytest.approx(2.0, rel=0.35)
        assert loop[-1][1] == plan[first - 1][1] == pytest.approx(0.1, rel=0.35)


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [("Euler a", 300, 0.08), ("DPM++ 2M SDE", 30, 0.06), ("DPM++ SDE", 30, 0.06), ("SEEDS 3", 20, 0.06), ("Restart", 36, 0.06)],
)
def test_samples_have_the_mean_and_covariance_of_the_data(name: str, steps: int, tolerance: float) -> None:
    """With real draws: 8,000 samples against the data, relative to the largest variance.

    A variance of 8,000 samples has a relative standard error of 1.6 %; the rest of the tolerance is the first-order bias.
    """
    world, samples = correlated(), 8_000
    noise = Noise(7, (samples, 3))
    sigmas = [*falling(20.0, 0.02, steps), 0.0]
    start = world.mean + noise().double() * sigmas[0]
    result = run(SAMPLERS[name].sample(start, sigmas, noise), world.denoise)
    scale = float(world.covariance.diagonal().max())
    assert torch.allclose(result.mean(dim=0), world.mean, atol=0.05 * math.sqrt(scale))
    assert torch.allclose(result.T.cov(), world.covariance, atol=tolerance * scale)


ENDS_AT_ZERO = [name for name, sampler in SAMPLERS.items() if sampler.spacing is None]


@pytest.mark.parametrize("name", [name for name in STOCHASTIC if name in ENDS_AT_ZERO])
def test_noise_does_not_stay_in_the_picture(name: str) -> None:
    """Where the data is a single point, every sampler ends exactly there."""
    sampler, shape = SAMPLERS[name], (4, 8, 8)
    point = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    noise = Noise(3, shape)
    sigmas = sigmas_for("Karras", sampler, LEVELS, 21)
    result = run(sampler.sample(noise() * sigmas[0], sigmas, noise), paired(sampler, lambda x, sigma: point))
    assert torch.allclose(result, point, atol=1e-5)


@pytest.mark.parametrize("name", GOLDEN["samples"])
def test_k_diffusion_gives_the_same_numbers(name: str) -> None:
    """Same seed, same schedule, same toy network as `tests/golden/make_sampling.py`; a latent's values are around 1."""
    noise = Noise(GOLDEN["seed"], GOLDEN["shape"])
    sigmas = GOLDEN["sigmas"]
    result = run(SAMPLERS[name].sample(noise() * sigmas[0], sigmas, noise), curved)
    expected = torch.tensor(GOLDEN["samples"][name]).reshape(GOLDEN["shape"])
    assert torch.allclose(result, expected, atol=2e-5, rtol=2e-5)


# diffusers' schedulers, with an eps network that is a fixed function of its scaled input


def eps_network(scaled: Tensor) -> Tensor:
    return 0.6 * scaled + 0.3 * torch.tanh(2 * scaled)


def eps_denoise(x: Tensor, sigma: float) -> Tensor:
    return x - sigma * eps_network(x / math.hypot(1.0, sigma))


def drive(scheduler: Any, x: Tensor, steps: int) -> list[Tensor]:
    """What diffusers' pipelines do; the state after each step."""
    states = []
    for timestep in scheduler.timesteps[:steps]:
        scaled = scheduler.scale_model_input(x, timestep)
        x = scheduler.step(eps_network(scaled), timestep, x).prev_sample
        states.append(x)
    return states


def test_ten_euler_steps_match_diffusers() -> None:
    scheduler = EulerDiscreteScheduler(**SD1_TRAINING, timestep_spacing="linspace")
    scheduler.set_timesteps(10)
    start = Noise(11, (4, 8, 8))()
    expected = drive(scheduler, start * scheduler.init_noise_sigma, 10)[-1]

    sigmas = sigmas_for("Uniform", SAMPLERS["Euler"], LEVELS, 10)
    ours = run(euler(start * sigmas[0], sigmas, no_noise()), eps_denoise)
    assert torch.allclose(ours, expected, atol=1e-4)


def test_dpmpp_2m_karras_matches_diffusers() -> None:
    """diffusers keeps x / sqrt(1 + sigma^2); at sigma 0 the two forms meet.  Its sigmas are single precision."""
    scheduler = DPMSolverMultistepScheduler(**SD1_TRAINING, use_karras_sigmas=True, final_sigmas_type="zero")
    scheduler.set_timesteps(20)
    start = Noise(12, (4, 8, 8))()
    sigmas = sigmas_for("Karras", SAMPLERS["DPM++ 2M"], LEVELS, 20)
    x = start * sigmas[0]
    expected = drive(scheduler, x / math.hypot(1.0, sigmas[0]), 20)[-1]
    ours = run(dpmpp_2m(x, sigmas, no_noise()), eps_denoise)
    assert torch.allclose(ours, expected, atol=5e-4)


@pytest.mark.parametrize("steps", [2, 5, 20, 50])
def test_ddim_matches_diffusers_up_to_timestep_one(steps: int) -> None:
    """diffusers with "leading" spacing and offset 1 has A1111's timesteps, and takes one step more, from timestep 1."""
    scheduler = DDIMScheduler(
        **SD1_TRAINING, timestep_spacing="leading", steps_offset=1, clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(steps)
    noise = Noise(13, (4, 8, 8))
    start = noise()
    expected = drive(scheduler, start, steps)[-2]

    sampler = SAMPLERS["DDIM"]
    sigmas = sigmas_for("Automatic", sampler, LEVELS, steps)
    denoise = Counting(eps_denoise)
    ours = run(sampler.sample(start * sampler.start_scale(sigmas[0]), sigmas, noise), denoise)
    assert [round(LEVELS.timestep(sigma)) for sigma in denoise.sigmas] == scheduler.timesteps[:-1].tolist()
    assert torch.allclose(ours, expected, atol=2e-5)


# The table


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if not sampler.adaptive])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 21])
@pytest.mark.parametrize("schedule", ["Karras", "KL Optimal"])
def test_evaluations_are_as_many_as_the_table_says(name: str, steps: int, schedule: str) -> None:
    sampler = SAMPLERS[name]
    sigmas = sigmas_for(schedule, sampler, LEVELS, steps)
    if name == "Restart" and steps >= 20:
        sigmas = [*sigmas[:-1], 0.0]  # from there on its plan ends at 0, whatever the schedule
    denoise = Counting(curved)
    noise = Noise(0, (4, 4, 4))
    run(sampler.sample(noise() * sigmas[0], sigmas, noise), paired(sampler, denoise))
    ends = sampler.step_ends(len(sigmas) - 1, sigmas[-1] == 0)
    assert len(denoise.sigmas) == ends[-1]
    assert len(ends) == len(sigmas) - 1
    assert ends == sorted(set(ends))


@pytest.mark.parametrize("name", ENDS_AT_ZERO)
def test_one_step_gives_the_network_s_own_answer(name: str) -> None:
    sampler = SAMPLERS[name]
    noise = Noise(5, (4, 8, 8))
    x = noise() * 14.6
    result = run(sampler.sample(x, [14.6, 0.0], noise), paired(sampler, curved))
    assert torch.allclose(result, curved(x, 14.6), atol=2e-5)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_give_finite_pictures(name: str, steps: int) -> None:
    sampler = SAMPLERS[name]
    sigmas = sigmas_for("Automatic", sampler, LEVELS, steps)
    noise = Noise(5, (4, 8, 8))
    x = noise() * sampler.start_scale(sigmas[0])
    result = run(sampler.sample(x, sigmas, noise), paired(sampler, lambda x, sigma: x / (1 + sigma**2)))
    assert result.isfinite().all()
    assert float(result.std()) < 11, "not more than the noise that it began with"


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_change_neither_input_nor_answers(name: str) -> None:
    """The engine hands out views of shared tensors."""
    sampler, noise = SAMPLERS[name], Noise(5, (4, 4, 4))
    x = noise() * 10
    seen: list[tuple[Tensor, Tensor]] = [(x, x.clone())]

    def denoise(x: Tensor, sigma: float) -> Tensor:
        answer = curved(x, sigma)
        seen.extend([(x, x.clone()), (answer, answer.clone())])
        return answer

    run(sampler.sample(x, [10.0, 3.0, 1.0, 0.3, 0.0], noise), paired(sampler, denoise))
    assert all(torch.equal(kept, copy) for kept, copy in seen)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if "s_churn" in sampler.takes])
def test_churn_adds_noise_between_its_levels_only(name: str) -> None:
    sampler, sigmas = SAMPLERS[name], [10.0, 3.0, 1.0, 0.3, 0.0]
    x = Noise(5, (4, 4, 4))() * 10

    def result(**options: float) -> Tensor:
        return run(sampler.sample(x, sigmas, Noise(6, (4, 4, 4)), **sampler.options(**options)), curved)

    assert torch.equal(result(), result(s_churn=2.0, s_tmin=20.0))
    assert torch.equal(result(), result(s_churn=2.0, s_tmax=0.1))
    assert torch.equal(result(s_churn=2.0), result(s_churn=2.0, s_tmax=50.0))
    changed = [result(s_churn=2.0), result(s_churn=2.0, s_tmin=2.0), result(s_churn=2.0, s_noise=1.5), result()]
    assert all(not torch.equal(one, other) for i, one in enumerate(changed) for other in changed[:i])


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if "eta" in sampler.takes])
def test_eta_is_the_amount_of_noise(name: str) -> None:
    sampler = SAMPLERS[name]
    sigmas = sigmas_for("Karras", sampler, LEVELS, 6)
    x = Noise(5, (4, 4, 4))() * sampler.start_scale(sigmas[0])

    def result(seed: int, eta: float | None = None) -> Tensor:
        program = sampler.sample(x, sigmas, Noise(seed, (4, 4, 4)), **sampler.options(eta=eta))
        return run(program, paired(sampler, curved))

    assert torch.equal(result(1), result(1, sampler.eta))
    assert torch.equal(result(1, 0.0), result(2, 0.0)), "without eta no noise"
    assert not torch.equal(result(1, 0.5), result(2, 0.5))
    assert not torch.equal(result(1, 0.5), result(1, 1.0))


def test_what_a_sampler_does_not_take_is_left_out() -> None:
    assert SAMPLERS["DPM++ 2M"].options(eta=0.3, s_churn=1.0) == {}
    assert SAMPLERS["Euler a"].options(eta=0.3, s_churn=1.0) == {"eta": 0.3, "s_noise": 1.0}
    assert SAMPLERS["Euler"].options(s_tmax=0.0)["s_tmax"] == math.inf


@given(sigma=st.floats(1e-3, 100.0), ratio=st.floats(0.0, 1.0, exclude_max=True), eta=st.floats(0.0, 1.0))
@settings(max_examples=300, deadline=None)
def test_ancestral_step_keeps_the_variance(sigma: float, ratio: float, eta: float) -> None:
    sigma_next = sigma * ratio
    down, up = ancestral_step(sigma, sigma_next, eta)
    assert 0 <= up <= sigma_next
    assert 0 <= down <= sigma
    assert math.hypot(down, up) == pytest.approx(sigma_next, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("asked", "sampler", "schedule"),
    [
        ("DPM++ 2M", "DPM++ 2M", ""),
        ("dpm++ 2m", "DPM++ 2M", ""),
        ("  Euler   A ", "Euler a", ""),
        ("k_euler_ancestral", "Euler a", ""),
        ("ddim", "DDIM", ""),
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("DPM++ 2M SDE Karras", "DPM++ 2M SDE", "Karras"),
        ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE", "Exponential"),
        ("euler sgm uniform", "Euler", "SGM Uniform"),
        ("Euler a sgm_uniform", "Euler a", "SGM Uniform"),
        ("DPM++ 2S a Karras", "DPM++ 2S a", "Karras"),
        ("DPM++ 3M SDE Exponential", "DPM++ 3M SDE", "Exponential"),
        ("DPM2 a Karras", "DPM2 a", "Karras"),
        ("LMS Karras", "LMS", "Karras"),
        ("k_dpm_2_a_ka", "DPM2 a", "Karras"),
        ("uni_pc", "UniPC", ""),
        ("euler_ancestral_cfg_pp", "Euler a CFG++", ""),
        ("ipndm_v", "IPNDM_V", ""),
        ("k_dpmpp_2m_ka", "DPM++ 2M", "Karras"),
        ("k_dpmpp_2m_sde_exp", "DPM++ 2M SDE", "Exponential"),
    ],
)
def test_names_people_use(asked: str, sampler: str, schedule: str) -> None:
    found, found_schedule = find_sampler(asked)
    assert (found.name, found_schedule) == (sampler, schedule)


@pytest.mark.parametrize("asked", ["", "Karras", "DPM++ 2M Foo", "DPM++ 9M Karras", "Euler a_exp"])
def test_unknown_samplers_are_refused_with_the_known_ones(asked: str) -> None:
    with pytest.raises(UnknownName, match=r"sampler .* Known: .*Euler a"):
        find_sampler(asked)


def test_the_names_are_a1111_s_then_forge_s() -> None:
    """In A1111's order, which its users know by heart."""
    expected = (
        "DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler, LMS, Heun, DPM2, "
    )
    expected += (
        "DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM, HeunPP2, IPNDM, IPNDM_V, DEIS, DDPM"
    )
    assert list(SAMPLERS)[:25] == expected.split(", ")


def test_flags_are_a1111_s() -> None:
    assert {s.name for s in SAMPLERS.values() if s.discards_penultimate} == {"DPM2", "DPM2 a", "DPM++ 3M SDE", "UniPC bh2"}
    doubled = {s.name for s in list(SAMPLERS.values())[:20] if s.prompt_steps(10) == 20}
    assert doubled == {"DPM++ SDE", "DPM++ 2S a", "Heun", "DPM2", "DPM2 a", "Restart"}
    assert {s.name for s in SAMPLERS.values() if s.brownian} == {
        n for n in SAMPLERS if n.endswith(("SDE", "SDE Heun")) and n != "ER SDE"
    }
    karras = {"DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"}
    assert {s.name for s in SAMPLERS.values() if s.default_schedule == "Karras"} == karras
    exponential = {"DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"}
    assert {s.name for s in SAMPLERS.values() if s.default_schedule == "Exponential"} == exponential


def test_names_and_aliases_are_unique() -> None:
    names = [name.casefold() for s in SAMPLERS.values() for name in {s.name.casefold(), *map(str.casefold, s.aliases)}]
    assert len(names) == len(set(names))


def test_the_tables_load_without_torch_and_numpy() -> None:
    code = (
        "import sys, modules.diffusion.samplers, modules.diffusion.schedules;"
        "sys.exit(str({'torch', 'numpy'} & set(sys.modules)) if {'torch', 'numpy'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
