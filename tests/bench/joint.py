"""Seconds of one forward of SD 3 and Flux at full width and a part of their depth, beside diffusers on the same weights.

The two take turns, so that a machine whose speed drifts is fair to both.  512x512 pixels, one row; in bfloat16 on a GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from diffusers import FluxPipeline

from modules.diffusion.attention import choose_attention
from modules.diffusion.flux import FluxConfig
from modules.diffusion.layers import timestep_embedding
from modules.diffusion.mmdit import MMDiTConfig
from tests.bench import Figure
from tests.diffusion import test_joint_networks as networks

TURNS = 3
SD3 = MMDiTConfig(depth=4)
FLUX = FluxConfig(doubles=1, singles=2)


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    """Needs about 8 GB."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    attention = choose_attention("auto", device)
    for title, make in (("SD 3 medium, 4 blocks", _sd3), ("Flux, 1 double and 2 single blocks", _flux)):
        ours, theirs = make(device, dtype)
        mine, peer = [], []
        difference = float((ours() - theirs()).abs().max() / theirs().abs().max())
        for _ in range(TURNS):
            mine.append(_seconds(ours, device))
            peer.append(_seconds(theirs, device))
        how = f"{device.type}, {str(dtype).removeprefix('torch.')}, {attention.name}, median of {TURNS}"
        yield Figure(title, statistics.median(mine), "s", how)
        yield Figure("the same in diffusers", statistics.median(peer), "s", how)
        yield Figure("ratio, turn by turn", statistics.median(a / b for a, b in zip(mine, peer, strict=True)), "")
        yield Figure("largest relative difference", difference, "")


Call = Callable[[], torch.Tensor]


def _inputs(device: torch.device, dtype: torch.dtype, tokens: int, pooled: int) -> tuple[torch.Tensor, ...]:
    shapes = ((1, 16, 64, 64), (1, tokens, 4096), (1, pooled))
    x, context, vector = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)
    return x, torch.full((1,), 500.0, device=device), context, vector


def _sd3(device: torch.device, dtype: torch.dtype) -> tuple[Call, Call]:
    theirs, ours = (each.to(device, dtype) for each in networks.sd3(replace(SD3, positions=64)))
    x, timesteps, context, vector = _inputs(device, dtype, 154, 2048)
    return lambda: ours(x, timesteps, context, vector), lambda: theirs(x, context, vector, timesteps).sample


def _flux(device: torch.device, dtype: torch.dtype) -> tuple[Call, Call]:
    theirs, ours = (each.to(device, dtype) for each in networks.flux(FLUX))
    x, timesteps, context, vector = _inputs(device, dtype, 512, 768)
    scale = torch.tensor([3.5], device=device)
    guided = torch.cat([vector, timestep_embedding(1000 * scale, 256).to(dtype)], dim=1)
    packed: dict[str, Any] = {
        "hidden_states": FluxPipeline._pack_latents(x, 1, 16, 64, 64),
        "encoder_hidden_states": context,
        "pooled_projections": vector,
        "timestep": timesteps / 1000,
        "img_ids": FluxPipeline._prepare_latent_image_ids(1, 32, 32, device, dtype),
        "txt_ids": torch.zeros(512, 3, device=device, dtype=dtype),
        "guidance": scale,
    }
    return (
        lambda: ours(x, timesteps, context, guided),
        lambda: FluxPipeline._unpack_latents(theirs(**packed).sample, 512, 512, 8),
    )


def _seconds(call: Call, device: torch.device) -> float:
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
