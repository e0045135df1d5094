"""How a network enlarges a picture (SD x4 upscaler, latent diffusion's super-resolution): the init image is its low-resolution
picture, and noise its start.

The picture is brought to one pixel for a position of the latent, a quarter of the size that is painted, and follows the
channels of x.  SD x4 upscaler's gets noise of a level that the network is told as its class.  Source: `LatentUpscaleDiffusion`
and `ImageConcatWithNoiseAugmentation` of Stability AI's stablediffusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.noise import SEEDS, Noise
from modules.diffusion.transfers import numbers, sent
from modules.pipelines.init import tensor_of
from modules.pipelines.ops import Program
from modules.pipelines.prompting import Prompted
from modules.pipelines.region import LATENT_UPSCALE, Region
from modules.pipelines.sampling import ahead
from modules.pipelines.stages import Stage
from modules.request import Img2Img
from modules.request.starting import NOISE_LEVEL

SEED_OFFSET = -10
"""From the picture's seed to that of the low-resolution picture's noise, which is then not that of the start (ComfyUI's)."""


def from_noise(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages, each of which runs its whole schedule from noise."""
    return tuple([replace(stage, start="noise", strength=1.0) for stage in stages])


def low_resolution(request: Img2Img, factor: int) -> Img2Img:
    """The request at the size of its latent, as which the init image is looked at.  Pixels are resized, there is no latent."""
    mode = "Just resize" if request.resize_mode == LATENT_UPSCALE else request.resize_mode
    return request.model_copy(
        update={"width": request.width // factor, "height": request.height // factor, "resize_mode": mode}
    )


def concat_low_resolution(model: ModelHandle, request: Img2Img, region: Region, words: Prompted) -> Program[Prompted]:
    """The words, with the region's picture as concat conditioning; where it gets noise, its level is the network's class."""
    picture = tensor_of(region.picture)
    if not model.family.noises_low_res:
        return words.concatenated(sent(picture, model.device))
    level = NOISE_LEVEL if request.upscaler_noise_level is None else request.upscaler_noise_level
    drawn = Noise((request.seed + SEED_OFFSET) % SEEDS, picture.shape, model.device, request.rng)
    yield from ahead(drawn)
    channels = noised(sent(picture, model.device), drawn(), model.noise.trained.sigmas[level])
    return words.concatenated(channels, vector=numbers([float(level)], model.device, torch.float32))


def noised(picture: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """The picture with noise of this level at unit variance: sqrt(a) picture + sqrt(1 - a) noise, a = 1 / (sigma^2 + 1)."""
    alpha = 1.0 / (sigma * sigma + 1.0)
    kept: Tensor = picture * alpha**0.5 + noise * (1.0 - alpha) ** 0.5
    return kept
