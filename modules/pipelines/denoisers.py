"""Functions that make denoisers: (x, sigma) -> a program whose result is the denoised x.

A denoiser asks for networks by yielding work; it knows neither samplers nor steps, so every one works with every sampler, and
features that change the prediction (guidance, inpainting, regions) wrap one denoiser into another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.samplers import Denoised
from modules.pipelines.work import Program, Row, predict

Denoiser = Callable[[Tensor, float], Program[Denoised]]
"""(x (C, h, w), sigma) -> program of the x0 prediction (C, h, w), and what the negative prompt alone predicts."""


@dataclass(frozen=True)
class Answers:
    """What the network said at one noise level under each prompt: x0 predictions (C, h, w).

    `sides` are the sides of AND with their weights, one of 1 for a prompt without AND; `scale` is the guidance scale.
    """

    x: Tensor
    sigma: float
    sides: tuple[tuple[Tensor, float], ...]
    negative: Tensor
    scale: float

    def guided(self, scale: float) -> Tensor:
        """Classifier-free guidance with this scale; 1 is the prompt's own answer."""
        total = self.negative
        for side, weight in self.sides:
            total = total + (side - self.negative) * (scale * weight)
        return total


Combine = Callable[[Answers], Tensor]
"""How the answers to the prompts become one."""


def plain(answers: Answers) -> Tensor:
    """negative + scale * (positive - negative), nothing else."""
    return answers.guided(answers.scale)


def guided(model: ModelHandle, positive: Conditioning, negative: Conditioning, cfg_scale: float) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): negative + cfg_scale * (positive - negative).

    Both rows go into one forward.  At a scale of 1 the negative prompt has no weight, and at 0 the positive one has none, so
    only the other is evaluated: half the time.
    """
    return composed(model, [(positive, 1.0)], negative, cfg_scale)


def composed(
    model: ModelHandle,
    sides: Sequence[tuple[Conditioning, float]],
    negative: Conditioning | None,
    cfg_scale: float,
    combine: Combine = plain,
    pair: bool = False,
) -> Denoiser:
    """Guidance towards several prompts, `a AND b :0.5`: negative + sum of cfg_scale * weight * (side - negative).

    Composable diffusion (Liu et al. 2022, arXiv:2206.01714, equation 11) with weights that may be negative.  What has no weight
    in the sum is not evaluated, unless a `pair` of answers is wanted.  Without a `negative` the first side stands for it, which
    is what A1111 does in the steps that skip it.
    """
    weighty = [(side, weight) for side, weight in sides if cfg_scale * weight != 0.0]
    if negative is None:
        negative, sides = sides[0][0], sides[1:]
        weighty = [(side, weight) for side, weight in sides if cfg_scale * weight != 0.0]
        if not weighty:
            return conditioned(model, negative)
    elif not pair and not weighty:
        return conditioned(model, negative)
    elif not pair and combine is plain and len(weighty) == 1 and cfg_scale * weighty[0][1] == 1.0:
        return conditioned(model, weighty[0][0])
    conditionings = [*(side for side, _ in weighty), negative]

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        *predicted, last = yield from predict(model, *(Row(x, sigma, conditioning) for conditioning in conditionings))
        answers = tuple((answer, weight) for answer, (_, weight) in zip(predicted, weighty, strict=True))
        return Denoised(combine(Answers(x, sigma, answers, last, cfg_scale)), last)

    return denoise


def switched(elsewhere: Callable[[float], bool], one: Denoiser, other: Denoiser) -> Denoiser:
    """`one`, but `other` at the noise levels for which `elsewhere` says so."""

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        return (other if elsewhere(sigma) else one)(x, sigma)

    return denoise


def scheduled(denoiser_at: Callable[[int], Denoiser]) -> Denoiser:
    """A denoiser that may be another at each evaluation: `denoiser_at` is asked with their count from 0.

    It counts calls, as A1111 does for prompt editing, not steps: a sampler with two evaluations per step counts to twice its
    steps.  Good for one run.
    """
    evaluations = count()

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        return denoiser_at(next(evaluations))(x, sigma)

    return denoise


def conditioned(model: ModelHandle, conditioning: Conditioning) -> Denoiser:
    """The network's own prediction under one prompt, without guidance."""

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        (denoised,) = yield from predict(model, Row(x, sigma, conditioning))
        return Denoised(denoised, denoised)

    return denoise
