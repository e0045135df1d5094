"""Guidance extras: what each does to the answers, and when the negative prompt is left out."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.samplers.relevance import relevant
from modules.pipelines.denoisers import Answers, plain
from modules.pipelines.guidance import guidance_for
from modules.pipelines.guidance.apg import projected
from modules.pipelines.guidance.early import skip_early
from modules.pipelines.guidance.ngms import skip_at_low_noise
from modules.pipelines.guidance.rescale import rescaled
from modules.pipelines.guidance.sag import blurred_where_seen
from modules.pipelines.guidance.thresholding import thresholded
from modules.pipelines.guidance.zero import still, zero_star
from modules.request import Txt2Img


def answers(scale: float = 7.0, seed: int = 0) -> Answers:
    generator = torch.Generator().manual_seed(seed)
    x, positive, negative = (torch.randn(4, 8, 8, generator=generator) for _ in range(3))
    return Answers(x, 1.0, ((positive, 1.0),), negative, scale)


def sides(given: Answers) -> tuple[Tensor, Tensor]:
    return given.sides[0][0], given.negative


def test_rescale_brings_back_the_contrast() -> None:
    given = answers()
    positive, _ = sides(given)
    assert float(rescaled(plain, 1.0)(given).std()) == pytest.approx(float(positive.std()), rel=1e-5)
    assert torch.equal(rescaled(plain, 0.0)(given), plain(given))
    half = rescaled(plain, 0.5)(given)
    assert torch.allclose(half, (rescaled(plain, 1.0)(given) + plain(given)) / 2, atol=1e-5)


def test_thresholding_keeps_the_range_of_the_mimicked_scale() -> None:
    given = answers(scale=20.0)
    mimicked, squeezed, mean = given.guided(5.0), thresholded(5.0, 0.95)(given), given.guided(20.0).mean(dim=(1, 2))
    for channel, expected, centre in zip(squeezed, mimicked, mean, strict=True):
        reach = float((expected - expected.mean()).abs().max())
        assert float((channel - centre).abs().max()) == pytest.approx(reach, rel=1e-4)


def test_thresholding_at_the_same_scale_changes_nothing() -> None:
    given = answers(scale=6.0)
    assert torch.allclose(thresholded(6.0, 1.0)(given), plain(given), atol=1e-5)


def test_projection_leaves_the_parallel_part_out() -> None:
    given = answers()
    positive, negative = sides(given)
    added = projected(0.0, 0.0, 0.0)(given) - positive
    assert float((added * positive).sum()) == pytest.approx(0.0, abs=1e-2)
    assert torch.allclose(projected(1.0, 0.0, 0.0)(given), plain(given), atol=1e-4), "eta 1 is plain guidance"
    assert float((positive - negative).norm()) > 1
    short = projected(1.0, 1.0, 0.0)(given) - positive
    assert float(short.norm()) == pytest.approx(6.0, rel=1e-4), "a difference of length 1, times scale - 1"


def test_projection_remembers_earlier_differences() -> None:
    first, second = answers(seed=1), answers(seed=2)
    combine = projected(1.0, 0.0, -0.5)
    combine(first)
    difference = [given.guided(1.0) - given.negative for given in (first, second)]
    expected = second.guided(1.0) + (difference[1] - 0.5 * difference[0]) * 6.0
    assert torch.allclose(combine(second), expected, atol=1e-4)


def test_zero_star_fits_the_negative_side_to_the_positive_one() -> None:
    given = answers()
    positive, negative = sides(given)
    noise_p, noise_n = given.x - positive, given.x - negative
    best = torch.linalg.lstsq(noise_n.reshape(-1, 1), noise_p.reshape(-1, 1)).solution.item()
    expected = given.x - (best * noise_n + 7.0 * (noise_p - best * noise_n))
    torch.testing.assert_close(zero_star(given), expected, atol=1e-4, rtol=1e-4)
    alike = replace(given, sides=((negative, 1.0),))
    torch.testing.assert_close(zero_star(alike), plain(alike), atol=1e-5, rtol=1e-5)


def test_still_keeps_x_where_it_is_in_the_variance_preserving_form() -> None:
    """Many small steps of Euler down to half the noise level: only the scale changes, as sqrt(1 + sigma^2) does."""
    start = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1)) * 14.0
    levels = torch.linspace(14.0, 7.0, 2001).tolist()
    x = start
    for sigma, sigma_next in pairwise(levels):
        with pytest.raises(StopIteration) as end:
            next(still(DiscreteNoise())(x, sigma))
        x = x + (x - end.value.value.guided) / sigma * (sigma_next - sigma)
    torch.testing.assert_close(x, start * math.hypot(1.0, 7.0) / math.hypot(1.0, 14.0), rtol=1e-3, atol=1e-3)


def test_blur_is_a_gaussian_where_attention_is_above_average() -> None:
    """Against the sum over both axes, written out."""
    x = torch.randn(2, 12, 10, generator=torch.Generator().manual_seed(2))
    mass = torch.tensor([[1.5, 0.5], [0.9, 1.1]])
    weights = np.exp(-0.5 * (np.arange(-4, 5) / 1.7) ** 2)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(x.numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    expected = x.numpy().copy()
    for row, column in np.ndindex(12, 10):
        if mass[row // 6, column // 5] > 1:
            expected[:, row, column] = (padded[:, row : row + 9, column : column + 9] * kernel).sum(axis=(1, 2))
    torch.testing.assert_close(blurred_where_seen(x, mass, 1.7), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_early_and_low_noise_are_a1111_s() -> None:
    assert [skip_early(0.25, 20)(k, 1.0) for k in (0, 5, 6, 19)] == [True, True, False, False]
    every_second, every = skip_at_low_noise(2.0), skip_at_low_noise(2.0, every=True)
    assert [every_second(k, 1.0) for k in range(4)] == [False, True, False, True]
    assert [every(k, 1.0) for k in range(3)] == [True] * 3
    assert not every(1, 2.0)


@pytest.mark.parametrize(
    ("fields", "skips"),
    [
        ({}, []),
        ({"skip_early_cfg": 0.25}, [0, 1, 2]),
        ({"ngms": 2.0}, [1, 3, 5, 7, 9]),
        ({"ngms": 2.0, "ngms_all_steps": True}, list(range(10))),
        ({"ngms": 2.0, "skip_early_cfg": 0.2}, [0, 1, 2, 3, 5, 7, 9]),
        ({"ngms": 0.5, "ngms_all_steps": True}, []),
    ],
)
def test_a_request_says_when_the_negative_prompt_is_left_out(fields: dict[str, Any], skips: list[int]) -> None:
    guidance = guidance_for(Txt2Img(steps=10, sampler="Euler", **fields), SAMPLERS["Euler"])
    assert [k for k in range(10) if guidance.skips is not None and guidance.skips(k, 1.0)] == skips


def test_ddim_cfgpp_divides_the_scale() -> None:
    guidance = guidance_for(Txt2Img(sampler="DDIM CFG++", cfg_scale=12.5), SAMPLERS["DDIM CFG++"])
    assert (guidance.scale, guidance.pair) == (1.0, True)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"sampler": "DPM++ 2M", "eta": 0.5, "s_churn": 1.0, "s_noise": 1.1, "ensd": 5}, set()),
        ({"sampler": "Euler a", "eta": 0.5, "s_churn": 1.0, "s_noise": 1.1, "ensd": 5}, {"eta", "s_noise", "ensd"}),
        ({"sampler": "Euler a", "eta": 1.0}, set()),
        ({"sampler": "Euler", "s_tmin": 1.0, "s_noise": 1.1, "ensd": 5}, set()),
        ({"sampler": "Euler", "s_churn": 2.0, "s_tmin": 1.0, "ensd": 5}, {"s_churn", "s_tmin", "ensd"}),
        ({"sampler": "DDIM", "schedule": "Karras", "rho": 3.0, "sgm_noise_multiplier": True, "eta": 0.0}, set()),
        ({"sampler": "Euler", "schedule": "Karras", "rho": 3.0, "beta_alpha": 0.7}, {"rho"}),
        ({"sampler": "Euler", "schedule": "Beta", "rho": 3.0, "beta_alpha": 0.7}, {"beta_alpha"}),
        ({"sampler": "DPM2", "discard_penultimate": True}, set()),
        ({"variation_seed": 4}, set()),
        ({"variation_seed": 4, "variation_strength": 0.1}, {"variation_seed", "variation_strength"}),
        ({"seed_resize_width": 512}, set()),
        ({"ngms_all_steps": True, "apg_eta": 0.5, "threshold_percentile": 0.9}, set()),
        ({"apg": True, "apg_eta": 0.5, "mimic_scale": 4.0, "cfg_zero": True}, {"apg", "apg_eta"}),
        ({"sag_blur": 1.0, "pag_scale": 2.0, "cfg_zero": True}, {"pag_scale", "cfg_zero"}),
    ],
)
def test_options_without_effect_are_not_kept(fields: dict[str, Any], kept: set[str]) -> None:
    request = relevant(Txt2Img(**fields))
    given = {name: value for name, value in fields.items() if name not in ("sampler", "schedule")}
    assert {name for name in given if getattr(request, name) != Txt2Img.model_fields[name].default} == kept


def test_a_varied_seed_stays_while_its_variation_counts_on() -> None:
    varied = Txt2Img(seed=7, count=3, variation_seed=100, variation_strength=0.2).image(2)
    assert (varied.seed, varied.variation_seed, varied.count) == (7, 102, 1)
    assert Txt2Img(seed=7, count=3, variation_seed=100).image(2).seed == 9
