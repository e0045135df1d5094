"""A random checkpoint in Stable Diffusion 2.x's layout: the real networks, only narrow, under the published file's names."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.checkpoints import keys
from modules.diffusion.clip import TextConfig
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.sdxl import linear_names, open_clip_names
from tests.tiny import drawn

TEXT = TextConfig(width=128, layers=3, heads=2, hidden=256, activation="gelu", layer=2, pad=0)
UNET = UNetConfig(
    channels=(64, 64, 128, 128),
    res_blocks=2,
    transformer_depth=(1, 1, 1, 0),
    context_dim=TEXT.width,
    heads=0,
    head_width=64,
)
VAE = VAEConfig(channels=(32, 32, 64, 64), res_blocks=1)

OPEN_CLIP = "cond_stage_model.model."
V_SPREAD = keys.UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def sd2_state(seed: int = 0, prefix: str = OPEN_CLIP, v: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in the file; `v` has the spread of bias by which v-prediction is told."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        networks = UNet(UNET), AutoencoderKL(VAE), TextEncoder(TEXT).networks
    parts = [{n: drawn(n, t.shape, generator) for n, t in network.state_dict().items()} for network in networks]
    state = {keys.UNET + name: linear_names(name, tensor) for name, tensor in parts[0].items()}
    bias = state[V_SPREAD] - state[V_SPREAD].mean()
    state[V_SPREAD] = bias / bias.std(correction=0) * (0.1 if v else 0.05)
    state |= {keys.VAE + name: tensor for name, tensor in parts[1].items()}
    state |= {prefix + name: tensor for name, tensor in open_clip_names(parts[2]).items()}
    state |= {prefix + "text_projection": torch.ones(TEXT.width, TEXT.width), prefix + "logit_scale": torch.tensor(4.6)}
    return state
