"""The story of a picture from words, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import Tweaks, resolve_schedule, sigmas_for
from modules.errors import RequestError
from modules.pipelines.guidance import guidance_for
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

    runs = model.zero_terminal_snr if request.zero_snr else model
    schedule = resolve_schedule(request.schedule, sampler)
    tweaks = Tweaks(request.sigma_min, request.sigma_max, request.rho, request.beta_alpha, request.beta_beta)
    sigmas = sigmas_for(schedule, sampler, runs.levels, request.steps, tweaks, request.discard_penultimate)
    noise = noise_for(request, model)
    options = sampler.options(request.eta, request.s_churn, request.s_tmin, request.s_tmax, request.s_noise)

    denoise = words.guided(runs, guidance_for(request, sampler))
    x = starting_point(sampler, sigmas, noise, request.sgm_noise_multiplier)
    latent = yield from sample(runs, sampler, x, sigmas, noise, denoise, options)
    pixels = yield from decode(model, latent)
    return Painted(pixels, model, schedule)


def noise_for(request: Txt2Img, model: ModelHandle) -> Noise:
    """The noise of one image of `request`, in the latent space of `model`."""
    factor = model.latent.factor
    resize_from = (request.seed_resize_height // factor, request.seed_resize_width // factor)
    return Noise(
        request.seed,
        (model.latent.channels, request.height // factor, request.width // factor),
        model.device,
        request.rng,
        variation=(request.variation_seed, request.variation_strength) if request.variation_strength > 0 else None,
        resize_from=resize_from if min(resize_from) > 0 else None,
        delta=request.ensd,
    )
