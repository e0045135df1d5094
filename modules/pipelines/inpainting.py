"""Inpainting in latent space: how a mask holds the rest while a sampler runs, and concat conditioning of inpainting networks.

A mask here is a tensor (1, h, w) of the latent's size, 1 where it is repainted.  Everything wraps denoisers, so it works with
every sampler; where the mask comes from is `region`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.samplers import Denoised
from modules.diffusion.transfers import sent
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.ops import Program
from modules.pixels import soft
from modules.request import Img2Img

Blend = Callable[[Tensor, float], Tensor]
"""(latent (C, h, w), sigma) -> the same with the init latent's own where it is kept."""


def kept(init: Tensor, mask: Tensor) -> Blend:
    """latent * mask + init * (1 - mask), at every noise level."""
    return lambda latent, sigma: latent * mask + init * (1.0 - mask)


def differential(init: Tensor, mask: Tensor, model: ModelHandle, first: float) -> Blend:
    """Each grey level joins in when its own strength is reached: differential diffusion (Levin & Fried 2023, algorithm 1).

    The run begins at the level `first`; a place with grey g is held to the init latent until the timestep has fallen to g times
    that of `first`.  So white is repainted with the run's whole strength, black not at all.
    """
    start = max(1.0, model.noise.trained.timestep(first))

    def blend(latent: Tensor, sigma: float) -> Tensor:
        reached = ((mask >= model.noise.trained.timestep(sigma) / start) & (mask > 0)).to(latent.dtype)
        return latent * reached + init * (1.0 - reached)

    return blend


def softened(init: Tensor, mask: Tensor, bias: float, preservation: float, boost: float) -> Blend:
    """A1111's soft inpainting: the mask opens as the noise falls (`pixels.soft.exponent`), and in transitions the longer of
    the two latents decides over the length (`boost`, the exponent of a power mean), which keeps contrast."""

    def blend(latent: Tensor, sigma: float) -> Tensor:
        weight = torch.where(mask > 0, mask ** soft.exponent(sigma, bias, preservation), 0.0)
        mixed = init * (1.0 - weight) + latent * weight
        lengths = [part.norm(dim=0, keepdim=True).double() for part in (init, latent, mixed)]
        wanted = (lengths[0] ** boost * (1.0 - weight) + lengths[1] ** boost * weight) ** (1.0 / boost)
        held: Tensor = mixed * (wanted / lengths[2].clamp(min=1e-6)).to(mixed.dtype)
        return held

    return blend


def blend_for(request: Img2Img, init: Tensor, mask: Tensor, model: ModelHandle, first: float) -> Blend:
    """How `request` holds `init` where it is not painted; its run begins at the level `first`."""
    if request.soft_inpainting:
        return softened(init, mask, request.soft_bias, request.soft_preservation, request.soft_contrast_boost)
    if request.differential:
        return differential(init, mask, model, first)
    return kept(init, mask)


def inpainted(denoise: Denoiser, blend: Blend) -> Denoiser:
    """`denoise` with its answers held to the init latent where nothing is painted: x then follows it + noise there."""

    def denoise_part(x: Tensor, sigma: float) -> Program[Denoised]:
        answer = yield from denoise(x, sigma)
        return Denoised(blend(answer.guided, sigma), blend(answer.negative, sigma))

    return denoise_part


def inpainted_before(denoise: Denoiser, blend: Blend) -> Denoiser:
    """What A1111 does for its samplers on timesteps: the init latent, without noise, is put into x before the network sees it.

    The network answers with noise there, which the sampler takes from its own x; here, where it answers with the denoised x,
    that is what is left of x after the same noise.  In the variance-preserving form y = x / sqrt(1 + sigma^2), as there.
    """

    def denoise_part(x: Tensor, sigma: float) -> Program[Denoised]:
        scale = (1.0 + sigma * sigma) ** 0.5
        shown = blend(x / scale, sigma) * scale
        answer = yield from denoise(shown, sigma)
        return Denoised(answer.guided + (x - shown), answer.negative + (x - shown))

    return denoise_part


def masked_image(image: Tensor, mask: Tensor, strength: float, black: bool = False) -> Tensor:
    """What an inpainting network is shown of a picture (3, H, W) in [-1, 1]: grey where `mask` (1, H, W) is 1, or `black`.

    `strength` is A1111's conditioning mask strength: 0 shows everything.
    """
    shown = 1.0 - strength * mask
    return (image + 1.0) * shown - 1.0 if black else image * shown


def mask_channels(mask: Tensor, latent: Tensor, black: bool = False, further: int = 0) -> Tensor:
    """The `further` channels of an inpainting network: `mask` (1, H, W), nearest at the latent's size, and the masked picture's
    `latent` (C, h, w).

    As in the training of SD 1.5's inpainting model (Rombach et al. 2022, section 4.5); with `black` as in that of latent
    diffusion's (its `scripts/inpaint.py`): the mask behind the latent, as -1 and 1.  Flux Fill has the latent first and then
    every pixel of the mask, a channel for each of those of a position.
    """
    factor = math.isqrt(max(0, further - latent.shape[0]))
    if factor > 1:
        height, width = latent.shape[1] * factor, latent.shape[2] * factor
        whole = sent(mask, latent.device, latent.dtype)[None]
        if whole.shape[2:] != (height, width):
            whole = torch.nn.functional.interpolate(whole, size=(height, width), mode="nearest")
        return torch.cat([latent, torch.nn.functional.pixel_unshuffle(whole, factor)[0]])
    small = torch.nn.functional.interpolate(
        sent(mask, latent.device, latent.dtype)[None], size=latent.shape[1:], mode="nearest"
    )[0]
    return torch.cat([latent, small * 2.0 - 1.0]) if black else torch.cat([small, latent])
