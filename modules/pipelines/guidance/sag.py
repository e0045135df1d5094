"""Self-attention guidance: away from what the network says when what it attends to is blurred."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from modules.diffusion.transfers import numbers
from modules.pipelines.denoisers import Answers
from modules.pipelines.ops import Program

RADIUS = 4
"""The blur's kernel has 2 * RADIUS + 1 weights on each axis (their code, ComfyUI and diffusers: 9)."""
THRESHOLD = 1.0
"""Positions that get more attention than the average are blurred."""


@dataclass(frozen=True)
class SelfAttention:
    """Hong et al. (2023, arXiv:2210.00939), algorithm 1, on denoised x: scale * (degraded - the answer to it).

    Where the middle block's self-attention of the negative prompt looks, its prediction is blurred (Gaussian of `blur` latent
    positions); noised as before that asks the network again, for one more evaluation.  Their difference of noise predictions
    eps(x) - eps(degraded) is (answer - degraded) / sigma here, the form of ComfyUI's and Forge's nodes.  A latent that the
    kernel does not fit into is left as it is.
    """

    scale: float
    blur: float
    perturbs = False
    watches = True

    def __call__(self, answers: Answers) -> Program[Tensor]:
        if min(answers.x.shape[-2:]) <= RADIUS:
            return torch.zeros_like(answers.x)
        assert answers.mass is not None
        assert answers.again is not None
        degraded = blurred_where_seen(answers.negative, answers.mass, self.blur)
        again = yield from answers.again(answers.x + (degraded - answers.negative))
        return (degraded - again.guided) * self.scale


def blurred_where_seen(x: Tensor, mass: Tensor, sigma: float) -> Tensor:
    """`x` (C, h, w), blurred where `mass` (of any smaller size) is above `THRESHOLD`."""
    seen = F.interpolate((mass > THRESHOLD)[None, None].to(x), x.shape[-2:], mode="nearest")[0]
    return torch.lerp(x, gaussian_blur(x, sigma), seen)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Each channel of `x` (C, h, w) under a Gaussian of `sigma` positions, cut off at `RADIUS`; edges are mirrored."""
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-RADIUS, RADIUS + 1)]
    kernel = numbers(weights, x.device, x.dtype)
    kernel = kernel / kernel.sum()
    padded = F.pad(x[None], (RADIUS,) * 4, mode="reflect").transpose(0, 1)
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]
