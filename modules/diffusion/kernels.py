"""What the networks compute between convolutions and matrix products, behind one interface.

`PlainKernels` are torch's operations, on every device.  A device may have fused ones (`triton_kernels`): one pass over memory
where torch makes several.  All agree with the plain ones up to rounding (`tests/diffusion/test_kernels.py`, `tests/gpu`).
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Kernels(Protocol):
    """Sizes: B batch, C channels, H W rows and columns, N tokens."""

    def group_norm(self, x: Tensor, norm: nn.GroupNorm, silu: bool = False, shift: Tensor | None = None) -> Tensor:
        """`norm` of x (B, C, H, W) + `shift` (B, C) or (C,), then SiLU where asked for."""

    def add_norm(self, x: Tensor, change: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        """The sum of x and `change` (B, N, C), and `norm` of it."""

    def add(self, x: Tensor, change: Tensor, bias: Tensor | None = None) -> Tensor:
        """x + `change` (B, C, H, W) + `bias` (C,)."""

    def geglu(self, x: Tensor) -> Tensor:
        """value * gelu(gate), (B, N, C), of both in x (B, N, 2 C), the value first."""

    def pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The 1x1 convolution of x (B, C, H, W) with `weight` (out, C, 1, 1)."""


class PlainKernels:
    """torch's own operations."""

    def group_norm(self, x: Tensor, norm: nn.GroupNorm, silu: bool = False, shift: Tensor | None = None) -> Tensor:
        if shift is not None:
            x = x + shift[..., None, None]
        out: Tensor = norm(x)
        return F.silu(out) if silu else out

    def add_norm(self, x: Tensor, change: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        total = x + change
        return total, norm(total)

    def add(self, x: Tensor, change: Tensor, bias: Tensor | None = None) -> Tensor:
        return x + change if bias is None else x + (change + bias[:, None, None])

    def geglu(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)

    def pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias)


PLAIN = PlainKernels()


@dataclass(frozen=True)
class KernelChoice:
    """Kernels and why they were taken; `reason` is printed once at start."""

    name: str
    reason: str
    kernels: Kernels


def choose_kernels(device: torch.device) -> KernelChoice:
    """Fused kernels where Triton has a compiler for `device` and they agree with the plain ones there, else the plain ones."""
    if device.type != "cuda":
        return KernelChoice("plain", f"torch's operations on {device.type}", PLAIN)
    if importlib.util.find_spec("triton") is None:
        return KernelChoice("plain", "triton is not installed", PLAIN)
    try:
        kernels: Kernels = importlib.import_module("modules.diffusion.triton_kernels").TritonKernels()
        if wrong := disagreement(kernels, device):
            return KernelChoice("plain", f"triton's differ from torch's: {wrong}", PLAIN)
    except Exception as error:  # Triton raises its own, the compiler's and the driver's types: any means "not here"
        return KernelChoice("plain", f"triton does not run here ({str(error).strip().splitlines()[0:1] or error!r})", PLAIN)
    return KernelChoice("triton", f"triton {importlib.import_module('triton').__version__}", kernels)


def disagreement(kernels: Kernels, device: torch.device, dtype: torch.dtype = torch.float16) -> str:
    """Where `kernels` differ from the plain ones by more than rounding on small random input; empty where they do not."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    with torch.device(device):
        group, layer = nn.GroupNorm(32, 320, dtype=dtype), nn.LayerNorm(320, dtype=dtype)
    for norm in (group, layer):
        norm.weight.data, norm.bias.data = draw(320), draw(320)
    image = draw(2, 320, 9, 7).contiguous(memory_format=torch.channels_last)
    other, tokens, change = draw(2, 320, 9, 7).contiguous(memory_format=torch.channels_last), draw(2, 63, 320), draw(2, 63, 320)
    shift, bias, both, weight = draw(2, 320), draw(320), draw(2, 63, 640), draw(640, 320, 1, 1) / 16
    with torch.inference_mode():
        for what, ours, plain in (
            ("group_norm", kernels.group_norm(image, group, True, shift), PLAIN.group_norm(image, group, True, shift)),
            ("add_norm", kernels.add_norm(tokens, change, layer)[1], PLAIN.add_norm(tokens, change, layer)[1]),
            ("add", kernels.add(image, other, bias), PLAIN.add(image, other, bias)),
            ("geglu", kernels.geglu(both), PLAIN.geglu(both)),
            ("pointwise", kernels.pointwise(image, weight, bias.repeat(2)), PLAIN.pointwise(image, weight, bias.repeat(2))),
        ):
            difference = float((ours.float() - plain.float()).norm() / plain.float().norm())
            if not difference <= 4 * torch.finfo(dtype).eps:
                return f"{what} by {difference:.1e}"
    return ""
