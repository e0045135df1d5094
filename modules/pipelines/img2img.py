"""The story of a picture from a picture, top to bottom: img2img, inpainting, outpainting and editing are one run.

What differs is data: a frame with or without a mask (`framing`), a blend around the denoiser (`inpainting`), further channels
for networks that were trained with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import Sampler, find_sampler
from modules.diffusion.schedules import Partial, partial_sigmas, resolve_schedule
from modules.pipelines.framing import LATENT_UPSCALE, Frame, framed, rounded
from modules.pipelines.guidance import guidance_for
from modules.pipelines.inpainting import blend_for, inpainted, inpainted_before, kept, mask_channels, masked_image
from modules.pipelines.prompting import Prompted, prompted
from modules.pipelines.sampling import ahead, sample
from modules.pipelines.txt2img import Painted, noise_for, tweaks_of
from modules.pipelines.work import Program, decode, encode_image, load, on_host
from modules.pixels import Floats, Picture, colour, masks
from modules.request import Img2Img


def img2img(request: Img2Img, source: Image.Image, mask: Image.Image | None = None) -> Program[Painted]:
    """Paint one image of `request`, whose seed and checkpoint are resolved and whose count is 1, from its pictures.

    `source` is RGB or RGBA, `mask` any picture of a mask (`pixels.masks.from_image`).
    """
    assert request.seed >= 0, "the seed is resolved before it reaches a pipeline"
    assert request.checkpoint, "the checkpoint is resolved before it reaches a pipeline"
    model = yield from load(request.checkpoint)
    native = model.info.defaults.width, model.info.defaults.height
    framing = partial(framed, request, source, mask, native, model.latent.factor)
    frame = yield from on_host(framing)
    del source, mask, framing  # a large picture and many jobs: what is still needed of them is in the frame
    sampler, _ = find_sampler(request.sampler)
    words = yield from prompted(model, request, sampler)
    start = yield from _started(model, request, frame)
    words = yield from _beside_source(model, request, frame, start, words)

    runs = model.run_as(request.prediction, request.zero_snr, request.ignore_zero_snr)
    schedule = resolve_schedule(request.schedule, sampler)
    part = yield from on_host(lambda: _part(request, runs, schedule, sampler))
    latent = yield from _repainted(runs, request, sampler, words, start, part)

    pixels = yield from decode(model, latent)
    moved = (latent - start.latent).norm(dim=0).cpu().numpy() if request.soft_inpainting else None
    result, facts = yield from on_host(lambda: _finished(request, frame, start, pixels.numpy(), moved))
    extras = {**_extras(request, model, frame), **words.said}
    return Painted(torch.tensor(result), model, schedule, extras, {**runs.reading, **facts})


@dataclass(frozen=True, eq=False)
class Start:
    """`latent` (C, h, w) is what noise is added to, and what is kept where `mask` (1, h, w) is 0; no mask repaints everything.

    `shown` is the source's own latent, the same unless the masked content is made of the latent itself.
    """

    latent: Tensor
    shown: Tensor
    mask: Tensor | None = None


def _started(model: ModelHandle, request: Img2Img, frame: Frame) -> Program[Start]:
    """The source's latent, and the mask at its size."""
    latent = yield from encode_image(model, tensor_of(frame.picture))
    if frame.mask is None:
        if request.resize_mode == LATENT_UPSCALE:
            factor = model.latent.factor
            latent = interpolate(latent[None], size=(request.height // factor, request.width // factor), mode="bilinear")[0]
        return Start(latent, latent)
    small = masks.latent_mask(frame.mask, latent.shape[2], latent.shape[1], rounded(request))
    mask = torch.from_numpy(small).to(latent)[None]
    if request.masked_content == "latent noise":
        content = Noise(request.seed, latent.shape, model.device, request.rng)
        yield from ahead(content)
        fresh = content()
        return Start(latent * (1.0 - mask) + fresh * mask, latent, mask)
    if request.masked_content == "latent nothing":
        return Start(latent * (1.0 - mask), latent, mask)
    return Start(latent, latent, mask)


def _beside_source(model: ModelHandle, request: Img2Img, frame: Frame, start: Start, words: Prompted) -> Program[Prompted]:
    """The words, for networks with further channels beside what they are told of the source."""
    if model.further_channels == 0:
        return words
    if model.edits:  # they are shown the latent as the autoencoder gives it, unscaled and without noise at any level
        return words.beside(model.latent.raw(start.shown), request.image_cfg_scale)
    image = tensor_of(frame.picture)
    mask = torch.ones(1, *image.shape[1:])
    if frame.mask is not None:
        mask = torch.from_numpy(frame.mask.astype(np.float32) / 255.0)[None]
        mask = mask.round() if rounded(request) else mask
    latent = yield from encode_image(model, masked_image(image, mask, request.conditioning_mask_strength))
    if latent.shape != start.latent.shape:  # "latent upscale": what stands beside x grows with it
        latent = interpolate(latent[None], size=start.latent.shape[1:], mode="bilinear")[0]
    return words.beside(mask_channels(mask, latent))


def _part(request: Img2Img, model: ModelHandle, schedule: str, sampler: Sampler) -> Partial:
    """The noise levels that the request's strength asks for."""
    return partial_sigmas(
        schedule,
        sampler,
        model.levels,
        request.steps,
        request.denoising_strength,
        request.fix_steps,
        tweaks_of(request),
        request.discard_penultimate,
    )


def _repainted(
    model: ModelHandle, request: Img2Img, sampler: Sampler, words: Prompted, start: Start, part: Partial
) -> Program[Tensor]:
    """The run itself: noise is added to the start, taken away again, and what is kept is put back once more at the end."""
    if not part.sigmas:
        return start.latent
    factor = model.latent.factor
    noise = noise_for(request, model, (start.latent.shape[2] * factor, start.latent.shape[1] * factor), part.span)
    yield from ahead(noise)
    drawn = noise() * request.noise_multiplier
    x = (start.latent + drawn * (part.noised + request.extra_noise)) * part.start_scale()

    run = request.model_copy(update={"steps": len(part.sigmas) - 1})  # parts of a run are counted in what is run
    denoise = words.guided(model, guidance_for(run, sampler))
    options = sampler.options(request.eta, request.s_churn, request.s_tmin, request.s_tmax, request.s_noise)
    if start.mask is None:
        return (yield from sample(model, sampler, x, part.sigmas, noise, denoise, options))

    blend = blend_for(request, start.latent, start.mask, model, part.sigmas[0])
    before = sampler.unit_start and (request.soft_inpainting or not request.differential)
    denoise = (inpainted_before if before else inpainted)(denoise, blend)
    grown = (start.mask > 0).to(start.mask) if request.soft_inpainting or request.differential else start.mask
    put_back = kept(start.latent, grown)
    latent = yield from sample(model, sampler, x, part.sigmas, noise, denoise, options, lambda x0: put_back(x0, 0.0))
    return latent if request.soft_inpainting else put_back(latent, 0.0)


def _finished(
    request: Img2Img, frame: Frame, start: Start, painted: Picture, moved: Floats | None
) -> tuple[Picture, dict[str, str]]:
    """The picture that the user gets, and what the record says about it.  `moved` is how far the latent went, (h, w)."""
    if request.color_correction:
        painted = colour.color_correct(painted, frame.picture)
    facts = {"notes": ". ".join(frame.notes)} if frame.notes else {}
    if moved is not None and start.mask is not None:
        return frame.returned(painted, frame.adaptive(request, moved, start.mask[0].cpu().numpy())), facts
    result = frame.returned(painted)
    seam = frame.seam(result)
    return result, facts | ({"seam error": f"{seam:.2f}"} if seam is not None else {})


def _extras(request: Img2Img, model: ModelHandle, frame: Frame) -> Mapping[str, str]:
    """Items of the text, under A1111's names, that the request alone does not tell."""
    extras = {"Init image hash": frame.digest}
    if model.further_channels and not model.edits:
        extras["Conditional mask weight"] = f"{request.conditioning_mask_strength:g}"
    return extras


def tensor_of(picture: Picture) -> Tensor:
    """(3, H, W) float32 in [-1, 1]."""
    return torch.tensor(picture).permute(2, 0, 1).float() / 127.5 - 1.0
