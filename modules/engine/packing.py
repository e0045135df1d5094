"""Whether weights in oneDNN's layouts (`diffusion.packed`) are faster on this CPU: measured, on a layer of each kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from modules.diffusion.accelerators import Accelerate, UNetForward, eager
from modules.diffusion.forward import Conv2d, Linear
from modules.diffusion.packed import PackedConv2d, PackedLinear, pack
from modules.diffusion.unet import UNet
from modules.engine.formats import Timer, seconds

FASTER = 1.05
"""Weights are packed where that makes a convolution so many times as fast."""

POSSIBLE = 1e-3
"""The same where it was asked for: a busy machine's measurement takes it from nobody, but 0 says that it cannot be."""

ROUNDING = 16
"""The difference between two libraries' sums that counts as rounding, in units of the number format's precision."""

CHANNELS, PLACES = 640, 4
"""The convolution's channels, and the rows and columns of its feature map."""

WIDTH, POSITIONS = 1280, 64
"""The linear layer's width, and how many positions it is computed for."""


def packing_speed(dtype: torch.dtype, timer: Timer = seconds) -> tuple[float, float]:
    """How many times as fast a 3x3 convolution and a linear layer are with their weights packed; 0 where that cannot be, or
    something else comes out.  Small inputs, as the inner levels of a U-Net have them.  About 0.2 s.
    """
    plain = Conv2d(CHANNELS, CHANNELS, 3, padding=1, dtype=dtype)
    plain.weight.data = plain.weight.data.contiguous(memory_format=torch.channels_last)
    x = torch.randn(2, CHANNELS, PLACES, PLACES).to(dtype).contiguous(memory_format=torch.channels_last)
    tokens = torch.randn(2, POSITIONS // 2, WIDTH).to(dtype)
    return _speed(plain, x, timer), _speed(Linear(WIDTH, WIDTH, dtype=dtype), tokens, timer)


def _speed(plain: Conv2d | Linear, x: Tensor, timer: Timer) -> float:
    packed = copy.deepcopy(plain)
    with torch.inference_mode():
        pack(packed)
        try:
            expected = plain(x).float()
            difference = (packed(x).float() - expected).norm() / expected.norm()
        except (RuntimeError, AttributeError):  # no kernels for this number format; a torch that was built without oneDNN
            return 0.0
        if not isinstance(packed, PackedConv2d | PackedLinear) or not difference <= ROUNDING * torch.finfo(x.dtype).eps:
            return 0.0
        before, after = timer([lambda: plain(x), lambda: packed(x)])
        return before / after


@lru_cache
def measured_packing_speed(dtype: torch.dtype) -> tuple[float, float]:
    """`packing_speed` of one thread, once in this process: threads that wait for each other measure the machine's load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return packing_speed(dtype)
    finally:
        torch.set_num_threads(threads)


def by_packing(
    speed: Callable[[torch.dtype], tuple[float, float]] = measured_packing_speed, faster: float = FASTER
) -> Accelerate:
    """Evaluate U-Nets with their weights packed, in number formats in which `speed` says that a convolution is `faster`; of
    linear layers where it is as fast."""

    def packed(unet: UNet) -> UNetForward:
        convolution, linear = speed(next(unet.parameters()).dtype)
        if convolution >= faster:
            pack(unet, matrices=linear >= 1.0)
        return eager(unet)

    return packed
