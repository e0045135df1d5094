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
