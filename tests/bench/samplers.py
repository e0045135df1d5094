"""How near each sampler comes to the picture that it is on the way to, by network evaluations: what users choose one by.

The reference is 1,000 steps of DPM++ 2M on the starter checkpoint, with guidance.  Samplers without noise walk to that very
picture, so the distance is an error.  Those with noise go to another picture of the same prompt with each step count; they run
without noise where they can (eta 0), else they are left out, as are CFG++ (another guidance) and DPM adaptive (its own steps).
Draws `.github/samplers.png`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import SAMPLERS, Denoised, Sampler
from modules.diffusion.schedules import resolve_schedule, sigmas_for
from modules.prompts.chunks import chunk
from modules.settings import ROOT
from tests.bench import Figure

CHECKPOINT = "atelier-starter"
PROMPT = "a red apple"
SEEDS = (1, 2)
EVALUATIONS = (5, 10, 20, 30)
REFERENCE_STEPS = 1000
PLOT = ROOT / ".github" / "samplers.png"


def measure() -> Iterator[Figure]:
    """The relative error of the latent, ||x - reference|| / ||reference||, averaged over seeds."""
    torch.set_grad_enabled(False)
    manager = ModelManager([ROOT / "models"], torch.device("cpu"), torch.float32, sdpa, cache=ROOT / "data" / "hashes.json")
    model = manager.load(CHECKPOINT)
    denoise = _denoiser(model)
    shape = _shape(model)
    starts = torch.stack([Noise(seed, shape)() for seed in SEEDS])
    ode = SAMPLERS["DPM++ 2M"]
    levels = sigmas_for("Karras", ode, model.noise.trained, REFERENCE_STEPS)
    reference = _run(ode, starts * levels[0], levels, denoise)

    errors: dict[str, list[tuple[int, float]]] = {}
    for name, sampler in SAMPLERS.items():
        if sampler.adaptive or (sampler.stochastic and "eta" not in sampler.takes) or sampler.pair:
            continue
        for evaluations in EVALUATIONS:
            steps = max(k for k in range(1, evaluations + 1) if sampler.evaluations(k) <= evaluations)
            schedule = resolve_schedule("Automatic", sampler)
            levels = sigmas_for(schedule, sampler, model.noise.trained, steps)
            result = _run(sampler, starts * sampler.start_scale(levels[0]), levels, denoise)
            error = float(((result - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)).mean())
            errors.setdefault(name, []).append((evaluations, error))
            quiet = ", eta 0" if sampler.stochastic else ""
            yield Figure(f"{name}, {evaluations} evaluations", error, "of the latent", f"{steps} steps, {schedule}{quiet}")
    draw(errors, PLOT)


def _shape(model: ModelHandle) -> tuple[int, int, int]:
    best = model.info.defaults
    factor = model.latent.factor
    return model.latent.channels, best.height // factor, best.width // factor


def _denoiser(model: ModelHandle) -> Callable[[Tensor, float], Tensor]:
    """Guidance at the checkpoint's own scale, all seeds in one forward."""
    contexts = []
    for text in (PROMPT, ""):
        windows = [window.bare for window in chunk(text, model.prompts.encoders.tokenizer, "Original").windows]
        contexts.append(torch.cat([window.context for window in model.prompts.encoders.encode_chunks(windows, 1)]))
    context = torch.stack(contexts).repeat_interleave(len(SEEDS), dim=0)
    scale = model.info.defaults.cfg_scale

    def denoise(x: Tensor, sigma: float) -> Tensor:
        both = torch.cat([x, x])
        sigmas = torch.full((len(both),), sigma)
        timesteps = torch.full((len(both),), model.noise.trained.timestep(sigma))
        output = model.denoiser.unet(model.noise.prediction.scale_input(both, sigmas), timesteps, context)
        positive, negative = model.noise.prediction.denoised(output.float(), both, sigmas).chunk(2)
        return negative + (positive - negative) * scale

    return denoise


class _Still:
    """Samplers ask for noise where they scale it by nothing."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __call__(self) -> Tensor:
        return torch.zeros_like(self.x)

    def brownian(self, sigmas: list[float], asks: object = ()) -> _Still:
        return self

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        return self()


def _run(sampler: Sampler, x: Tensor, levels: list[float], denoise: Callable[[Tensor, float], Tensor]) -> Tensor:
    program: Any = sampler.sample(x, levels, _Still(x), **sampler.options(eta=0.0))
    try:
        x, sigma = next(program)
        while True:
            answer = denoise(x, sigma)
            x, sigma = program.send(Denoised(answer, answer) if sampler.pair else answer)
    except StopIteration as finished:
        result: Tensor = finished.value
        return result


def draw(errors: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Bars of the error at each number of evaluations, best at 20 first, on a logarithmic scale."""
    names = sorted(errors, key=lambda name: dict(errors[name])[20])
    row, left, right, top = 22, 220, 40, 64
    width, height = 1000, top + row * len(names) + 30
    image = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    low, high = 0.0005, 2.0

    def across(error: float) -> float:
        part = torch.log(torch.tensor(min(max(error, low), high) / low)) / torch.log(torch.tensor(high / low))
        return left + float(part) * (width - left - right)

    colours = {5: "#d9e2ec", 10: "#9fb3c8", 20: "#2f6f9f", 30: "#102a43"}
    pen.text((16, 10), "Distance from the picture of 1,000 steps, starter checkpoint (smaller is better)", "black", font)
    for index, (evaluations, colour) in enumerate(colours.items()):
        at = left + index * 170
        pen.ellipse((at, 38, at + 10, 48), fill=colour)
        pen.text((at + 16, 34), f"{evaluations} evaluations", "black", font)
    for mark in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        pen.line((across(mark), top - 6, across(mark), height - 26), fill="#e4e7eb")
        pen.text((across(mark), height - 14), f"{mark:g}", "black", font, anchor="mm")
    for index, name in enumerate(names):
        y = top + row * index + row // 2
        pen.text((left - 12, y), name, "black", font, anchor="rm")
        points = dict(errors[name])
        pen.line((across(min(points.values())), y, across(max(points.values())), y), fill="#cbd2d9", width=2)
        for evaluations, error in points.items():
            at = across(error)
            pen.ellipse((at - 5, y - 5, at + 5, y + 5), fill=colours[evaluations])
    path.parent.mkdir(exist_ok=True)
    image.save(path, optimize=True)
