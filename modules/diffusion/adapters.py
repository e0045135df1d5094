"""Adapters as side paths: what is added to a layer's output, low rank, without touching its weights.

LoRA (Hu et al. 2021, arXiv:2106.09685): W x + strength * (alpha / rank) * up(down(x)).  Because the weights stay as they are,
rows with different adapters share a forward, and changing one costs nothing.  This file knows the arithmetic; it knows neither
files nor names of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change of one layer.

    For a linear layer `down` is (rank, in) and `up` (out, rank).  For a convolution `down` is (rank, in, kh, kw), run with the
    layer's stride and padding where its kernel is the layer's own, and `up` is (out, rank, 1, 1).  `scale` is alpha / rank.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0

    def change(self, x: Tensor, layer: nn.Linear | nn.Conv2d) -> Tensor:
        """What is added to the layer's output for its input `x`, at strength 1."""
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, self.down.flatten(1)), self.up.flatten(1)) * self.scale
        down = self.down if self.down.ndim == 4 else self.down[:, :, None, None]
        up = self.up if self.up.ndim == 4 else self.up[:, :, None, None]
        if down.shape[2:] == layer.weight.shape[2:]:
            low = F.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation)
        else:
            low = F.conv2d(x, down, None, layer.stride)
        return F.conv2d(low, up) * self.scale


@dataclass(frozen=True, eq=False)
class Adapter:
    """Changes by the names of the layers that they belong to; hashable by identity.  All tensors are on the network's device
    and in its number format."""

    name: str
    deltas: Mapping[str, LowRank]
