"""Solvers against closed forms, against k-diffusion's numbers and against diffusers' schedulers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modules.diffusion.noise import Noise
from modules.diffusion.samplers import (
    SAMPLERS,
    Solve,
    ancestral_step,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    find_sampler,
)
from modules.diffusion.schedules import NoiseLevels, sigmas_for
from modules.errors import UnknownName
from tests.diffusion.toy import Counting, correlated, curved, run

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text())
LEVELS = NoiseLevels.scaled_linear()
SD1_TRAINING = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

# numpy 2 warns about how diffusers turns a tensor into an array
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic]
STOCHASTIC = [name for name, sampler in SAMPLERS.items() if sampler.stochastic]


def falling(high: float, low: float, steps: int) -> list[float]:
    """Spread like Karras', so that neither sigma nor log sigma falls evenly and every ratio of steps matters."""
    return [(high ** (1 / 7) + (low ** (1 / 7) - high ** (1 / 7)) * i / steps) ** 7 for i in range(steps + 1)]


def no_noise() -> Noise:
    return Noise(0, (1,))


def global_error(solve: Solve, steps: int, unscale: bool) -> float:
    """Distance to the exact solution of the ODE from sigma 10 to 0.1 in the Gaussian world."""
    world = correlated()
    x = torch.tensor([[6.0, -8.0, 3.0], [-2.0, 9.0, -11.0]], dtype=torch.float64)
    result = run(solve(x, falling(10.0, 0.1, steps), no_noise()), world.denoise)
    if unscale:  # DDIM hands back the variance-preserving form
        result = result * math.hypot(1.0, 0.1)
    return float((result - world.flow(x, 10.0, 0.1)).abs().max())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_of_accuracy(name: str) -> None:
    """Twice the steps make the error 2^order times smaller.  A wrong coefficient leaves order 0 or 1."""
    sampler = SAMPLERS[name]
    coarse, fine = (global_error(sampler.solve, steps, sampler.unit_start) for steps in (160, 320))
    assert math.log2(coarse / fine) == pytest.approx(sampler.order, abs=0.02)
    assert fine < {1: 0.004, 2: 3e-5}[sampler.order]


def test_sde_solver_without_noise_is_the_ode_solver() -> None:
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

    def __call__(self) -> Tensor:
        draw = torch.zeros(self.shape, dtype=torch.float64)
        draw[self.drawn] = torch.eye(self.shape[1])
        self.drawn += 1
        return draw.flatten(0, 1)

    def brownian(self, sigmas: list[float]) -> BasisNoise:
        return self

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        return self()


def covariance_error(solve: Solve, steps: int) -> float:
    """Of the samples' exact covariance, from perfect starts at sigma 20 to sigma 0.1."""
    world, identity = correlated(), torch.eye(3, dtype=torch.float64)
    world.mean = torch.zeros(3, dtype=torch.float64)
    noise: Any = BasisNoise(steps + 1, 3)
    start = noise() @ torch.linalg.cholesky(world.covariance + 20.0**2 * identity).T
    result = run(solve(start, falling(20.0, 0.1, steps), noise), world.denoise)
    return float((result.T @ result - world.covariance - 0.1**2 * identity).abs().max())


@pytest.mark.parametrize("name", STOCHASTIC)
def test_order_of_the_covariance(name: str) -> None:
    """The stochastic twin of the order test: as exact, no luck involved.  A wrong amount of noise leaves order 0."""
    sampler = SAMPLERS[name]
    coarse, fine = (covariance_error(sampler.solve, steps) for steps in (80, 160))
    assert math.log2(coarse / fine) == pytest.approx(sampler.order, abs=0.06)
    assert fine < {1: 0.06, 2: 1.2e-3}[sampler.order]


