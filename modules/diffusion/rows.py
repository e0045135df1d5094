"""Rows: one network evaluation asked for, and a U-Net's one forward over a batch of them.

`UNetDenoiser.denoise` is the only place where rows become a batch and a network's output becomes x0 predictions; the engine's
runner and the reference runner both call it.  Rows differ freely in sigma, prompt, adapters, control and taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.forward import ForwardContext, Residuals, Tap, context_for
from modules.diffusion.prediction import Prediction
from modules.diffusion.schedules import TrainedSigmas
from modules.diffusion.unet import UNet

MAX_ADAPTERS = 8
"""Different adapters of one forward: each is a side path of its own at every layer that it changes."""


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

    `adapters` are side paths with their strengths, `taps` edits and observations of attention layers.  `timestep` is the model
    timestep where that is not the one of `sigma`.
    """

    x: Tensor
    sigma: float
    conditioning: Conditioning
    adapters: tuple[tuple[Adapter, float], ...] = ()
    control: tuple[Control, ...] = ()
    taps: tuple[Tap, ...] = ()
    timestep: float | None = None

    def model_timestep(self, levels: TrainedSigmas) -> float:
        """What the network gets for the noise level, in [0, 999]."""
        return levels.timestep(self.sigma) if self.timestep is None else self.timestep

    @property
    def join_key(self) -> JoinKey:
        return JoinKey(self.conditioning.tokens, tuple(adapter for adapter, strength in self.adapters if strength != 0.0))


@dataclass(frozen=True)
class JoinKey:
    """What decides whether rows of one model and size may share a forward: the length of the context, and the adapters."""

    tokens: int
    adapters: tuple[Adapter, ...] = ()

    @staticmethod
    def can_join(keys: Sequence[JoinKey]) -> bool:
        adapters = {adapter for key in keys for adapter in key.adapters}
        return len(adapters) <= MAX_ADAPTERS and Conditioning.can_join([key.tokens for key in keys])


@dataclass(frozen=True, eq=False)
class Answer:
    """Of one row: the x0 prediction (C, h, w) in fp32, and what each of its observing taps saw (h, w), in their order."""

    x0: Tensor
    observed: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class UNetDenoiser:
    """A U-Net with what its output means and the number format that it computes in."""

    unet: UNet
    prediction: Prediction
    dtype: torch.dtype

    def has(self, place: str) -> bool:
        """Whether the network has a layer of this name."""
        return place in self._places

    @cached_property
    def _places(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.unet.named_modules())

    def denoise(self, rows: Sequence[Row], levels: TrainedSigmas) -> list[Answer]:
        """The answers to `rows` in one forward; `levels` say at which timestep a noise level is."""
        x = torch.stack([row.x for row in rows])
        sigmas = torch.tensor([row.sigma for row in rows], dtype=torch.float32, device=x.device)
        timesteps = torch.tensor([row.model_timestep(levels) for row in rows], dtype=torch.float32, device=x.device)
        conditionings = [row.conditioning for row in rows]
        context = Conditioning.join(conditionings).to(self.dtype)
        scaled = self.prediction.scale_input(x, sigmas).to(self.dtype)

        residuals = control_residuals(rows, scaled, timesteps, context)
        ctx = context_for([row.adapters for row in rows], [row.taps for row in rows], residuals, x.device)
        x_in, vector = Conditioning.concatenated(scaled, conditionings), Conditioning.vectors(conditionings)
        output = self.unet(x_in, timesteps, context, ctx, vector)
        predictions = self.prediction.denoised(output.float(), x, sigmas)
        return [Answer(x0, seen) for x0, seen in zip(predictions, _observed(rows, ctx), strict=True)]


def control_residuals(rows: Sequence[Row], x: Tensor, timesteps: Tensor, context: Tensor) -> Residuals | None:
    """What the rows' control networks add: each network runs once, over its rows, and what it says is summed per row.

    A row that two controls of one network hold gets both.  None when no row is controlled.
    """
    groups: dict[ControlNetwork, list[tuple[int, Control]]] = {}
    for number, row in enumerate(rows):
        for control in row.control:
            groups.setdefault(control.network, []).append((number, control))
    total: list[Tensor] | None = None
    for network, controlled in groups.items():
        index = torch.tensor([number for number, _ in controlled], device=x.device)
        strengths = torch.tensor([control.strength for _, control in controlled], device=x.device, dtype=x.dtype)
        hints = torch.stack([control.hint for _, control in controlled]).to(x)
        residuals = network(x[index], hints, timesteps[index], context[index])
        if total is None:
            total = [residual.new_zeros(len(rows), *residual.shape[1:]) for residual in residuals]
        for sum_, residual in zip(total, residuals, strict=True):
            sum_.index_add_(0, index, residual * strengths.reshape(-1, 1, 1, 1))
    return total


def _observed(rows: Sequence[Row], ctx: ForwardContext | None) -> list[tuple[Tensor, ...]]:
    """What the taps of each row saw; a tap that the network has no layer for saw nothing."""
    if ctx is None or not ctx.observed:
        return [()] * len(rows)
    seen = {tap: iter(observed) for tap, observed in ctx.observed.items()}
    return [tuple(next(seen[tap]) for tap in row.taps if tap in seen) for row in rows]
