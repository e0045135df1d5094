"""Every sampler under every schedule against numbers that others computed: see tests/golden/README.md."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.diffusion.noise import Noise
from modules.diffusion.samplers import SAMPLERS, Denoised
from modules.diffusion.schedules import SCHEDULES, TrainedSigmas, sigmas_for
from tests.diffusion.toy import curved, run

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "samplers.json").read_text())
LEVELS = TrainedSigmas.scaled_linear()
CHURN: dict[str, dict[str, float]] = {
    "Euler": {"s_churn": 2.0, "s_tmin": 0.2},
    "Heun": {"s_churn": 2.0, "s_noise": 1.05},
    "DPM2": {"s_churn": 2.0, "s_tmax": 8.0},
}
SAMPLES = [(label, name) for label, samples in GOLDEN["samples"].items() for name in samples]


def ours(name: str, sigmas: list[float]) -> Tensor:
    sampler, noise = SAMPLERS[name], Noise(GOLDEN["seed"], GOLDEN["shape"])
    x = noise().double() * sampler.start_scale(sigmas[0])
    return run(sampler.sample(x, sigmas, noise, **CHURN.get(name, {})), curved)


def assert_close(result: Tensor, expected: list[float], tolerance: float = 3e-5) -> None:
    difference = (result.flatten() - torch.tensor(expected, dtype=torch.float64)).abs()
    assert float((difference / (1 + torch.tensor(expected).abs())).max()) < tolerance


@pytest.mark.parametrize("label", GOLDEN["schedules"])
def test_schedules(label: str) -> None:
    sigmas = sigmas_for(label, SAMPLERS["Euler"], LEVELS, GOLDEN["steps"])
    assert sigmas == pytest.approx(GOLDEN["schedules"][label], rel=2e-6)


@pytest.mark.parametrize(("label", "name"), SAMPLES)
def test_samplers_under_schedules(label: str, name: str) -> None:
    """k-diffusion computes in single precision.

    Its Brownian path is asked at levels that differ from ours in the seventh digit, where the path moves by the square root of
    that; its LMS integrates with a tolerance of 1e-4.
    """
    tolerance = 8e-3 if SAMPLERS[name].brownian else 2e-3 if name == "LMS" else 2e-4
    assert_close(ours(name, GOLDEN["schedules"][label]), GOLDEN["samples"][label][name], tolerance)


@pytest.mark.parametrize("name", GOLDEN["of_the_range"])
def test_samplers_between_the_ends(name: str) -> None:
    low, high = GOLDEN["range"]
    sigmas = [high * (low / high) ** (i / 8) for i in range(9)]
    assert_close(ours(name, sigmas), GOLDEN["of_the_range"][name], 1e-4)


def test_restart_with_its_restarts() -> None:
    assert_close(ours("Restart", GOLDEN["restart"]["sigmas"]), GOLDEN["restart"]["x"])


@pytest.mark.parametrize("name", [name for name in GOLDEN["timesteps"] if name != "sigmas"])
def test_samplers_on_timesteps(name: str) -> None:
    assert_close(ours(name, GOLDEN["timesteps"]["sigmas"]), GOLDEN["timesteps"][name])


def test_nothing_is_left_out() -> None:
    """CFG++ is below; Align Your Steps 32 is as the 11 over another table; ComfyUI's are in test_schedules."""
    pinned = {name for _, name in SAMPLES} | set(GOLDEN["of_the_range"]) | set(GOLDEN["timesteps"])
    assert set(SAMPLERS) - pinned == {name for name, sampler in SAMPLERS.items() if sampler.pair}
    assert set(SCHEDULES) - set(GOLDEN["schedules"]) == {
        *("Automatic", "Align Your Steps 32"),
        *("Beta timesteps", "KL Optimal to zero"),
    }


# CFG++, whose paper is one equation: x_next = guided + sigma_next * (x - negative) / sigma


def both(x: Tensor, sigma: float) -> Denoised:
    negative = curved(x, sigma)
    return Denoised(negative + 0.3 * torch.cos(x), negative)


@pytest.mark.parametrize("name", ["Euler CFG++", "DDIM CFG++"])
def test_cfgpp_is_its_equation_in_the_papers_form(name: str) -> None:
    """Chung et al. (2024), algorithm 2, on y = sqrt(alpha_bar) x."""
    sigmas = GOLDEN["timesteps"]["sigmas"]
    sampler = SAMPLERS[name]
    x = Noise(3, (4, 2, 2))().double() * sigmas[0]
    y = x / math.hypot(1.0, sigmas[0])
    for sigma, sigma_next in itertools.pairwise(sigmas):
        now, then = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
        guided, negative = both(y / math.sqrt(now), sigma)
        noise_of_negative = (y - math.sqrt(now) * negative) / math.sqrt(1 - now)
        y = math.sqrt(then) * guided + math.sqrt(1 - then) * noise_of_negative
    expected = y if name == "DDIM CFG++" else y * math.hypot(1.0, sigmas[-1])
    assert torch.allclose(run(sampler.sample(x, sigmas, Noise(3, (4, 2, 2))), both), expected, atol=1e-9)


PLAIN_FORMS = {
    "Euler a CFG++": "Euler a",
    "DPM++ 2S a CFG++": "DPM++ 2S a",
    "DPM++ 2M CFG++": "DPM++ 2M",
    "RES multistep CFG++": "RES multistep",
    "RES multistep a CFG++": "RES multistep a",
    "Gradient estimation CFG++": "Gradient estimation",
}


@pytest.mark.parametrize(("name", "plain"), PLAIN_FORMS.items())
def test_without_guidance_cfgpp_is_the_plain_sampler(name: str, plain: str) -> None:
    sigmas = GOLDEN["schedules"]["Karras"]
    x = Noise(3, (4, 2, 2))().double() * sigmas[0]

    def same(x: Tensor, sigma: float) -> Denoised:
        return Denoised(curved(x, sigma), curved(x, sigma))

    expected = run(SAMPLERS[plain].sample(x, sigmas, Noise(4, (4, 2, 2))), curved)
    assert torch.allclose(run(SAMPLERS[name].sample(x, sigmas, Noise(4, (4, 2, 2))), same), expected, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.pair])
def test_cfgpp_begins_with_its_equation(name: str) -> None:
    """The first of two steps of each is Euler's towards the guided answer, along the negative prompt's noise."""
    sampler, sigmas = SAMPLERS[name], [9.0, 4.0, 0.0]
    x = Noise(3, (4, 2, 2))().double() * 9.0
    program: Any = sampler.sample(x, sigmas, Noise(4, (4, 2, 2)), **sampler.options(eta=0.0))
    next(program)
    guided, negative = both(x, 9.0)
    second, _ = program.send(Denoised(guided, negative))
    if sampler.stages == 2:  # its first stage goes to the middle
        assert torch.allclose(second, guided + (x - negative) * (6.0 / 9.0), atol=1e-9)
    else:
        assert torch.allclose(second, guided + (x - negative) * (4.0 / 9.0), atol=1e-9)
