"""What a pipeline ends with: a finished picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from modules.checkpoints.handle import ModelHandle


@dataclass(frozen=True, eq=False)
class Painted:
    """A finished picture: `pixels` uint8 (H, W, 3) on the CPU, and the facts that its record needs.

    `model` is None for a picture that was only enlarged.  `schedule` is the first stage's.  `extras` are items of the text that
    other programs read, `facts` go to our own record only.
    """

    pixels: Tensor
    model: ModelHandle | None
    schedule: str
    extras: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
