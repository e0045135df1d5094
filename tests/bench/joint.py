"""Seconds of one forward of SD 3 and Flux in a part of their depth, beside diffusers on the same weights; and of Flux whose
layers keep quantised numbers, beside the same network without.

The two take turns, so that a machine whose speed drifts is fair to both.  512x512 pixels, one row; in bfloat16 on a GPU.
On a CPU it is processor time, of all threads together.
Networks are half as wide as the published ones, which takes 4 GB; `BENCH_WIDTH=all` takes them at their full width, and 12 GB.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline

from modules.diffusion.attention import choose_attention
from modules.diffusion.block_formats import BLOCK_FORMATS
from modules.diffusion.flux import Flux, FluxConfig
from modules.diffusion.layers import timestep_embedding
from modules.diffusion.mmdit import MMDiTConfig
from modules.diffusion.quantised import QuantisedLinear, fits
from tests.bench import Figure
from tests.diffusion import test_joint_networks as networks
from tests.k_quants import random_blocks

TURNS = 3
WHOLE = os.environ.get("BENCH_WIDTH", "narrow") == "all"
_PART = 1 if WHOLE else 2
SD3 = MMDiTConfig(depth=4, width=1536 // _PART, heads=24 // _PART, hidden=6144 // _PART)
FLUX = FluxConfig(doubles=1, singles=2, width=3072 // _PART, heads=24 // _PART)
FORMS = ("Q8_0", "Q4_0", "Q4_K")


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    """See the module."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    attention = choose_attention("auto", device)
    width = "" if WHOLE else ", half as wide"
    how = f"{device.type}, {str(dtype).removeprefix('torch.')}, {attention.name}, median of {TURNS}"
    for title, make in ((f"SD 3 medium, 4 blocks{width}", _sd3), (f"Flux, 1 double and 2 single blocks{width}", _flux)):
        ours, theirs = make(device, dtype)
        difference = float((ours() - theirs()).abs().max() / theirs().abs().max())
        yield from _beside(title, ours, "the same in diffusers", theirs, device, how)
        yield Figure("largest relative difference, millionths", 1e6 * difference, "")
        del ours, theirs
    for form in FORMS:
        ours, plain = _quantised(form, device, dtype)
        yield from _beside(f"Flux{width}, layers in {form}", ours, "the same with plain weights", plain, device, how)
        yield Figure("equal to the bit", float(torch.equal(ours(), plain())), "")


def _beside(title: str, ours: Call, peer: str, theirs: Call, device: torch.device, how: str) -> Iterator[Figure]:
    """Both in turns, after one of each that is not counted."""
    times = [(_seconds(ours, device), _seconds(theirs, device)) for _ in range(TURNS + 1)][1:]
    yield Figure(title, statistics.median(mine for mine, _ in times), "s", how)
    yield Figure(peer, statistics.median(other for _, other in times), "s", how)
    yield Figure("ratio, turn by turn", statistics.median(mine / other for mine, other in times), "")


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


def _quantised(form: str, device: torch.device, dtype: torch.dtype) -> tuple[Call, Call]:
    """Forwards of Flux whose layers keep numbers in this format, and of one with the same as plain weights."""
    kept, plain = Flux(FLUX).to(device, dtype), Flux(FLUX).to(device, dtype)
    for tensor in kept.parameters():
        tensor.copy_(torch.randn(tensor.shape, device=device) / 50)
    plain.load_state_dict(kept.state_dict())
    generator = np.random.default_rng(1)
    for name, layer in list(kept.named_modules()):
        if fits(layer, form):
            assert isinstance(layer, torch.nn.Linear)
            QuantisedLinear.take(layer, form, dtype)
            assert isinstance(layer, QuantisedLinear)
            rows, size = layer.packed.shape
            blocks = torch.frombuffer(bytearray(random_blocks(generator, rows * size // _size(form), form)), dtype=torch.uint8)
            layer.load_state_dict({"packed": blocks.view(rows, size).to(device)}, strict=False, assign=True)
            plain.get_submodule(name).load_state_dict({"weight": layer.weight}, strict=False)
    x, timesteps, context, vector = _inputs(device, dtype, 512, 768 + 256)
    return lambda: kept(x, timesteps, context, vector), lambda: plain(x, timesteps, context, vector)


def _size(form: str) -> int:
    return BLOCK_FORMATS[form].size


def _seconds(call: Call, device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began
