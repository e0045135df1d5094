"""Makes sampling.json: what k-diffusion computes for a toy network, for our samplers and schedules to be held against.

Nothing of `modules` takes part.  Run it in an environment of its own and from the repository root, only to extend the file:

    pip install k-diffusion==0.1.1.post1 && python -m tests.golden.make_sampling

Schedules that A1111 defines itself are spelled out here on k-diffusion's timestep functions.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from k_diffusion import external, sampling

from tests.diffusion.toy import curved

SHAPE = (1, 4, 4, 4)
SEED = 1234
STEPS = (1, 2, 5, 20)


def levels() -> Any:
    """SD 1.x in double precision."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    cumulative = (1 - betas).cumprod(dim=0)
    return external.DiscreteSchedule(((1 - cumulative) / cumulative).sqrt(), quantize=False)


def schedules(inner: Any, steps: int) -> dict[str, list[float]]:
    low, high = float(inner.sigmas[0]), float(inner.sigmas[-1])
    first, last = float(inner.sigma_to_t(inner.sigmas[-1:])), float(inner.sigma_to_t(inner.sigmas[:1]))

    def at(timesteps: torch.Tensor) -> list[float]:
        return [*inner.t_to_sigma(timesteps).tolist(), 0.0]

    return {
        "Uniform": inner.get_sigmas(steps).tolist(),
        "Karras": sampling.get_sigmas_karras(steps, low, high).tolist(),
        "Exponential": sampling.get_sigmas_exponential(steps, low, high).tolist(),
        "SGM Uniform": at(torch.linspace(first, last, steps + 1)[:-1]),
        "Simple": [*[float(inner.sigmas[-(1 + int(i * 1000 / steps))]) for i in range(steps)], 0.0],
        "Normal": at(torch.linspace(first, last, steps)),
    }


def samples(sigmas: torch.Tensor) -> dict[str, list[float]]:
    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return curved(x, float(sigma[0]))

    positive = sigmas[sigmas > 0]
    results = {}
    for name, solve in {
        "Euler": sampling.sample_euler,
        "Euler a": sampling.sample_euler_ancestral,
        "Heun": sampling.sample_heun,
        "DPM++ 2M": sampling.sample_dpmpp_2m,
        "DPM++ 2M SDE": sampling.sample_dpmpp_2m_sde,
    }.items():
        generator = torch.Generator().manual_seed(SEED)
        x = torch.randn(SHAPE, generator=generator) * sigmas[0]
        kwargs: dict[str, Any] = {}
        if name == "Euler a":
            kwargs["noise_sampler"] = lambda *_, g=generator: torch.randn(SHAPE, generator=g)
        elif name == "DPM++ 2M SDE":
            kwargs["noise_sampler"] = sampling.BrownianTreeNoiseSampler(x, positive.min(), positive.max(), seed=[SEED])
        results[name] = solve(model, x, sigmas, disable=True, **kwargs).flatten().tolist()
    return results


def increments(sigmas: list[float]) -> list[list[float]]:
    """The normalised Brownian increments of each step above 0, then one over the whole range, asked in one path."""
    x = torch.zeros(SHAPE)
    path = sampling.BrownianTreeNoiseSampler(x, min(sigmas), max(sigmas), seed=[SEED])
    pairs = [*pairwise(sigmas), (sigmas[-1], sigmas[0])]
    return [path(torch.tensor(a), torch.tensor(b)).flatten().tolist() for a, b in pairs]


def main() -> None:
    inner = levels()
    karras = torch.tensor(schedules(inner, 8)["Karras"])
    golden = {
        "made_by": "k-diffusion 0.1.1.post1, see make_sampling.py",
        "torch": torch.__version__.split("+")[0],
        "shape": SHAPE[1:],
        "seed": SEED,
        "schedules": {str(steps): schedules(inner, steps) for steps in STEPS},
        "sigmas": karras.tolist(),
        "samples": samples(karras),
        "increments": increments(karras.tolist()[:-1]),
    }
    Path(__file__).with_name("sampling.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
