"""Functions that make denoisers: (x, sigma) -> a program whose result is the denoised x.

A denoiser asks for networks by yielding work; it knows neither samplers nor steps, so every one works with every sampler, and
features that change the prediction (guidance, inpainting, regions) wrap one denoiser into another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.conditioning import Conditioning
from modules.pipelines.work import Program, Row, predict

Denoiser = Callable[[Tensor, float], Program[Tensor]]
"""(x (C, h, w), sigma) -> program of the x0 prediction (C, h, w)."""


def guided(model: ModelHandle, positive: Conditioning, negative: Conditioning, cfg_scale: float) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): negative + cfg_scale * (positive - negative).

    Both rows go into one forward.  At a scale of 1 the negative prompt has no weight, and at 0 the positive one has none, so
    only the other is evaluated: half the time.
    """
    return composed(model, [(positive, 1.0)], negative, cfg_scale)


def composed(
    model: ModelHandle, sides: Sequence[tuple[Conditioning, float]], negative: Conditioning, cfg_scale: float
) -> Denoiser:
    """Guidance towards several prompts, `a AND b :0.5`: negative + sum of cfg_scale * weight * (side - negative).

    Composable diffusion (Liu et al. 2022, arXiv:2206.01714, equation 11) with weights that may be negative.  What has no weight
    in the sum is not evaluated.
    """
    sides = [(side, cfg_scale * weight) for side, weight in sides if cfg_scale * weight != 0.0]
    if not sides:
        return conditioned(model, negative)
    if len(sides) == 1 and sides[0][1] == 1.0:
        return conditioned(model, sides[0][0])

    def denoise(x: Tensor, sigma: float) -> Program[Tensor]:
        *denoised, neg = yield from predict(model, *(Row(x, sigma, side) for side, _ in sides), Row(x, sigma, negative))
        guided = neg
        for side, (_, weight) in zip(denoised, sides, strict=True):
            guided = guided + (side - neg) * weight
        return guided

    return denoise


def scheduled(denoiser_at: Callable[[int], Denoiser]) -> Denoiser:
    """A denoiser that may be another at each evaluation: `denoiser_at` is asked with their count from 0.

    It counts calls, as A1111 does for prompt editing, not steps: a sampler with two evaluations per step counts to twice its
    steps.  Good for one run.
    """
    evaluations = count()

    def denoise(x: Tensor, sigma: float) -> Program[Tensor]:
        return denoiser_at(next(evaluations))(x, sigma)

    return denoise


def conditioned(model: ModelHandle, conditioning: Conditioning) -> Denoiser:
    """The network's own prediction under one prompt, without guidance."""

    def denoise(x: Tensor, sigma: float) -> Program[Tensor]:
        (denoised,) = yield from predict(model, Row(x, sigma, conditioning))
        return denoised

    return denoise
