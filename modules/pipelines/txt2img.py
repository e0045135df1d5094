"""The story of a picture from words, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import resolve_schedule, sigmas_for
from modules.errors import RequestError
from modules.pipelines.prompting import prompted
from modules.pipelines.sampling import sample, starting_point
from modules.pipelines.work import Program, decode, load
from modules.request import Txt2Img


@dataclass(frozen=True, eq=False)
class Painted:
    """A finished picture: `pixels` uint8 (H, W, 3) on the CPU, and the facts that its record needs."""

    pixels: Tensor
    model: ModelHandle
    schedule: str


def txt2img(request: Txt2Img) -> Program[Painted]:
    """Paint one image of `request`; its seed and checkpoint are resolved, its count is 1."""
    assert request.seed >= 0, "the seed is resolved before it reaches a pipeline"
    assert request.checkpoint, "the checkpoint is resolved before it reaches a pipeline"
    model = yield from load(request.checkpoint)
    if model.unet.config.in_channels != model.latent.channels:
        raise RequestError(
            f"checkpoint {model.info.name!r} takes {model.unet.config.in_channels} input channels: it repaints parts of a "
            "given picture and cannot paint from words alone; choose another checkpoint"
        )
    sampler, _ = find_sampler(request.sampler)
    words = yield from prompted(model, request, sampler)

    schedule = resolve_schedule(request.schedule, sampler)
    sigmas = sigmas_for(schedule, sampler, model.levels, request.steps)
    shape = (model.latent.channels, request.height // model.latent.factor, request.width // model.latent.factor)
    noise = Noise(request.seed, shape, model.device)

    denoise = words.guided(model, request.cfg_scale)
    x = starting_point(sampler, sigmas, noise)
    latent = yield from sample(model, sampler, x, sigmas, noise, denoise)
    pixels = yield from decode(model, latent)
    return Painted(pixels, model, schedule)
