"""The noise process of rectified flows: x_t = (1 - t) x0 + t noise, and the network says dx_t / dt (Liu et al. 2022,
arXiv:2209.03003; Esser et al. 2024, arXiv:2403.03206).

Samplers see it as x = x0 + sigma * noise with sigma = t / (1 - t), which is x_t / (1 - t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from modules.diffusion.schedules import TrainedSigmas

LEVELS = 1000
HIGHEST = 9999.0
"""The last noise level, t = 0.9999: pure noise is at infinity, from where no step can start."""

FEW_TOKENS, MANY_TOKENS = 256, 4096
SHIFT_OF_FEW, SHIFT_OF_MANY = 0.5, 1.15
"""Image tokens and the logarithms of their shifts, between which Flux's is linear (Black Forest Labs' `sampling.py`)."""


@dataclass(frozen=True)
class FlowNoise:
    """`shift` moves levels towards noise: t' = s t / (1 + (s - 1) t), which multiplies sigma by s (Esser et al., equation 23).

    With `by_size` it follows the size of the picture, and `shift` is that of 1024x1024 pixels until a size is known.
    """

    shift: float = 1.0
    by_size: bool = False

    def for_size(self, height: int, width: int) -> FlowNoise:
        """For pictures of `height` x `width` latent positions."""
        if not self.by_size:
            return self
        return replace(self, shift=shift_of(-(-height // 2) * -(-width // 2)))

    @cached_property
    def trained(self) -> TrainedSigmas:
        levels = [self.shift * level / (LEVELS - level) for level in range(1, LEVELS)]
        return TrainedSigmas((*levels, max(HIGHEST, levels[-1] * 1.05)))

    @property
    def facts(self) -> Mapping[str, str]:
        return {"prediction": "flow", "flow shift": f"{self.shift:.4g}"}

    def model_timestep(self, sigma: float) -> float:
        """1000 t."""
        return LEVELS * sigma / (1 + sigma)

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / _rows(1 + sigma, x)

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        return self.scale_input(x, sigma) - output.to(x.dtype) * _rows(sigma / (1 + sigma), x)

    def at_rest(self, x: Tensor, sigma: float) -> Tensor:
        """x / (1 + sigma): x_t stays where it is."""
        return x / (1 + sigma)

    def read_as(self, prediction: str, zero_snr: bool, ignore_zero_snr: bool) -> FlowNoise:
        return self


def shift_of(tokens: int) -> float:
    """Flux's shift for a picture of so many tokens, 16x16 pixels each."""
    slope = (SHIFT_OF_MANY - SHIFT_OF_FEW) / (MANY_TOKENS - FEW_TOKENS)
    return math.exp(SHIFT_OF_FEW + slope * (tokens - FEW_TOKENS))


def _rows(values: Tensor, x: Tensor) -> Tensor:
    """(B,) to (B, 1, ..., 1) with as many dimensions as `x`."""
    return values.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
