"""Rows: one network evaluation asked for, and its answer.

Rows of a model differ freely in sigma, prompt, adapters, control, taps and skip edits.  Which of them share a forward, and how
they become one batch, is for the model's denoiser (`modules.diffusion.networks.RowDenoiser`) to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.forward import Residuals, SkipEdit, Tap


class ControlNetwork(Protocol):
    """What a control network computes for some rows of a forward (Zhang et al. 2023, arXiv:2302.05543)."""

    def __call__(self, x: Tensor, hints: Tensor, timesteps: Tensor, context: Tensor) -> Residuals:
        """Residuals (n, C, h, w) for each input block and the middle block.

        Args:
            x: (n, C, h, w), scaled to the network's input variance, without further channels.
            hints: (n, ...), what the rows are controlled by.
            timesteps: (n,) in [0, 999].
            context: (n, T, context_dim).
        """


@dataclass(frozen=True, eq=False)
class Control:
    """A control network on one row: its residuals for `hint` are multiplied by `strength`."""

    network: ControlNetwork
    hint: Tensor
    strength: float = 1.0


@dataclass(frozen=True)
class Row:
    """One line of a batch: x (C, h, w) at noise level `sigma` under a conditioning.

    `adapters` are side paths with their strengths, `taps` edits and observations of attention layers, `skip_edits` changes of
    what meets at a U-Net's skip connections, in the order in which they work.  `timestep` is the model timestep where that is
    not the one of `sigma`.
    """

    x: Tensor
    sigma: float
    conditioning: Conditioning
    adapters: tuple[tuple[Adapter, float], ...] = ()
    control: tuple[Control, ...] = ()
    taps: tuple[Tap, ...] = ()
    timestep: float | None = None
    skip_edits: tuple[SkipEdit, ...] = ()


@dataclass(frozen=True, eq=False)
class Answer:
    """Of one row: the x0 prediction (C, h, w) in fp32, and what each of its observing taps saw (h, w), in their order."""

    x0: Tensor
    observed: tuple[Tensor, ...] = ()


class JoinKey(Protocol):
    """What decides whether rows of one model and latent size may share a forward."""

    def can_join(self, keys: Sequence[Any]) -> bool:
        """Whether rows of `keys`, this one among them, may; all are of one model."""


def can_join(keys: Sequence[JoinKey]) -> bool:
    """Whether rows of these keys may share a forward, as no rows at all may."""
    return not keys or keys[0].can_join(keys)
