"""The shapes of super-resolution networks, without torch: the list of models says with them what a file is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["prelu", "relu", "leakyrelu"]


@dataclass(frozen=True)
class RRDBConfig:
    """`features` channels, `blocks` residual blocks of three dense blocks that grow by `growth` channels a layer.

    The input is folded by `unshuffle` (1, 2, 4: 3 x unshuffle² channels), then doubled `doublings` times, so that the result is
    2^doublings / unshuffle times as large.  `plus`: with ESRGAN+'s further residuals.
    """

    features: int
    blocks: int
    growth: int
    doublings: int
    unshuffle: int = 1
    plus: bool = False

    @property
    def scale(self) -> int:
        return int(2**self.doublings // self.unshuffle)

    @property
    def reach(self) -> int:
        """How many input pixels on each side an output pixel depends on, at most."""
        return int(self.unshuffle * (self.blocks * 15 + 4 + self.doublings))


@dataclass(frozen=True)
class CompactConfig:
    """`convs` convolutions of `features` channels between the first and the last one; the result is `scale` times as large."""

    features: int
    convs: int
    scale: int
    activation: Activation = "prelu"

    @property
    def reach(self) -> int:
        """How many input pixels on each side an output pixel depends on, at most."""
        return self.convs + 2
