"""Weights of a CPU's U-Net in the memory layouts that oneDNN computes with, instead of the state dict's.

oneDNN's kernels want a weight in blocks that suit the processor.  torch keeps it in rows and brings it into blocks at each
call: with a latent of 32x32 up to half of a convolution's time.  Here a layer's weight is brought into blocks at its first
call and kept so in the place of the other; the forward computes what it did.  torch.compile's "freezing" does the same with a
compiler.

In the wrong blocks a call takes many times as long (0.4 ms became 14), and for some layers other sizes of the input want other
blocks.  Those keep their weights as they are, see `_one_layout`.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modules.diffusion.forward import Conv2d, ForwardContext, Linear
from modules.diffusion.kernels import Kernels

LARGE, LARGE_MATRIX = 2_000_000, 400_000
"""Numbers of a 3x3 convolution's and of a matrix's weight from which they are packed: with less there was nothing to win.  The
starter, which is a twentieth of SD 1.5, has none as large and was no faster with all of them packed."""

SIZES = (8, 64)
"""Rows and columns of the feature maps for which a convolution has to want one layout.  Among 17 sizes some of SD 1.5's wanted
another one for up to 4, and for 7, where a call took about as long as a plain one."""


class _Packed(nn.Module):
    """What packed layers share.  The parameter "weight" is opaque behind the first call: only oneDNN knows its layout.

    `weight` is the tensor of before as ever, on any thread; but made anew each time, so that writing into it changes nothing.
    """

    plain: type[nn.Module]
    """What the layer is without its packed weight."""

    @property
    def weight(self) -> Tensor:
        stored: Any = self._parameters["weight"]
        return stored.to_dense() if stored.is_mkldnn else stored  # type: ignore[no-any-return]

    def keep(self, packed: Tensor) -> Tensor:
        """Let this be the weight."""
        self._parameters["weight"] = nn.Parameter(packed, requires_grad=False)
        return packed

    def unpack(self) -> None:
        """Be a plain layer again."""
        self._parameters["weight"] = nn.Parameter(self.weight, requires_grad=False)
        self.__class__ = self.plain  # type: ignore[assignment]

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


class PackedConv2d(_Packed, Conv2d):
    """A convolution; one of 1x1 is computed as a linear layer over the positions, which wants one layout at all sizes."""

    plain = Conv2d

    def forward(self, x: Tensor, ctx: ForwardContext | None = None, kernels: Kernels | None = None) -> Tensor:
        return self.adapted(x, self._convolved(x, self.bias), ctx)

    def with_bias_later(self, x: Tensor, kernels: Kernels, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor | None]:
        now, later = (None, self.bias) if kernels.late_bias else (self.bias, None)
        return self.adapted(x, self._convolved(x, now), ctx), later

    def _convolved(self, x: Tensor, bias: Tensor | None) -> Tensor:
        weight: Any = self._parameters["weight"]
        if self.kernel_size == (1, 1):
            if not weight.is_mkldnn:
                weight = self.keep(torch.ops.mkldnn._reorder_linear_weight(weight.flatten(1)))
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x.movedim(1, -1), weight, bias, "none", [], "")
            return out.movedim(-1, 1)
        how: Any = (self.padding, self.stride, self.dilation, self.groups)
        if not weight.is_mkldnn:
            if not _one_layout(self.in_channels, self.out_channels, weight.dtype):
                self.unpack()
                return nn.functional.conv2d(x, weight, bias, padding=1)
            weight = self.keep(torch.ops.mkldnn._reorder_convolution_weight(weight, *how))
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *how, "none", [], "")  # type: ignore[no-any-return]

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return super().weight.reshape(self.out_channels, self.in_channels, *self.kernel_size)


class PackedLinear(_Packed, Linear):  # type: ignore[override]
    """A linear layer over positions.  One that is given a vector for each row is left plain: it only waits for its weight."""

    plain = Linear

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        weight: Any = self._parameters["weight"]
        if not weight.is_mkldnn:
            if x.dim() < 3:
                self.unpack()
                return self(x, ctx)  # type: ignore[no-any-return]
            weight = self.keep(torch.ops.mkldnn._reorder_linear_weight(weight))
        return self.adapted(x, torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, "none", [], ""), ctx)


def pack(network: nn.Module, matrices: bool = True) -> None:
    """Let the network's large convolutions and, unless they gain nothing, `matrices` (linear layers) keep their weights packed,
    from the first call of each on."""
    for layer in network.modules():
        if type(layer) is Conv2d and _suits(layer):
            layer.__class__ = PackedConv2d
        elif matrices and type(layer) is Linear and layer.weight.numel() >= LARGE_MATRIX:
            layer.__class__ = PackedLinear


def unpack(network: nn.Module) -> None:
    """Let the network's layers keep their weights as a state dict has them."""
    for layer in network.modules():
        if isinstance(layer, PackedConv2d | PackedLinear):
            layer.unpack()


def _suits(layer: Conv2d) -> bool:
    large = layer.weight.numel() >= (LARGE_MATRIX if layer.kernel_size == (1, 1) else LARGE)
    form = (layer.kernel_size, layer.padding) in (((1, 1), (0, 0)), ((3, 3), (1, 1)))
    one = layer.stride == layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    return large and form and one


@lru_cache(maxsize=256)
def _one_layout(inputs: int, outputs: int, dtype: torch.dtype) -> bool:
    """Whether oneDNN wants the weight of a 3x3 convolution in the same blocks for feature maps of all `SIZES`.

    It says so only by packing: a weight comes out as the same bytes where the blocks are the same.
    """
    how: Any = ((1, 1), (1, 1), (1, 1), 1)
    length = outputs * inputs * 9
    numbers = torch.arange(251).to(dtype).repeat(-(-length // 251))[:length]  # exact in bfloat16, and 251 is a prime
    probe = numbers.reshape(outputs, 3, 3, inputs).movedim(-1, 1)
    first = torch.ops.mkldnn._reorder_convolution_weight(probe, *how)
    return all(_alike(first, torch.ops.mkldnn._reorder_convolution_weight(probe, *how, (2, inputs, n, n))) for n in SIZES)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two packed weights are the same bytes."""
    return np.array_equal(_bytes(one), _bytes(other))


def _bytes(packed: Tensor) -> np.ndarray:
    """A view of a packed weight's memory, while it is alive."""
    place, size = int(torch.ops.mkldnn.data_ptr(packed)), int(torch.ops.mkldnn._nbytes(packed))
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(place))
