"""A random checkpoint in Stable Diffusion XL's layout: the real networks, only narrow, under the published file's names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.completeness import FEATURES
from modules.diffusion.clip import TextConfig
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.tiny import drawn, write

TEXT = TextConfig(width=64, layers=3, heads=1, hidden=128, layer=2, normalised=False)
TEXT_2 = TextConfig(
    width=128, layers=3, heads=2, hidden=256, projection=128, activation="gelu", layer=2, normalised=False, pad=0
)
UNET = UNetConfig(
    channels=(64, 128, 128),
    transformer_depth=(0, 1, 2),
    middle_depth=2,
    context_dim=TEXT.width + TEXT_2.width,
    heads=0,
    head_width=64,
    vector_width=TEXT_2.projection + 6 * FEATURES,
)
VAE = VAEConfig(channels=(32, 32, 64, 64), res_blocks=1)

OPEN_CLIP = "conditioner.embedders.1.model."

_OPEN_CLIP_NAMES = (
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.out_proj.", ".attn.out_proj."),
)


def sdxl_state(
    seed: int = 0,
    unet: UNetConfig = UNET,
    vae: VAEConfig = VAE,
    texts: tuple[TextConfig, TextConfig] = (TEXT, TEXT_2),
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in the file."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        networks = UNet(unet), AutoencoderKL(vae), *(TextEncoder(text).networks for text in texts)
    parts = [{n: drawn(n, t.shape, generator).to(dtype) for n, t in network.state_dict().items()} for network in networks]
    state = {keys.UNET + name: linear_names(name, tensor) for name, tensor in parts[0].items()}
    state |= {keys.VAE + name: tensor for name, tensor in parts[1].items()}
    state |= {"conditioner.embedders.0.transformer.text_model." + name: tensor for name, tensor in parts[2].items()}
    state["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state |= {OPEN_CLIP + name: tensor for name, tensor in open_clip_names(parts[3]).items()}
    return {**state, OPEN_CLIP + "logit_scale": torch.tensor(4.6), "denoiser.sigmas": torch.ones(1000)}


REFINER_TEXT = TEXT_2
REFINER_UNET = UNetConfig(
    channels=(64, 128, 128),
    transformer_depth=(0, 1, 0),
    middle_depth=1,
    context_dim=TEXT_2.width,
    heads=0,
    head_width=64,
    vector_width=TEXT_2.projection + 5 * FEATURES,
)
REFINER_OPEN_CLIP = "conditioner.embedders.0.model."


def refiner_state(seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a refiner: one text encoder, OpenCLIP's, and an aesthetic score in the vector."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        networks = UNet(REFINER_UNET), AutoencoderKL(VAE), TextEncoder(REFINER_TEXT).networks
    parts = [{n: drawn(n, t.shape, generator) for n, t in network.state_dict().items()} for network in networks]
    state = {keys.UNET + name: linear_names(name, tensor) for name, tensor in parts[0].items()}
    state |= {keys.VAE + name: tensor for name, tensor in parts[1].items()}
    state |= {REFINER_OPEN_CLIP + name: tensor for name, tensor in open_clip_names(parts[2]).items()}
    return {**state, REFINER_OPEN_CLIP + "logit_scale": torch.tensor(4.6)}


def sdxl_checkpoint(path: Path, seed: int = 0) -> Path:
    return write(path, sdxl_state(seed), {"modelspec.title": "Tiny XL", "atelier.native_size": "64x64"})


def linear_names(name: str, tensor: Tensor) -> Tensor:
    """SDXL keeps the projections around its transformers as linear layers."""
    return tensor[:, :, 0, 0].contiguous() if "proj_in.weight" in name or "proj_out.weight" in name else tensor


def open_clip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From transformers' names to OpenCLIP's, queries, keys and values fused."""
    fused: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == "text_projection.weight":
            fused["text_projection"] = tensor.T.contiguous()
        elif ".q_proj." in name:
            together = torch.cat([state[name.replace(".q_proj.", f".{each}_proj.")] for each in "qkv"])
            start, kind = name.split(".self_attn.q_proj.")
            fused[f"{start.replace('encoder.layers.', 'transformer.resblocks.')}.attn.in_proj_{kind}"] = together
        elif ".k_proj." not in name and ".v_proj." not in name:
            for ours, theirs in _OPEN_CLIP_NAMES:
                name = name.replace(ours, theirs)
            fused[name] = tensor
    return fused
