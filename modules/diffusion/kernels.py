"""What the networks compute between convolutions and matrix products, behind one interface.

`PlainKernels` are torch's operations, on every device.  A device may have fused ones (`triton_kernels`): one pass over memory
where torch makes several.  All agree with the plain ones up to rounding (`tests/diffusion/test_kernels.py`, `tests/gpu`).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.attention.backends import first_line


class Kernels(Protocol):
    """Sizes: B batch, C channels, H W rows and columns, N tokens."""

    @property
    def late_bias(self) -> bool:
        """Whether a bias costs nothing where its layer's output is read next, but a pass of its own in the layer itself."""

    def group_norm(
        self, x: Tensor, norm: nn.GroupNorm, silu: bool = False, shift: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """`norm` of x (B, C, H, W) + `shift` (B, C) + `bias` (C,), then SiLU where asked for."""

    def layer_norm(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """`norm` of x (B, N, C)."""

    def add_norm(self, x: Tensor, change: Tensor, norm: nn.LayerNorm, later: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x + `change` (B, N, C) + `later` (C,), and `norm` of it without `later`."""

    def accumulate(self, total: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """`total` (B, N, C) + x (B, N, D) @ `weight` (C, D) transposed; `total` is not used any more."""

    def add(self, x: Tensor, change: Tensor, bias: Tensor | None = None) -> Tensor:
        """x + `change` (B, C, H, W) + `bias` (C,)."""

    def geglu(self, x: Tensor) -> Tensor:
        """value * gelu(gate), (B, N, C), of both in x (B, N, 2 C), the value first."""

    def pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The 1x1 convolution of x (B, C, H, W) with `weight` (out, C, 1, 1)."""


class PlainKernels:
    """torch's own operations."""

    late_bias = False

    def group_norm(
        self, x: Tensor, norm: nn.GroupNorm, silu: bool = False, shift: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        if shift is not None:
            x = x + (shift if bias is None else shift + bias)[..., None, None]
        elif bias is not None:
            x = x + bias[:, None, None]
        out: Tensor = norm(x)
        return F.silu(out) if silu else out

    def layer_norm(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x)  # type: ignore[no-any-return]

    def add_norm(self, x: Tensor, change: Tensor, norm: nn.LayerNorm, later: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x + change
        return (total if later is None else total + later), norm(total)

    def accumulate(self, total: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return total + F.linear(x, weight)

    def add(self, x: Tensor, change: Tensor, bias: Tensor | None = None) -> Tensor:
        return x + change if bias is None else x + (change + bias[:, None, None])

    def geglu(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)

    def pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias)


PLAIN = PlainKernels()

ROUNDING = 4
"""Kernels agree where they differ by at most so many times the number format's precision."""


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
        return KernelChoice("plain", f"triton does not run here ({first_line(error)})", PLAIN)
    return KernelChoice("triton", f"triton {importlib.import_module('triton').__version__}", kernels)


def disagreement(kernels: Kernels, device: torch.device, dtype: torch.dtype = torch.float16) -> str:
    """Where `kernels` differ from the plain ones by more than rounding; empty where they do not."""
    for name, difference in differences(kernels, device, dtype):
        if not difference <= ROUNDING * torch.finfo(dtype).eps:
            return f"{name} by {difference:.1e}"
    return ""


@torch.inference_mode()
def differences(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, float]]:
    """How far each of `kernels` is from the plain one in float64 on random input: the norm of the difference over its norm."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    with torch.device(device):
        group, layer = nn.GroupNorm(32, 320, dtype=dtype), nn.LayerNorm(320, dtype=dtype)
    for norm in (group, layer):
        norm.weight.data, norm.bias.data = draw(320), draw(320)

    def maps(height: int, width: int) -> Tensor:
        return draw(2, 320, height, width).contiguous(memory_format=torch.channels_last)

    small, other, large, huge = maps(9, 7), maps(9, 7), maps(40, 40), maps(65, 64)
    tokens, change, both = draw(2, 63, 320), draw(2, 63, 320), draw(2, 63, 640)
    shift, bias, weight = draw(2, 640)[:, :320], draw(320), draw(320, 640) / 16
    calls: dict[str, Callable[[Kernels, Callable[[Any], Any]], Tensor]] = {
        "group_norm": lambda k, at: k.group_norm(at(small), at(group), True, at(shift), at(bias)),
        "group_norm in parts": lambda k, at: k.group_norm(at(large), at(group), False, at(shift)),
        "group_norm in many parts": lambda k, at: k.group_norm(at(huge), at(group), True, None, at(bias)),
        "layer_norm": lambda k, at: k.layer_norm(at(tokens), at(layer)),
        "add_norm": lambda k, at: torch.cat(k.add_norm(at(tokens), at(change), at(layer), at(bias))),
        "accumulate": lambda k, at: k.accumulate(at(tokens).clone(), at(both), at(weight)),
        "add": lambda k, at: k.add(at(small), at(other), at(bias)),
        "geglu": lambda k, at: k.geglu(at(both)),
        "pointwise": lambda k, at: k.pointwise(at(small), at(weight).t()[:, :, None, None], at(bias).repeat(2)),
    }
    for name, call in calls.items():
        exact = call(PLAIN, lambda value: copy.deepcopy(value).double())
        yield name, float((call(kernels, lambda value: value) - exact).norm() / exact.norm())