@pytest.mark.parametrize(("name", "steps", "tolerance"), [("Euler a", 300, 0.08), ("DPM++ 2M SDE", 30, 0.06)])
def test_samples_have_the_mean_and_covariance_of_the_data(name: str, steps: int, tolerance: float) -> None:
    """With real draws: 8,000 samples against the data, relative to the largest variance.

    A variance of 8,000 samples has a relative standard error of 1.6 %; the rest of the tolerance is the first-order bias.
    """
    world, samples = correlated(), 8_000
    noise = Noise(7, (samples, 3))
    sigmas = [*falling(20.0, 0.02, steps), 0.0]
    start = world.mean + noise().double() * sigmas[0]
    result = run(SAMPLERS[name].solve(start, sigmas, noise), world.denoise)
    scale = float(world.covariance.diagonal().max())
    assert torch.allclose(result.mean(dim=0), world.mean, atol=0.05 * math.sqrt(scale))
    assert torch.allclose(result.T.cov(), world.covariance, atol=tolerance * scale)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_does_not_stay_in_the_picture(name: str) -> None:
    """Where the data is a single point, every sampler ends exactly there."""
    shape = (4, 8, 8)
    point = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    noise = Noise(3, shape)
    sigmas = sigmas_for("Karras", SAMPLERS[name], LEVELS, 10)
    result = run(SAMPLERS[name].solve(noise() * sigmas[0], sigmas, noise), lambda x, sigma: point)
    assert torch.allclose(result, point, atol=1e-5)


@pytest.mark.parametrize("name", GOLDEN["samples"])
def test_k_diffusion_gives_the_same_numbers(name: str) -> None:
    """Same seed, same schedule, same toy network as `tests/golden/make_sampling.py`; a latent's values are around 1."""
    noise = Noise(GOLDEN["seed"], GOLDEN["shape"])
    sigmas = GOLDEN["sigmas"]
    result = run(SAMPLERS[name].solve(noise() * sigmas[0], sigmas, noise), curved)
    expected = torch.tensor(GOLDEN["samples"][name]).reshape(GOLDEN["shape"])
    assert torch.allclose(result, expected, atol=2e-5, rtol=2e-5)


def test_every_classic_sampler_is_pinned() -> None:
    """DDIM is not in k-diffusion; diffusers stands in below."""
    assert set(SAMPLERS) - set(GOLDEN["samples"]) <= {"DDIM"}


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
    ours = run(sampler.solve(start * sampler.start_scale(sigmas[0]), sigmas, noise), denoise)
    assert [round(LEVELS.timestep(sigma)) for sigma in denoise.sigmas] == scheduler.timesteps[:-1].tolist()
    assert torch.allclose(ours, expected, atol=2e-5)


# The table


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_evaluations_are_as_many_as_the_table_says(name: str, steps: int) -> None:
    sampler = SAMPLERS[name]
    sigmas = [*falling(10.0, 0.1, steps - 1)[:steps], 0.0] if steps > 1 else [10.0, 0.0]
    denoise = Counting(curved)
    noise = Noise(0, (4, 4, 4))
    run(sampler.solve(noise() * sigmas[0], sigmas, noise), denoise)
    assert len(denoise.sigmas) == sampler.evaluations(steps)

    # Progress: never back, the last evaluation completes the last step, and a step is complete before the next level begins
    done = [sampler.steps_done(count, steps) for count in range(len(denoise.sigmas) + 1)]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, steps)
    assert set(done) == set(range(steps + 1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_gives_the_network_s_own_answer(name: str) -> None:
    sampler = SAMPLERS[name]
    noise = Noise(5, (4, 8, 8))
    x = noise() * 14.6
    result = run(sampler.solve(x, [14.6, 0.0], noise), curved)
    assert torch.allclose(result, curved(x, 14.6), atol=2e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_solvers_change_neither_input_nor_answers(name: str) -> None:
    """The engine hands out views of shared tensors."""
    sampler, noise = SAMPLERS[name], Noise(5, (4, 4, 4))
    x = noise() * 10
    seen: list[tuple[Tensor, Tensor]] = [(x, x.clone())]

    def denoise(x: Tensor, sigma: float) -> Tensor:
        answer = curved(x, sigma)
        seen.extend([(x, x.clone()), (answer, answer.clone())])
        return answer

    run(sampler.solve(x, [10.0, 3.0, 1.0, 0.3, 0.0], noise), denoise)
    assert all(torch.equal(kept, copy) for kept, copy in seen)


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
