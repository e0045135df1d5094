"""The noise process of eps and v networks: what their output means, and how it becomes the denoised x.

A `Prediction` holds the scalings of Karras et al. (2022), equation 7: denoised = c_skip * x + c_out * F(c_in * x).  It knows
nothing of the network itself; networks of these kinds were trained with variance-preserving noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from modules.diffusion.schedules import TrainedSigmas
from modules.diffusion.schedules.trained import linspace


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


SCALED_LINEAR = TrainedSigmas.scaled_linear()
"""The trained sigmas of SD 1.x, SD 2.x and SDXL."""


@lru_cache(maxsize=16)
def trained_sigmas(first: float, last: float) -> TrainedSigmas:
    """The noise levels of a thousand timesteps whose betas go from `first` to `last`, evenly in their square roots."""
    return TrainedSigmas.scaled_linear(first, last)


@dataclass(frozen=True)
class DiscreteNoise:
    """The `networks.NoiseProcess` of training at discrete timesteps of variance-preserving noise.

    `prediction` is what the network was trained to output, `sigmas` the noise levels of its timesteps; with `zero_snr` they
    were stretched to zero terminal signal-to-noise ratio.
    """

    prediction: Prediction = EPS
    sigmas: TrainedSigmas = SCALED_LINEAR
    zero_snr: bool = False

    @cached_property
    def trained(self) -> TrainedSigmas:
        return self.sigmas.zero_terminal_snr() if self.zero_snr else self.sigmas

    @property
    def facts(self) -> Mapping[str, str]:
        """Nothing for eps on the unstretched schedule."""
        said = {} if self.prediction is EPS else {"prediction": self.prediction.name}
        return said | ({"zero terminal SNR": "true"} if self.zero_snr else {})

    def model_timestep(self, sigma: float) -> float:
        """In [0, 999] for SD 1.x, fractions included."""
        return self.trained.timestep(sigma)

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.prediction.scale_input(x, sigma)

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        return self.prediction.denoised(output, x, sigma)

    def at_rest(self, x: Tensor, sigma: float) -> Tensor:
        """x / (1 + sigma^2): y = x / sqrt(1 + sigma^2) stays where it is."""
        return x / (1.0 + sigma * sigma)

    def read_as(self, prediction: str, zero_snr: bool, ignore_zero_snr: bool) -> DiscreteNoise:
        wanted = PREDICTIONS.get(prediction, self.prediction)
        return replace(self, prediction=wanted, zero_snr=zero_snr or (self.zero_snr and not ignore_zero_snr))


@dataclass(frozen=True)
class ContinuousNoise:
    """The `networks.NoiseProcess` of training at all noise levels from `sigma_min` to `sigma_max`, after Karras et al. (2022),
    table 1, for data of the standard deviation `data`: Playground 2.5 (0.5), and CosXL (1), which predicts `v`, the same with
    the sign turned.

    The network gets ln(sigma) / 4.  Schedules are spread over a thousand levels, even in their logarithms.
    """

    sigma_min: float
    sigma_max: float
    data: float = 1.0
    v: bool = False

    @cached_property
    def trained(self) -> TrainedSigmas:
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return TrainedSigmas(tuple(math.exp(level) for level in linspace(low, high, 1000)))

    @property
    def facts(self) -> Mapping[str, str]:
        return {}

    def model_timestep(self, sigma: float) -> float:
        return 0.25 * math.log(sigma)

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x * _rows(torch.rsqrt(sigma**2 + self.data**2), x)

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        total = sigma**2 + self.data**2
        skip, out = self.data**2 / total, (-sigma if self.v else sigma) * self.data * torch.rsqrt(total)
        return x * _rows(skip, x) + output.to(x.dtype) * _rows(out, x)

    def at_rest(self, x: Tensor, sigma: float) -> Tensor:
        return x * (self.data**2 / (self.data**2 + sigma * sigma))

    def read_as(self, prediction: str, zero_snr: bool, ignore_zero_snr: bool) -> ContinuousNoise:
        return self
