"""Small worlds in which the right answer is known, and the loop that drives a sampler through them.

In the Gaussian world the data is N(mean, covariance), so the best denoiser, the solution of the probability-flow ODE and the
distribution of samples have closed forms (Karras et al. 2022, appendix B).  In the curved one the denoiser is a fixed
nonlinear function: no closed form, but no coefficient hides in it; `tests/golden/sampling.json` was made with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modules.diffusion.samplers import CfgPPProgram, Denoised, Sampler, SamplerProgram

Denoise = Callable[[Tensor, float], Tensor]


def paired(sampler: Sampler, denoise: Denoise) -> Any:
    """What the sampler wants to be sent: the answer alone, or for CFG++ the answer as both sides of guidance."""

    def both(x: Tensor, sigma: float) -> Denoised:
        answer = denoise(x, sigma)
        return Denoised(answer, answer)

    return both if sampler.pair else denoise


def run(program: SamplerProgram | CfgPPProgram, denoise: Any) -> Tensor:
    """The sampler's result with `denoise` as the network."""
    try:
        x, sigma = next(program)
        while True:
            x, sigma = program.send(denoise(x, sigma))
    except StopIteration as finished:
        result: Tensor = finished.value
        return result


def curved(x: Tensor, sigma: float) -> Tensor:
    """A nonlinear denoiser."""
    return x / (1 + sigma**2) + 0.4 * torch.tanh(x / (0.5 + sigma)) + 0.1 * torch.sin(3 * x)


@dataclass
class Counting:
    """A denoiser that remembers at which noise levels it was asked."""

    denoise: Denoise
    sigmas: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.sigmas.append(sigma)
        return self.denoise(x, sigma)


@dataclass
class Gaussian:
    """Data in d dimensions; rows of x (N, d) are samples."""

    mean: Tensor
    covariance: Tensor

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """E[x0 | x]."""
        noisy = self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=x.dtype)
        return self.mean + (x - self.mean) @ torch.linalg.solve(noisy, self.covariance)

    def flow(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the ODE takes x from `sigma` to `sigma_end`: each principal component keeps its quantile."""
        variances, axes = torch.linalg.eigh(self.covariance)
        scale = ((variances + sigma_end**2) / (variances + sigma**2)).sqrt()
        return self.mean + ((x - self.mean) @ axes * scale) @ axes.T


def correlated() -> Gaussian:
    """Three dimensions, standard deviations from about 0.3 to 1.6, none of them independent."""
    root = torch.tensor([[1.2, 0.0, 0.0], [0.6, 0.4, 0.0], [-0.5, 0.3, 0.8]], dtype=torch.float64)
    return Gaussian(torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), root @ root.T)
