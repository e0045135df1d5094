"""Weights in 8 bits: float8_e4m3fn (Micikevicius et al. 2022, arXiv:2209.05433), with a power of two for each output.

4 bits of exponent reach from 2^-9 to 448, and most weights of these networks are near the lower end, where the format has few
numbers.  So each output's weights are first multiplied by a power of two that brings the largest of them just below 448;
undoing that rounds nothing.  What is left is a rounding by a sixteenth at most, 0.027 of the weights in the mean square (normal
ones, measured); weights that were in this format before, without a scale, keep their values.
"""

from __future__ import annotations

import torch
from torch import Tensor

FORMAT = torch.float8_e4m3fn

LARGEST = 0.875
"""The mantissa of the largest number, 448 = 0.875 * 2^9."""

LEAST, MOST = -119, 24
"""Powers of two that numbers are multiplied by: the reciprocal of the greatest is still a number in float16."""


def suits(weight: Tensor) -> bool:
    """Whether it is a matrix or a convolution's kernel; biases and norms are small, and everything passes through them."""
    return weight.dim() >= 2 and weight.is_floating_point() and weight.dtype != FORMAT


def narrowed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, ...) as 8 bits of the same shape, and the (out, 1, ...) in its own format by which they are to be multiplied."""
    values = weight.float()
    largest = values.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
    mantissa, exponent = torch.frexp(largest)
    power = (9 - exponent - (mantissa > LARGEST).to(exponent.dtype)).clamp(min=LEAST, max=MOST)
    return (values * _two_to(power)).to(FORMAT), _two_to(-power).to(weight.dtype)


def _two_to(power: Tensor) -> Tensor:
    """2^power in float32 for whole numbers, int32, exactly: by its bits, as a device's powers may be rounded."""
    return ((power + 127) << 23).view(torch.float32)


def widen(narrow: Tensor, scale: Tensor, into: Tensor) -> None:
    """Write what 8 bits stand for `into` a tensor of the computing format."""
    into.copy_(narrow)
    into.mul_(scale)
