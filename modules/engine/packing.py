"""Whether weights in oneDNN's layouts (`modules.diffusion.packed`) are faster on this CPU: measured, on one convolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from modules.diffusion.accelerators import Accelerate, UNetForward, eager
from modules.diffusion.forward import Conv2d
from modules.diffusion.packed import pack
from modules.diffusion.unet import UNet
from modules.engine.formats import Timer, seconds

FASTER = 1.05
"""Weights are packed where that makes a convolution so many times as fast."""

CHANNELS, PLACES = 640, 4
"""The convolution's channels, and the rows and columns of its feature map."""


def packing_speed(dtype: torch.dtype, timer: Timer = seconds) -> float:
    """How many times as fast a convolution is with its weight packed; 0 where it cannot be, or computes something else.

    One of 3x3 over two small feature maps, as a U-Net has many.  About 0.1 s.
    """
    plain, packed = (Conv2d(CHANNELS, CHANNELS, 3, padding=1, dtype=dtype).requires_grad_(False) for _ in range(2))
    packed.load_state_dict(plain.state_dict())
    plain.weight.data = plain.weight.data.contiguous(memory_format=torch.channels_last)
    x = torch.randn(2, CHANNELS, PLACES, PLACES).to(dtype).contiguous(memory_format=torch.channels_last)
    pack(packed)
    with torch.inference_mode():
        try:
            difference = (packed(x) - plain(x)).float().norm() / plain(x).float().norm()
        except RuntimeError:  # a processor without oneDNN, or without its kernels for this number format
            return 0.0
        if type(packed) is Conv2d or not difference <= 4 * torch.finfo(dtype).eps:
            return 0.0
        before, after = timer([lambda: plain(x), lambda: packed(x)])
        return before / after


@lru_cache
def measured_packing_speed(dtype: torch.dtype) -> float:
    """`packing_speed` of one thread, once in this process: threads that wait for each other measure the machine's load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return packing_speed(dtype)
    finally:
        torch.set_num_threads(threads)


def by_packing(speed: Callable[[torch.dtype], float] = measured_packing_speed) -> Accelerate:
    """Evaluate U-Nets with their weights packed, in number formats where `speed` says that it is fast enough."""

    def packed(unet: UNet) -> UNetForward:
        if speed(next(unet.parameters()).dtype) >= FASTER:
            pack(unet)
        return eager(unet)

    return packed
