"""What evaluates a U-Net: the network itself, or a faster way to the same output, chosen once for each device.

An accelerator gets a loaded U-Net and answers with what is called in its stead.  Whatever it cannot do (a size, taps, control
residuals), it leaves to the network itself, so that every row runs on every device.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from modules.diffusion.forward import ForwardContext
from modules.diffusion.layers import KeysValues
from modules.diffusion.placement import Placement
from modules.diffusion.slicing import SwitchableAttention
from modules.diffusion.unet import UNet


class UNetForward(Protocol):
    """One forward of a U-Net, with the arguments and the answer of `UNet.forward`."""

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor: ...


Accelerate = Callable[[UNet], UNetForward]


def eager(unet: UNet) -> UNetForward:
    """The network itself: torch's kernels, launched one after the other."""
    return _Eager(unet)


MOST, MOST_BYTES = 8, 2**28
"""Contexts whose keys and values are kept, and of how many bytes together: 32 rows of SD 1.5 in float32 have 250 MB."""


class _Eager:
    """Computes keys and values of a context once for all forwards that are given it, the same object: all steps of a picture.

    Contexts are never written to (`joined`).  Where adapters may change keys and values, each forward computes its own.
    """

    def __init__(self, unet: UNet) -> None:
        self.unet = unet
        self._known: OrderedDict[int, tuple[weakref.ref[Tensor], KeysValues]] = OrderedDict()

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        adapted = ctx is not None and (ctx.adapters or ctx.hypernetworks)
        text = context if adapted else self._keys_values(context)
        return self.unet(x, timesteps, text, ctx, vector)  # type: ignore[no-any-return]

    def _keys_values(self, context: Tensor) -> KeysValues:
        number, known = id(context), self._known
        if number in known and known[number][0]() is context:
            known.move_to_end(number)
            return known[number][1]
        made = self.unet.keys_values(context)
        if made.size <= MOST_BYTES:
            known[number] = weakref.ref(context, lambda _: known.pop(number, None)), made
            while len(known) > MOST or sum(kept.size for _, kept in list(known.values())) > MOST_BYTES:
                known.popitem(last=False)
        return made


@dataclass(frozen=True)
class AcceleratorChoice:
    """An accelerator and why it was taken; `reason` is printed once at start."""

    name: str
    reason: str
    accelerate: Accelerate


def while_resident(accelerate: Accelerate, placement: Placement | None, attend: SwitchableAttention) -> Accelerate:
    """`accelerate` for a U-Net whose weights may be moved and whose attention may be switched.

    While weights are streamed or kept in 8 bits, or attention is sliced, the network itself is evaluated, and what was made of
    it is let go of with its memory: it knows where weights lay and how attention was computed.  Behind that, it is made anew.
    """

    def resident(unet: UNet) -> UNetForward:
        return _WhileResident(unet, accelerate, placement or Placement(unet, next(unet.parameters()).device), attend)

    return resident


class _WhileResident:
    def __init__(self, unet: UNet, accelerate: Accelerate, placement: Placement, attend: SwitchableAttention) -> None:
        self._unet, self._accelerate, self._placement, self._attend = unet, accelerate, placement, attend

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        placement = self._placement
        if not placement.plain or self._attend.slice_bytes:
            placement.derived = None
            return self._unet(x, timesteps, context, ctx, vector)  # type: ignore[no-any-return]
        if placement.derived is None:
            placement.derived = self._accelerate(self._unet)
        return placement.derived(x, timesteps, context, ctx, vector)  # type: ignore[no-any-return]
