"""What evaluates a U-Net: the network itself, or a faster way to the same output, chosen once for each device.

An accelerator gets a loaded U-Net and answers with what is called in its stead.  Whatever it cannot do (a size, taps, control
residuals), it leaves to the network itself, so that every row runs on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from modules.diffusion.forward import ForwardContext
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
    return unet


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
