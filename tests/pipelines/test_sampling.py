"""The loop between solver and denoiser: progress per step, broken numbers, guidance, and what is asked of the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.noise import Noise
from modules.diffusion.rows import Answer
from modules.diffusion.samplers import SAMPLERS, Denoised
from modules.diffusion.schedules import TrainedSigmas, sigmas_for
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.errors import NotFinite
from modules.pipelines.denoisers import composed
from modules.pipelines.ops import Check, DeviceOp, Predict, Program, Report
from modules.pipelines.sampling import sample, starting_point
from tests.diffusion.toy import curved, run

SHAPE = (4, 8, 8)
Network = Callable[[Tensor, float, Conditioning], Tensor]
LEVELS = TrainedSigmas.scaled_linear()
MODEL = cast(ModelHandle, SimpleNamespace(denoiser=UNetDenoiser))  # which says what shares a forward, and no more
POSITIVE, NEGATIVE = Conditioning(torch.ones(77, 8)), Conditioning(torch.zeros(77, 8))


def network(x: Tensor, sigma: float, conditioning: Conditioning) -> Tensor:
    """A denoiser that obeys its prompt a little."""
    return curved(x, sigma) + 0.1 * float(conditioning.context.mean())


def serve(program: Program[Tensor], network: Network = network) -> tuple[Tensor, list[DeviceOp]]:
    """Answer a pipeline's device ops as an engine would; the result and all that was asked."""
    asked: list[DeviceOp] = []
    answer: Any = None
    while True:
        try:
            work = program.send(answer)
        except StopIteration as finished:
            return finished.value, asked
        if isinstance(work, Check):
            work.now()
            answer = None
            continue
        asked.append(work)
        answer = (
            [Answer(network(row.x, row.sigma, row.conditioning)) for row in work.rows] if isinstance(work, Predict) else None
        )


def pipeline(name: str, steps: int, cfg_scale: float = 7.0) -> Program[Tensor]:
    sampler = SAMPLERS[name]
    sigmas = sigmas_for("Automatic", sampler, LEVELS, steps)
    noise = Noise(42, SHAPE)
    x = starting_point(sampler, sigmas, noise)
    denoise = composed(MODEL, [(POSITIVE, 1.0)], NEGATIVE, cfg_scale / sampler.cfg_divisor, pair=sampler.pair)
    return sample(MODEL, sampler, x, sigmas, noise, denoise)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_is_the_solver_with_guidance(name: str) -> None:
    """The textbook loop, without work and reports, gives the same latent to the last bit."""
    sampler = SAMPLERS[name]
    sigmas = sigmas_for("Automatic", sampler, LEVELS, 8)
    noise = Noise(42, SHAPE)
    timesteps = name in ("DDIM", "DDIM CFG++", "PLMS", "UniPC")
    start = noise() * (math.sqrt(1 + sigmas[0] ** 2) if timesteps else sigmas[0])

    def denoise(x: Tensor, sigma: float) -> Any:
        positive, negative = network(x, sigma, POSITIVE), network(x, sigma, NEGATIVE)
        scale = 7.0 / 12.5 if name == "DDIM CFG++" else 7.0
        guided = negative + (positive - negative) * scale
        return Denoised(guided, negative) if "CFG++" in name else guided

    latent, _ = serve(pipeline(name, 8))
    assert torch.equal(latent, run(sampler.sample(start, sigmas, noise), denoise))


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_report_per_step_in_order(name: str) -> None:
    sampler = SAMPLERS[name]
    steps = len(sigmas_for("Automatic", sampler, LEVELS, 7)) - 1
    _, asked = serve(pipeline(name, 7))
    reports = [work for work in asked if isinstance(work, Report)]
    told = [(report.step, report.steps) for report in reports]
    if sampler.adaptive:
        assert told == sorted(set(told))
        assert told[-1] == (steps, steps)
        return
    assert told == [(k, steps) for k in range(1, steps + 1)]
    assert all(report.model is MODEL and report.denoised.shape == SHAPE for report in reports)
    assert sum(isinstance(work, Predict) for work in asked) == sampler.step_ends(steps)[-1]


def test_the_last_report_shows_the_finished_latent() -> None:
    latent, asked = serve(pipeline("DPM++ 2M", 5))
    last = asked[-1]
    assert isinstance(last, Report)
    assert torch.equal(last.denoised, latent)


def test_heun_reports_after_its_second_evaluation() -> None:
    _, asked = serve(pipeline("Heun", 3))
    assert [type(work).__name__[0] for work in asked] == list("PPRPPRPR")


def test_guidance_asks_for_both_prompts_in_one_forward() -> None:
    _, asked = serve(pipeline("Euler", 3, cfg_scale=7.0))
    predictions = [work for work in asked if isinstance(work, Predict)]
    assert [[row.conditioning for row in work.rows] for work in predictions] == [[POSITIVE, NEGATIVE]] * 3
    assert all(work.rows[0].sigma == work.rows[1].sigma and work.rows[0].x is work.rows[1].x for work in predictions)


@pytest.mark.parametrize(("cfg_scale", "conditioning"), [(1.0, POSITIVE), (0.0, NEGATIVE)])
def test_a_prompt_without_weight_is_not_evaluated(cfg_scale: float, conditioning: Conditioning) -> None:
    _, asked = serve(pipeline("Euler", 3, cfg_scale=cfg_scale))
    predictions = [work for work in asked if isinstance(work, Predict)]
    assert [[row.conditioning for row in work.rows] for work in predictions] == [[conditioning]] * 3


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_broken_numbers_name_their_step(broken: float) -> None:
    """Heun's second evaluation of step 3 is the sixth; its second row, the negative prompt, has one bad value."""
    rows = 0

    def breaks(x: Tensor, sigma: float, conditioning: Conditioning) -> Tensor:
        nonlocal rows
        rows += 1
        denoised = network(x, sigma, conditioning)
        if rows == 12:
            denoised[2, 3, 4] = broken
        return denoised

    with pytest.raises(NotFinite, match=r"step 3 of 5: .*--dtype float32"):
        serve(pipeline("Heun", 5), breaks)
    assert rows == 12


def test_an_error_of_the_network_comes_out_as_it_is() -> None:
    program = pipeline("Euler", 5)
    next(program)
    with pytest.raises(ZeroDivisionError):
        program.throw(ZeroDivisionError())


def test_a_cancelled_run_ends_at_its_next_evaluation() -> None:
    program = pipeline("Heun", 5)
    next(program)
    program.close()
    with pytest.raises(StopIteration):
        next(program)
