"""Linear layers that keep their weight as blocks of quantised numbers (`block_formats`), as a file has it.

The weight is brought to the computing format anew wherever it is asked for, and is gone behind that: a network takes the bytes
of its blocks, and one layer's weight in the computing format while that layer runs.  What is computed is, to the bit, what a
plain layer computes whose weight was brought to the computing format once.  It is done by torch's operations, on the device
where the blocks are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.diffusion.block_formats import BLOCK_FORMATS, bytes_of
from modules.diffusion.block_numbers import write_numbers
from modules.diffusion.forward import Linear

PACKED = "packed"
"""The parameter in which the blocks are, in the place of "weight"."""


class QuantisedLinear(Linear):
    """A linear layer whose blocks are in `packed`, (out, bytes of a row) uint8; `dtype` is the computing format.

    `weight` is (out, in) as ever, on any thread; but each time another tensor, so that writing into it changes nothing.
    """

    form: str
    dtype: torch.dtype
    packed: nn.Parameter

    @classmethod
    def take(cls, layer: nn.Linear, form: str, dtype: torch.dtype) -> None:
        """Make one of a layer without a weight yet, in its place: others may hold the layer (`forward.Stack`).  Its blocks are
        on the meta device then."""
        del layer._parameters["weight"]
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer.form, layer.dtype = form, dtype
        row = bytes_of((layer.in_features,), form)
        packed = torch.empty(layer.out_features, row, dtype=torch.uint8, device="meta")
        layer.packed = nn.Parameter(packed, requires_grad=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.unpacked(self.packed)

    def unpacked(self, packed: Tensor) -> Tensor:
        """The weight (out, in) in the computing format, of blocks like its own."""
        weight = torch.empty(self.out_features, self.in_features, dtype=self.dtype, device=packed.device)
        write_numbers(packed, self.form, weight)
        return weight

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, form={self.form}, dtype={self.dtype}"


def fits(layer: nn.Module, form: str) -> bool:
    """Whether a layer's weight can be kept in this format."""
    return type(layer) is Linear and form in BLOCK_FORMATS and layer.in_features % BLOCK_FORMATS[form].numbers == 0


def is_quantised(network: nn.Module) -> bool:
    """Whether layers of a network are `QuantisedLinear`."""
    return any(isinstance(module, QuantisedLinear) for module in network.modules())
