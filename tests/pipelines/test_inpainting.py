"""The blends that hold a source while a sampler runs, against their definitions in other forms."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.samplers import SAMPLERS, Denoised
from modules.diffusion.schedules import TrainedSigmas, partial_sigmas
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.inpainting import (
    Blend,
    differential,
    inpainted,
    inpainted_before,
    kept,
    mask_channels,
    masked_image,
    softened,
)
from modules.pipelines.ops import Program
from modules.pipelines.sampling import sample
from tests.diffusion.toy import curved

LEVELS = TrainedSigmas.scaled_linear()
SHAPE = (4, 6, 5)


class Model:
    """What the blends and reports ask of a handle."""

    noise = DiscreteNoise()


MODEL = cast(ModelHandle, Model())


def drawn(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def mask() -> Tensor:
    mask = torch.zeros(1, *SHAPE[1:])
    mask[0, 2:5, 1:4] = 1.0
    return mask


def network(x: Tensor, sigma: float) -> Program[Denoised]:
    """Answers at once: its answers here need no engine."""
    yield from ()
    return Denoised(curved(x, sigma), curved(x, sigma) * 0.5)


def done(program: Program[Tensor]) -> Tensor:
    """The result of a pipeline whose only ops are reports."""
    try:
        while True:
            next(program)
    except StopIteration as finished:
        return cast(Tensor, finished.value)


def answer(denoise: Denoiser, x: Tensor, sigma: float) -> Denoised:
    try:
        next(denoise(x, sigma))
    except StopIteration as finished:
        return cast(Denoised, finished.value)
    raise AssertionError("it asked for something")


def run(name: str, denoise: Denoiser, source: Tensor, seed: int = 1) -> tuple[Tensor, list[float]]:
    sampler = SAMPLERS[name]
    part = partial_sigmas("Automatic", sampler, LEVELS, 12, 0.8)
    noise = Noise(seed, SHAPE, span=part.span)
    x = (source + noise() * part.noised) * part.start_scale()
    return done(sample(MODEL, sampler, x, part.sigmas, noise, denoise)), part.sigmas


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name].unit_start])
def test_with_every_sampler_the_kept_part_arrives_at_the_source(mask: Tensor, name: str) -> None:
    """A run to sigma 0 ends there by itself; one that stops above it keeps that much noise."""
    source = drawn(3)
    latent, sigmas = run(name, inpainted(network, kept(source, mask)), source)
    plain, _ = run(name, network, source)
    outside = (mask == 0).expand(SHAPE)
    assert float((latent - source)[outside].abs().max()) <= 1e-4 + 5 * sigmas[-1]
    assert not torch.allclose(latent[~outside], source[~outside], atol=0.1)
    assert not torch.allclose(plain[outside], source[outside], atol=0.1), "without a mask it moves"


def test_before_the_call_is_a1111_s_arithmetic_of_its_timestep_samplers(mask: Tensor) -> None:
    """Written in y = x / sqrt(1 + sigma^2) and noise predictions, with DDIM's step as A1111 makes it."""
    source = drawn(4)
    latent, sigmas = run("DDIM", inpainted_before(network, kept(source, mask)), source)

    part = partial_sigmas("Automatic", SAMPLERS["DDIM"], LEVELS, 12, 0.8)
    alpha = [1 / (1 + sigma**2) for sigma in sigmas]
    first = 1 / (1 + part.noised**2)
    y = math.sqrt(first) * source + math.sqrt(1 - first) * Noise(1, SHAPE)()
    for now, after, sigma in zip(alpha, alpha[1:], sigmas, strict=False):
        shown = y * mask + source * (1 - mask)
        x = shown / math.sqrt(now)
        noise = (x - curved(x, sigma)) / sigma
        y0 = (y - math.sqrt(1 - now) * noise) / math.sqrt(now)
        y = math.sqrt(after) * y0 + math.sqrt(1 - after) * noise
    assert torch.allclose(latent, y, atol=1e-4)


