"""Makes samplers.json: every sampler under every schedule, by k-diffusion where it has the sampler, else by `textbook`.

Nothing of `modules` takes part.  Run it in an environment of its own and from the repository root, only to extend the file:

    pip install k-diffusion==0.1.1.post1 && python -m tests.golden.make_samplers
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from k_diffusion import external, sampling
from scipy import stats

from tests.diffusion.toy import curved
from tests.golden import textbook

SHAPE = (1, 4, 1, 2)
SEED = 77
STEPS = 6
LOW, HIGH = 0.0291675, 14.6146412

AYS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
GITS = [14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029]


def schedules(n: int) -> dict[str, list[float]]:
    """The schedules by k-diffusion, scipy and numpy; SD 1.x's levels."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    cumulative = (1 - betas).cumprod(dim=0)
    levels = ((1 - cumulative) / cumulative).sqrt()
    inner: Any = external.DiscreteSchedule(levels, quantize=False)
    low, high = float(levels[0]), float(levels[-1])

    def table(values: list[float]) -> list[float]:
        return [*np.exp(np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(values)), np.log(values))).tolist(), 0.0]

    ramp = np.arange(n + 1) / n
    ends = [float(inner.sigma_to_t(level)) for level in (levels[-1:], levels[:1])]
    half = n // 2
    slope = 0.025 / half
    parabola = np.linalg.solve([[1, 0, 0], [0, 1, 0], [1, n - half, (n - half) ** 2]], [0.025, slope, 1.0])
    quadratic = [slope * i for i in range(half)] + [float(np.polyval(parabola[::-1], k)) for k in range(n - half)]
    return {
        "Uniform": inner.get_sigmas(n).tolist(),
        "Karras": sampling.get_sigmas_karras(n, low, high).tolist(),
        "Exponential": sampling.get_sigmas_exponential(n, low, high).tolist(),
        "Polyexponential": sampling.get_sigmas_polyexponential(n, low, high).tolist(),
        "SGM Uniform": [*inner.t_to_sigma(torch.linspace(*ends, n + 1)[:-1]).tolist(), 0.0],
        "KL Optimal": np.tan((1 - ramp) * math.atan(high) + ramp * math.atan(low)).tolist(),
        "Align Your Steps": table(AYS),
        "Simple": [*[float(levels[-(1 + int(i * 1000 / n))]) for i in range(n)], 0.0],
        "Normal": [*inner.t_to_sigma(torch.linspace(*ends, n)).tolist(), 0.0],
        "DDIM": [*levels[1 :: 1000 // n].flip(0).tolist(), 0.0],
        "Beta": [*(low + stats.beta.ppf(1 - np.linspace(0, 1, n), 0.6, 0.6) * (high - low)).tolist(), 0.0],
        "Turbo": [*[float(levels[int(np.rint(k * 1000 / n - 1))]) for k in range(n, 0, -1)], 0.0],
        "Align Your Steps GITS": table(GITS),
        "Align Your Steps 11": table(AYS),
        "Linear Quadratic": [*[(1 - part) * high for part in quadratic], 0.0],
    }


K_DIFFUSION: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "DPM++ 2M": (sampling.sample_dpmpp_2m, {}),
    "DPM++ SDE": (sampling.sample_dpmpp_sde, {}),
    "DPM++ 2M SDE": (sampling.sample_dpmpp_2m_sde, {}),
    "DPM++ 2M SDE Heun": (sampling.sample_dpmpp_2m_sde, {"solver_type": "heun"}),
    "DPM++ 2S a": (sampling.sample_dpmpp_2s_ancestral, {}),
    "DPM++ 3M SDE": (sampling.sample_dpmpp_3m_sde, {}),
    "Euler a": (sampling.sample_euler_ancestral, {}),
    "Euler": (sampling.sample_euler, {"s_churn": 2.0, "s_tmin": 0.2}),
    "LMS": (sampling.sample_lms, {}),
    "Heun": (sampling.sample_heun, {"s_churn": 2.0, "s_noise": 1.05}),
    "DPM2": (sampling.sample_dpm_2, {"s_churn": 2.0, "s_tmax": 8.0}),
    "DPM2 a": (sampling.sample_dpm_2_ancestral, {}),
}
"""With the churn that the test gives ours too."""
OF_THE_RANGE = {"DPM fast": sampling.sample_dpm_fast, "DPM adaptive": sampling.sample_dpm_adaptive}


def by_k_diffusion(name: str, sigmas: list[float]) -> list[float]:
    solve, options = K_DIFFUSION[name]
    generator = torch.Generator().manual_seed(SEED)
    levels = torch.tensor(sigmas)
    x = torch.randn(SHAPE, generator=generator) * levels[0]
    if "SDE" in name:
        positive = levels[levels > 0]
        options = {
            **options,
            "noise_sampler": sampling.BrownianTreeNoiseSampler(x, positive.min(), positive.max(), seed=[SEED]),
        }
    return solve(_model, x, levels, disable=True, **_with_noise(solve, options, generator)).flatten().tolist()


def by_k_diffusion_alone(name: str) -> list[float]:
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(SHAPE, generator=generator) * HIGH
    solve = OF_THE_RANGE[name]
    steps = {"n": 8} if name == "DPM fast" else {}
    options = {"eta": 1.0, "noise_sampler": lambda *_: torch.randn(SHAPE, generator=generator), **steps}
    return solve(_model, x, LOW, HIGH, disable=True, **options).flatten().tolist()


def _model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return curved(x, float(sigma[0]))


def _with_noise(solve: Any, options: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """k-diffusion's churn draws from the global generator; here from the image's, as A1111 makes it."""
    torch.randn_like = lambda x: torch.randn(x.shape, generator=generator)  # type: ignore[assignment]
    takes = "noise_sampler" in solve.__code__.co_varnames and "noise_sampler" not in options
    return {**options, "noise_sampler": lambda *_: torch.randn(SHAPE, generator=generator)} if takes else options


def by_textbook(name: str, sigmas: list[float]) -> list[float]:
    generator = torch.Generator().manual_seed(SEED)

    def draw() -> Any:
        return torch.randn(SHAPE, generator=generator).double().numpy()

    def model(x: Any, sigma: float) -> Any:
        return curved(torch.from_numpy(np.asarray(x)), sigma).numpy()

    start = math.hypot(1.0, sigmas[0]) if name in textbook.UNIT_START else sigmas[0]
    return textbook.SAMPLERS[name](model, draw() * start, sigmas, draw).flatten().tolist()


def main() -> None:
    spread = schedules(STEPS)
    matrix = {
        label: {
            **{name: by_k_diffusion(name, sigmas) for name in K_DIFFUSION},
            **{name: by_textbook(name, sigmas) for name in textbook.SAMPLERS if name not in textbook.UNIT_START},
        }
        for label, sigmas in spread.items()
    }
    karras = sampling.get_sigmas_karras(24, LOW, HIGH).tolist()
    stops = sampling.get_sigmas_karras(7, LOW, HIGH).tolist()[:-1]
    golden = {
        "made_by": "k-diffusion 0.1.1.post1 and tests/golden/textbook.py, see make_samplers.py",
        "shape": SHAPE[1:],
        "seed": SEED,
        "steps": STEPS,
        "range": [LOW, HIGH],
        "schedules": spread,
        "samples": matrix,
        "of_the_range": {name: by_k_diffusion_alone(name) for name in OF_THE_RANGE},
        "restart": {"sigmas": karras, "x": by_textbook("Restart", karras)},
        "timesteps": {"sigmas": stops, **{name: by_textbook(name, stops) for name in sorted(textbook.UNIT_START)}},
    }
    text = json.dumps(golden, separators=(",", ":"))
    Path(__file__).with_name("samplers.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
