"""Random checkpoints in the layout of the original latent-diffusion models: the real networks, only narrow.

Names and shapes follow CompVis' published configurations (what is attended to where, first stages, conditioning).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.diffusion.bert import BERTConfig, BERTText
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.tiny import drawn

VQ = VAEConfig(channels=(32, 32, 64), res_blocks=1, latent_channels=3, codebook=64)
VQ_F8 = VAEConfig(channels=(32, 32, 32, 64), res_blocks=1, codebook=64, attention=(False, False, False, True))
KL = VAEConfig(channels=(32, 32, 32, 64), res_blocks=1)
NARROW = UNetConfig(in_channels=3, out_channels=3, channels=(32, 64), res_blocks=1, transformer_depth=(0, 1), context_dim=32)
SELF = replace(NARROW, self_only=True, context_dim=1, heads=0, head_width=32)
BERT = BERTConfig(width=32, layers=2, heads=1, inner=64, hidden=64)
CLASSES = 1001
MAP_CLASSES = 182

UNETS = {
    "ldm-text": replace(NARROW, in_channels=4, out_channels=4, heads=8),
    "ldm-text-vq": replace(NARROW, heads=0, head_width=32),
    "ldm-class": replace(NARROW, heads=1),
    "ldm-class-f8": replace(NARROW, in_channels=4, out_channels=4, heads=0, head_width=32),
    "ldm-layout": replace(NARROW, heads=0, head_width=32),
    "ldm-unconditional": SELF,
    "ldm-unconditional-kl": replace(
        SELF,
        in_channels=4,
        out_channels=4,
        channels=(64, 64),
        transformer_depth=(1, 1),
        heads=8,
        head_width=0,
        scale_shift=True,
        resampling_blocks=True,
    ),
    "ldm-super-resolution": replace(SELF, in_channels=6),
    "ldm-inpaint": replace(SELF, in_channels=7, heads=8, head_width=0, resampling_blocks=True),
    "ldm-map": replace(SELF, in_channels=6, transformer_depth=(0, 0), heads=8, head_width=0),
}
"""By the names of the families (`families.ldm.MEMBERS`)."""
VAES = {
    "ldm-text": KL,
    "ldm-unconditional-kl": KL,
    "ldm-class-f8": VQ_F8,
    "ldm-inpaint": replace(VQ, middle_attention=False),
}
"""Of those that have another one than `VQ`."""
BETAS = {
    "ldm-text": (0.00085, 0.012),
    "ldm-unconditional-kl": (0.0015, 0.0155),
    "ldm-super-resolution": (0.0015, 0.0155),
    **dict.fromkeys(("ldm-layout", "ldm-inpaint", "ldm-map"), (0.0015, 0.0205)),
}
"""Of those that were trained otherwise than from 0.0015 to 0.0195."""
MEASURED = 0.6
"""The scale of latents that was measured in training, in files that have one."""


def condition_of(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what conditions this kind of checkpoint, below `cond_stage_model.`."""
    if name in ("ldm-text", "ldm-text-vq", "ldm-layout"):
        config = replace(BERT, vocabulary=8192, positions=92) if name == "ldm-layout" else BERT
        with torch.device("meta"):
            network = BERTText(config)
        shapes = {f"transformer.{own}": tuple(each.shape) for own, each in network.state_dict().items()}
        width = (config.vocabulary, config.width)
        return shapes | {"transformer.to_logits.weight": width, "transformer.to_logits.bias": width[:1]}
    if name.startswith("ldm-class"):
        return {"embedding.weight": (CLASSES if name == "ldm-class" else 1000, NARROW.context_dim)}
    return {"channel_mapper.weight": (3, MAP_CLASSES, 1, 1)} if name == "ldm-map" else {}


def ldm_state(name: str, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in the file."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {keys.UNET: UNet(UNETS[name]), keys.VAE: AutoencoderKL(VAES.get(name, VQ))}
    shapes = {
        prefix + own: tuple(each.shape) for prefix, network in networks.items() for own, each in network.state_dict().items()
    }
    shapes |= {f"cond_stage_model.{own}": shape for own, shape in condition_of(name).items()}
    state = {own: drawn(own, torch.Size(shape), generator) for own, shape in shapes.items()}
    state = {own: each[..., None] if own.endswith(("qkv.weight", ".1.proj_out.weight")) and each.dim() == 2 else each
             for own, each in state.items()}  # fmt: skip
    first, last = BETAS.get(name, (0.0015, 0.0195))
    state["betas"] = torch.linspace(first**0.5, last**0.5, 1000, dtype=torch.float64).square().float()
    if name == "ldm-unconditional-kl":
        state["scale_factor"] = torch.tensor(MEASURED)
    if name == "ldm-inpaint":  # its conditioning is its first stage, which the file has twice
        copies = {own.replace(keys.VAE, "cond_stage_model."): each for own, each in state.items() if own.startswith(keys.VAE)}
        state |= copies
    return state
