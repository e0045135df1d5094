"""What a network's output means, and how it becomes the denoised x.

A `Prediction` holds the scalings of Karras et al. (2022), equation 7: denoised = c_skip * x + c_out * F(c_in * x).  It knows
nothing of the network itself; the networks here were all trained with unit data variance and variance-preserving noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """How to read the output of a network; `name` is what checkpoints and infotext call it."""

    name: str
    skip: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network is fed for x (B, ...) at noise levels `sigma` (B,): unit variance."""
        return x * _rows(torch.rsqrt(sigma**2 + 1), x)

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The x0 prediction (B, ...), in the dtype of `x`.

        Args:
            output: of the network, (B, ...), any float dtype.
            x: the noisy latents, (B, ...), not scaled.
            sigma: (B,), the noise level of each row, in the dtype of `x`.
        """
        return x * _rows(self.skip(sigma), x) + output.to(x.dtype) * _rows(self.out(sigma), x)


def _rows(scale: Tensor, x: Tensor) -> Tensor:
    """(B,) to (B, 1, ..., 1) with as many dimensions as `x`."""
    return scale.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


EPS = Prediction("eps", skip=torch.ones_like, out=torch.neg)
"""The network predicts the noise: x0 = x - sigma * eps (Ho et al. 2020).  SD 1.x."""

V = Prediction("v", skip=lambda sigma: 1 / (sigma**2 + 1), out=lambda sigma: -sigma * torch.rsqrt(sigma**2 + 1))
"""The network predicts v = alpha * eps - sigma_vp * x0 (Salimans & Ho 2022, appendix D).  SD 2.x 768."""

PREDICTIONS: dict[str, Prediction] = {prediction.name: prediction for prediction in (EPS, V)}
