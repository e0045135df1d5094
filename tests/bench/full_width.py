"""Seconds per step of the full-width SD 1.5 U-Net at 512x512, beside diffusers on the same weights in the same run.

A step is one forward of two rows (guidance).  The two take turns, so that a machine whose speed drifts is fair to both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch

from modules.checkpoints import keys
from modules.diffusion.attention import choose_attention
from modules.diffusion.unet import UNet, UNetConfig
from tests.bench import Figure
from tests.diffusion import reference

TURNS = 3


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    """Needs about 8 GB; on a GPU the networks run in float16."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    attention = choose_attention("auto", device)
    ours = UNet(UNetConfig(), attention.attend).to(device, dtype).eval()
    state = {keys.UNET + name: tensor for name, tensor in ours.state_dict().items()}
    theirs = reference.unet(UNetConfig(), state).to(device, dtype)
    ours.to(memory_format=torch.channels_last)  # as the manager lays out weights

    x = torch.randn(2, 4, 64, 64, device=device, dtype=dtype)
    timesteps = torch.full((2,), 500.0, device=device)
    context = torch.randn(2, 77, 768, device=device, dtype=dtype)

    def step() -> torch.Tensor:
        return ours(x, timesteps, context)

    def their_step() -> torch.Tensor:
        return theirs(x, timesteps, context).sample

    difference = float((step() - their_step()).abs().max() / their_step().abs().max())
    mine, peer = [], []
    for _ in range(TURNS):
        mine.append(_seconds(step, device))
        peer.append(_seconds(their_step, device))
    how = f"{device.type}, {str(dtype).removeprefix('torch.')}, {attention.name}, median of {TURNS}"
    yield Figure("SD 1.5 step at 512x512, 2 rows", statistics.median(mine), "s", how)
    yield Figure("the same in diffusers", statistics.median(peer), "s", how)
    yield Figure("ratio, turn by turn", statistics.median(a / b for a, b in zip(mine, peer, strict=True)), "")
    yield Figure("largest relative difference", difference, "")


def _seconds(call: Callable[[], torch.Tensor], device: torch.device) -> float:
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
