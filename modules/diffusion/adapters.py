"""Adapters as side paths: what is added to a layer's output, without touching its weights.

Because the weights stay as they are, rows with different adapters share a forward, and changing one costs nothing.  This file
knows what an adapter is and the low-rank form, LoRA (Hu et al. 2021, arXiv:2106.09685); the other kinds are in `deltas`.
Neither knows files or names of files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

D = TypeVar("D", bound="Delta")

Norm = nn.GroupNorm | nn.LayerNorm
Layer = nn.Linear | nn.Conv2d | Norm
"""What adapters reach."""


@dataclass(frozen=True, eq=False)
class Delta(ABC):
    """The change of one layer: its weight W becomes W + strength * `weight(W)`.

    What a strength multiplies is always the difference, so that side paths of several adapters add up (A1111 does the same,
    also for DoRA and OFT).
    """

    @abstractmethod
    def weight(self, weight: Tensor) -> Tensor:
        """What is added to the layer's `weight` at strength 1: (out, in), (out, in, kh, kw) or a norm's (C,), fp32."""

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        """What is added to the layer's output for its input `x`, at strength 1."""
        return applied(layer, x, self.weight(layer.weight).to(x.dtype))

    def materialises(self, layer: Layer) -> bool:
        """Whether `change` makes the whole difference of the weight at each call, for want of a cheaper form."""
        return type(self).change is Delta.change

    def to(self: D, *where: Any) -> D:
        """The same with its tensors on another device or in another number format (`Tensor.to`)."""
        return replace(self, **{each.name: _moved(getattr(self, each.name), where) for each in fields(self) if each.init})


def _moved(value: Any, where: tuple[Any, ...]) -> Any:
    if isinstance(value, Tensor | Delta):
        return value.to(*where)
    return tuple(_moved(one, where) for one in value) if isinstance(value, tuple) else value


def rows_of(layer: Layer) -> int:
    """The length of a layer's weight in its first dimension; that of a quantised or packed layer is not made for it."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else len(layer.weight)


def blank_weight(layer: Layer) -> Tensor:
    """A float32 tensor in the shape of a layer's weight on the meta device."""
    if isinstance(layer, nn.Linear):
        return torch.empty(layer.out_features, layer.in_features, device="meta")
    if isinstance(layer, nn.Conv2d):
        return torch.empty(layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size, device="meta")
    return torch.empty_like(layer.weight, dtype=torch.float32, device="meta")


def applied(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """`layer` with another weight, without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, None, layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, None, layer.eps)
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation)


@dataclass(frozen=True, eq=False)
class LowRank(Delta):
    """LoRA and LoCon: scale * up(mid(down(x))).

    For a linear layer `down` is (rank, in) and `up` (out, rank).  For a convolution `down` is (rank, in, kh, kw), run with the
    layer's stride and padding where its kernel is the layer's own, and `up` is (out, rank, 1, 1).  With a `mid` (rank, rank,
    kh, kw), `down` is (rank, in, 1, 1) and the kernel is that of `mid` (CP decomposition).  `scale` is alpha / rank.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0
    mid: Tensor | None = None

    def weight(self, weight: Tensor) -> Tensor:
        up, down = self.up.float().flatten(1), self.down.float()
        if self.mid is not None:
            product = torch.einsum("oa,abhw,bi->oihw", up, self.mid.float(), down.flatten(1))
        else:
            product = (up @ down.flatten(1)).reshape(len(up), *down.shape[1:])
        return _as(product, weight) * self.scale

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, self.down.flatten(1)), self.up.flatten(1)) * self.scale
        assert isinstance(layer, nn.Conv2d), "a norm has no matrix"
        down, up = _kernel(self.down), _kernel(self.up)
        if self.mid is not None:
            low = F.conv2d(F.conv2d(x, down), self.mid, None, layer.stride, layer.padding, layer.dilation)
        elif down.shape[2:] == layer.kernel_size:
            low = applied(layer, x, down)
        else:
            low = F.conv2d(x, down, None, layer.stride)
        return F.conv2d(low, up) * self.scale

    def cut(self, rank: int) -> LowRank:
        """With its first `rank` ranks at most; the scale stays that of all."""
        return replace(
            self,
            down=self.down[:rank],
            up=self.up[:, :rank],
            mid=None if self.mid is None else self.mid[:rank, :rank],
        )


def _kernel(matrix: Tensor) -> Tensor:
    return matrix if matrix.ndim == 4 else matrix[:, :, None, None]


def _as(product: Tensor, weight: Tensor) -> Tensor:
    """A product of factors in the shape of the layer's weight; a 1x1 kernel in the middle of a larger one stands for it."""
    if product.numel() == weight.numel():
        return product.reshape(weight.shape)
    if weight.ndim == 4 and product.ndim == 4 and product.shape[:2] == weight.shape[:2] and product.shape[2:] == (1, 1):
        (height, width) = weight.shape[2:]
        return F.pad(product, (width // 2, (width - 1) // 2, height // 2, (height - 1) // 2))
    raise ValueError(f"it is for a layer of shape {tuple(product.shape)}, this one has {tuple(weight.shape)}")


@dataclass(frozen=True, eq=False)
class Dense(Delta):
    """Another change of one layer, whose difference of the weight is made once and kept, in the layer's number format."""

    inner: Delta
    _made: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False)

    def weight(self, weight: Tensor) -> Tensor:
        return self.inner.weight(weight)

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        made = self._made.get(x.dtype)
        if made is None:
            made = self._made[x.dtype] = self.inner.weight(layer.weight).to(x.dtype)
        return applied(layer, x, made)


@dataclass(frozen=True, eq=False)
class Weighted(Delta):
    """Another change times `factor`."""

    inner: Delta
    factor: float

    def weight(self, weight: Tensor) -> Tensor:
        return self.inner.weight(weight) * self.factor

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        return self.inner.change(x, layer) * self.factor


@dataclass(frozen=True, eq=False)
class Adapter:
    """Changes by the names of the layers that they belong to; hashable by identity.  All tensors are on the network's device
    and in its number format.  `inputs` are what is added to an input of a layer, at strength 1 (hypernetworks)."""

    name: str
    deltas: Mapping[str, Delta]
    inputs: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
