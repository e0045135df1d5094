"""LCM as A1111 runs it: the timesteps that the network gets, and the boundary of what it answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from modules.diffusion.conditioning import Conditioning
from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.rows import Answer, Row
from modules.diffusion.samplers import SAMPLERS, Denoised
from modules.diffusion.schedules import TrainedSigmas
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.pipelines.consistency import consistent
from modules.pipelines.ops import Predict, Program, predict
from modules.pipelines.stages import Stage
from modules.pipelines.wrappers import Run, wrapped
from modules.request import Txt2Img

LEVELS = TrainedSigmas.scaled_linear()
ANY: Any = SimpleNamespace(denoiser=UNetDenoiser)


def asked(sigma: float) -> tuple[list[Row], torch.Tensor]:
    """The rows that a denoiser of two rows comes to ask at `sigma`, and what becomes of x = 3 answered by 2 and 1."""

    def denoise(x: torch.Tensor, sigma: float) -> Program[Denoised]:
        one, two = yield from predict(ANY, *[Row(x, sigma, Conditioning(torch.zeros(77, 4)))] * 2)
        return Denoised(one.x0, two.x0)

    program = consistent(denoise, DiscreteNoise())(torch.full((4, 8, 8), 3.0), sigma)
    work = next(program)
    assert isinstance(work, Predict)
    with pytest.raises(StopIteration) as end:
        program.send([Answer(torch.full((4, 8, 8), 2.0)), Answer(torch.full((4, 8, 8), 1.0))])
    return list(work.rows), end.value.value.guided


def test_the_network_gets_the_nearest_of_the_fifty_timesteps_by_log_sigma() -> None:
    """A1111's `sigma_to_t`, in NumPy: the index of the nearest of 50 log levels, times 20, plus 19."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)[19::20]
    logs = np.log(((1 - alphas) / alphas) ** 0.5)
    for sigma in (14.6146, 14.0, 8.0, 3.3, 1.0, 0.4, 0.15, 0.05):
        rows, _ = asked(sigma)
        expected = int(np.abs(np.log(sigma) - logs).argmin()) * 20 + 19
        assert {row.timestep for row in rows} == {float(expected)}, sigma
        assert {row.sigma for row in rows} == {sigma}, "the input is scaled by the level itself"


@pytest.mark.parametrize(("sigma", "timestep"), [(14.6146, 999), (0.05, 19)])
def test_its_answer_is_bounded(sigma: float, timestep: int) -> None:
    skip = 0.25 / ((timestep * 10) ** 2 + 0.25)
    out = (timestep * 10) / ((timestep * 10) ** 2 + 0.25) ** 0.5
    _, answer = asked(sigma)
    torch.testing.assert_close(answer, torch.full((4, 8, 8), 3 * skip + 2 * out), rtol=0, atol=1e-6)


def test_lcm_alone_is_run_so() -> None:
    def untouched(x: torch.Tensor, sigma: float) -> Any:
        yield from ()

    stage = Stage(Txt2Img())
    model = SimpleNamespace(noise=DiscreteNoise())
    runs = {name: Run(stage, model, sampler, ()) for name, sampler in SAMPLERS.items()}  # type: ignore[arg-type]
    assert [name for name, run in runs.items() if wrapped(untouched, run) is not untouched] == ["LCM"]
