"""A random checkpoint in the layout of SD x4 upscaler: the real networks, only narrow, under the published file's names."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.checkpoints import keys
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.sd2 import OPEN_CLIP, TEXT
from tests.sdxl import linear_names, open_clip_names
from tests.tiny import drawn

UNET = UNetConfig(
    in_channels=7,
    channels=(32, 64, 64, 128),
    transformer_depth=(0, 1, 1, 1),
    context_dim=TEXT.width,
    heads=8,
    classes=1000,
    cross_only=(False, True, True, False),
)
VAE = VAEConfig(channels=(32, 32, 64), res_blocks=1)
BETAS = ("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")


def x4_state(seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in the file."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        networks = UNet(UNET), AutoencoderKL(VAE), TextEncoder(TEXT).networks
    parts = [{n: drawn(n, t.shape, generator) for n, t in network.state_dict().items()} for network in networks]
    state = {keys.UNET + name: linear_names(name, tensor) for name, tensor in parts[0].items()}
    state |= {keys.VAE + name: tensor for name, tensor in parts[1].items()}
    state |= {OPEN_CLIP + name: tensor for name, tensor in open_clip_names(parts[2]).items()}
    state |= {OPEN_CLIP + "text_projection": torch.ones(TEXT.width, TEXT.width), OPEN_CLIP + "logit_scale": torch.tensor(4.6)}
    return state | {f"low_scale_model.{name}": torch.ones(1000) for name in BETAS} | {"betas": torch.ones(1000)}
