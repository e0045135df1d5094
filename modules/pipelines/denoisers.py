"""Functions that make denoisers: (x, sigma) -> a program whose result is the denoised x.

A denoiser asks for networks by yielding work; it knows neither samplers nor steps, so every one works with every sampler, and
features that change the prediction (guidance, inpainting, regions) wrap one denoiser into another.
"""

from __future__ import annotations

from collections.abc import Callable

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
    if cfg_scale == 1.0:
        return conditioned(model, positive)
    if cfg_scale == 0.0:
        return conditioned(model, negative)

    def denoise(x: Tensor, sigma: float) -> Program[Tensor]:
        pos, neg = yield from predict(model, Row(x, sigma, positive), Row(x, sigma, negative))
        return neg + (pos - neg) * cfg_scale

    return denoise


def conditioned(model: ModelHandle, conditioning: Conditioning) -> Denoiser:
    """The network's own prediction under one prompt, without guidance."""

    def denoise(x: Tensor, sigma: float) -> Program[Tensor]:
        (denoised,) = yield from predict(model, Row(x, sigma, conditioning))
        return denoised

    return denoise
