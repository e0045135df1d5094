"""What a stage starts from that does not start from noise: its init latent, and concat conditioning made of it.

Networks with further input channels get concat conditioning: inpainting networks a mask and the latent of the masked picture,
editing networks the latent of the init image; `enlarging` has that of networks that enlarge pictures, `maps` that of networks
that paint along a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.transfers import sent
from modules.pipelines.inpainting import mask_channels, masked_image
from modules.pipelines.ops import Program, decode, encode_image
from modules.pipelines.prompting import Prompted
from modules.pipelines.region import LATENT_UPSCALE, Region, rounded
from modules.pipelines.sampling import ahead
from modules.pipelines.stages import Stage
from modules.pipelines.upscaling import covering
from modules.pixels import Picture, masks
from modules.request import Img2Img

_LATENT_MODES = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
"""A1111's upscalers of latents (`shared_items.latent_upscale_modes`): torch's mode, and whether it is antialiased."""


@dataclass(frozen=True, eq=False)
class Init:
    """`latent` (C, h, w) is what noise is added to, and what is kept where `mask` (1, h, w) is 0; no mask repaints everything.

    `shown` is the init image's own latent, the same unless the masked content is made of the latent itself.
    """

    latent: Tensor
    shown: Tensor
    mask: Tensor | None = None


def init_of_region(model: ModelHandle, request: Img2Img, region: Region) -> Program[Init]:
    """The init image's latent, and the mask at its size."""
    latent = yield from encode_image(model, tensor_of(region.picture))
    if region.mask is None:
        if request.resize_mode == LATENT_UPSCALE:
            factor = model.latent.factor
            latent = interpolate(latent[None], size=(request.height // factor, request.width // factor), mode="bilinear")[0]
        return Init(latent, latent)
    small = masks.latent_mask(region.mask, latent.shape[2], latent.shape[1], rounded(request))
    mask = sent(torch.from_numpy(small), latent.device, latent.dtype)[None]
    if request.masked_content == "latent noise":
        content = Noise(request.seed, latent.shape, model.device, request.rng)
        yield from ahead(content)
        fresh = content()
        return Init(latent * (1.0 - mask) + fresh * mask, latent, mask)
    if request.masked_content == "latent nothing":
        return Init(latent * (1.0 - mask), latent, mask)
    return Init(latent, latent, mask)


def init_of_stage(model: ModelHandle, stage: Stage, latent: Tensor, before: ModelHandle) -> Program[Init]:
    """The result of the stage before, the latent (C, h, w) of its model `before`, at this one's size.

    It covers the new size, and what stands over is cut off evenly on both sides.  A1111 cuts the latent in both cases; here a
    picture is cut before it is encoded, as img2img's "Crop and resize" does.
    """
    width, height = stage.size
    if stage.start == "latent":
        factor = model.latent.factor
        latent = upscaled(latent, stage.upscaler, width // factor, height // factor)
        return Init(latent, latent)
    pixels = yield from decode(before, latent)
    large = yield from covering(pixels.numpy(), width, height, stage.upscaler)
    latent = yield from encode_image(model, tensor_of(large))
    return Init(latent, latent)


def upscaled(latent: Tensor, upscaler: str, width: int, height: int) -> Tensor:
    """`latent` (C, h, w) interpolated to cover (`height`, `width`), its middle: (C, height, width)."""
    scale = max(width / latent.shape[2], height / latent.shape[1])
    size = max(height, round(latent.shape[1] * scale)), max(width, round(latent.shape[2] * scale))
    mode, antialias = _LATENT_MODES[upscaler]
    large = interpolate(latent[None], size=size, mode=mode, antialias=antialias)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, top : top + height, left : left + width].contiguous()


def concat_init(model: ModelHandle, request: Img2Img, region: Region, init: Init, words: Prompted) -> Program[Prompted]:
    """The words, with concat conditioning of the init image where the network takes any."""
    if model.denoiser.further_channels == 0:
        return words
    if model.edits:  # they get the latent as the autoencoder gives it, unscaled and without noise at any level
        return words.concatenated(model.latent.to_edit(init.shown), request.image_cfg_scale)
    image = tensor_of(region.picture)
    mask = torch.ones(1, *image.shape[1:])
    if region.mask is not None:
        mask = torch.from_numpy(region.mask.astype(np.float32) / 255.0)[None]
        mask = mask.round() if rounded(request) else mask
    black = model.family.black_masks
    latent = yield from encode_image(model, masked_image(image, mask, request.conditioning_mask_strength, black))
    if latent.shape != init.latent.shape:  # "latent upscale": concat conditioning grows with x
        latent = interpolate(latent[None], size=init.latent.shape[1:], mode="bilinear")[0]
    return words.concatenated(mask_channels(mask, latent, black, model.denoiser.further_channels))


def concat_empty(model: ModelHandle, size: tuple[int, int], words: Prompted) -> Program[Prompted]:
    """The words, with the concat conditioning of networks that take any where there is no init image of `size`.

    An inpainting network is to repaint all of a grey one, as in A1111, in a second pass too.
    """
    if model.denoiser.further_channels == 0:
        return words
    width, height = size
    black, mask = model.family.black_masks, torch.ones(1, height, width)
    latent = yield from encode_image(model, masked_image(torch.zeros(3, height, width), mask, 1.0, black))
    return words.concatenated(mask_channels(mask, latent, black, model.denoiser.further_channels))


def tensor_of(picture: Picture) -> Tensor:
    """(3, H, W) float32 in [-1, 1]."""
    return torch.tensor(picture).permute(2, 0, 1).float() / 127.5 - 1.0