def test_both_answers_are_held(mask: Tensor) -> None:
    """CFG++ solvers follow the negative prompt's noise, which must be that of the source outside the mask."""
    source, x = drawn(5), drawn(6)
    guided, negative = answer(inpainted(network, kept(source, mask)), x, 1.5)
    outside = (mask == 0).expand(SHAPE)
    for held, free in ((guided, curved(x, 1.5)), (negative, curved(x, 1.5) * 0.5)):
        assert torch.equal(held[outside], source[outside])
        assert torch.equal(held[~outside], free[~outside])


def test_differential_diffusion_lets_each_grey_in_at_its_timestep() -> None:
    source, latent = torch.zeros(SHAPE), torch.ones(SHAPE)
    mask = torch.linspace(0, 1, 30).reshape(1, 6, 5)
    first = LEVELS.sigma(800.0)
    blend = differential(source, mask, MODEL, first)
    for part in (1.0, 0.75, 0.5, 0.25, 0.0):
        repainted = blend(latent, LEVELS.sigma(800.0 * part))[0]
        expected = (mask[0] >= part - 1e-6) & (mask[0] > 0)
        assert torch.equal(repainted > 0, expected), part


def reference_softened(source: np.ndarray, latent: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Position by position, with the defaults: bias 1, preservation 0.5, boost 4."""
    result = np.zeros_like(source)
    for place in np.ndindex(mask.shape):
        weight = 0.0 if mask[place] == 0 else mask[place] ** (sigma**1.0 * 0.5)
        a, b = source[(slice(None), *place)], latent[(slice(None), *place)]
        mixed = (1 - weight) * a + weight * b
        wanted = ((1 - weight) * np.linalg.norm(a) ** 4 + weight * np.linalg.norm(b) ** 4) ** 0.25
        result[(slice(None), *place)] = mixed * wanted / np.linalg.norm(mixed)
    return result


@pytest.mark.parametrize("sigma", [0.03, 0.7, 3.0, 14.0])
def test_soft_inpainting_mixes_directions_and_keeps_lengths(sigma: float) -> None:
    source, latent = drawn(7), drawn(8)
    mask = torch.linspace(0, 1, 30).reshape(1, 6, 5)
    ours = softened(source, mask, 1.0, 0.5, 4.0)(latent, sigma)
    theirs = reference_softened(source.double().numpy(), latent.double().numpy(), mask[0].double().numpy(), sigma)
    assert torch.allclose(ours, torch.from_numpy(theirs).float(), atol=1e-4)


def test_soft_inpainting_keeps_black_whatever_its_settings() -> None:
    source, latent, mask = drawn(7), drawn(8), torch.zeros(1, 6, 5)
    blends: list[Blend] = [softened(source, mask, bias, keep, 4.0) for bias in (0.0, 1.0) for keep in (0.0, 0.5)]
    for blend in blends:
        assert torch.allclose(blend(latent, 0.01), source, atol=1e-5)


def test_a_masked_picture_is_grey_where_it_is_masked_as_far_as_was_asked() -> None:
    image, mask = torch.full((3, 4, 4), 0.8), torch.zeros(1, 4, 4)
    mask[0, :2] = 1
    assert torch.equal(masked_image(image, mask, 1.0)[:, :2], torch.zeros(3, 2, 4))
    assert torch.equal(masked_image(image, mask, 1.0)[:, 2:], image[:, 2:])
    assert torch.allclose(masked_image(image, mask, 0.25)[:, :2], torch.tensor(0.6))
    assert torch.equal(masked_image(image, mask, 0.0), image)


def test_the_mask_of_the_channels_is_the_nearest_pixel() -> None:
    mask = torch.zeros(1, 16, 24)
    mask[0, 8:, :8] = 1
    channels = mask_channels(mask, drawn(9)[:, :2, :3])
    assert channels.shape == (5, 2, 3)
    assert channels[0].tolist() == [[0, 0, 0], [1, 0, 0]]
