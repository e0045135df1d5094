"""The story of a picture from words, top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import Tweaks, resolve_schedule, sigmas_for
from modules.errors import RequestError
from modules.pipelines.guidance import guidance_for
from modules.pipelines.inpainting import mask_channels
from modules.pipelines.prompting import Prompted, prompted
from modules.pipelines.sampling import ahead, sample, starting_point
from modules.pipelines.work import Program, decode, encode_image, load
from modules.request import Txt2Img


@dataclass(frozen=True, eq=False)
class Painted:
    """A finished picture: `pixels` uint8 (H, W, 3) on the CPU, and the facts that its record needs.

    `extras` are items of the text that other programs read, `facts` go to our own record only.
    """

    pixels: Tensor
    model: ModelHandle
    schedule: str
    extras: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def txt2img(request: Txt2Img) -> Program[Painted]:
    """Paint one image of `request`; its seed and checkpoint are resolved, its count is 1."""
    assert request.seed >= 0, "the seed is resolved before it reaches a pipeline"
    assert request.checkpoint, "the checkpoint is resolved before it reaches a pipeline"
    model = yield from load(request.checkpoint)
    sampler, _ = find_sampler(request.sampler)
    words = yield from prompted(model, request, sampler)
    words = yield from _beside_nothing(model, request, words)

    runs = model.run_as(request.prediction, request.zero_snr, request.ignore_zero_snr)
    schedule = resolve_schedule(request.schedule, sampler)
    sigmas = sigmas_for(schedule, sampler, runs.levels, request.steps, tweaks_of(request), request.discard_penultimate)
    noise = noise_for(request, model, (request.width, request.height))
    options = sampler.options(request.eta, request.s_churn, request.s_tmin, request.s_tmax, request.s_noise)

    denoise = words.guided(runs, guidance_for(request, sampler))
    yield from ahead(noise)
    x = starting_point(sampler, sigmas, noise, request.sgm_noise_multiplier)
    latent = yield from sample(runs, sampler, x, sigmas, noise, denoise, options)
    pixels = yield from decode(model, latent)
    return Painted(pixels, model, schedule, words.said, runs.reading)


def _beside_nothing(model: ModelHandle, request: Txt2Img, words: Prompted) -> Program[Prompted]:
    """What networks with further channels are told when there is no picture.

    An inpainting network is to repaint all of a grey one, as in A1111.

    Raises:
        RequestError: it is an editing network, which makes nothing of words alone.
    """
    if model.further_channels == 0:
        return words
    if model.edits:
        raise RequestError(
            f"checkpoint {model.info.name!r} edits a given picture and cannot paint from words alone; "
            "give it a picture to start from (img2img), or choose another checkpoint"
        )
    latent = yield from encode_image(model, torch.zeros(3, request.height, request.width))
    return words.beside(mask_channels(torch.ones(1, request.height, request.width), latent))


def tweaks_of(request: Txt2Img) -> Tweaks:
    """What the request bends in its schedule."""
    return Tweaks(
        *(request.sigma_min, request.sigma_max, request.rho, request.beta_alpha, request.beta_beta),
        exact_steps=request.exact_steps,
    )


def noise_for(request: Txt2Img, model: ModelHandle, size: tuple[int, int], span: Sequence[float] = ()) -> Noise:
    """The noise of one image of `request` that is painted at `size` (width, height), in the latent space of `model`.

    `span` are the noise levels of its whole schedule where a part of it is run.
    """
    factor = model.latent.factor
    resize_from = (request.seed_resize_height // factor, request.seed_resize_width // factor)
    return Noise(
        request.seed,
        (model.latent.channels, size[1] // factor, size[0] // factor),
        model.device,
        request.rng,
        variation=(request.variation_seed, request.variation_strength) if request.variation_strength > 0 else None,
        resize_from=resize_from if min(resize_from) > 0 else None,
        delta=request.ensd,
        span=span,
    )
