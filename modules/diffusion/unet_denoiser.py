"""The rows of a U-Net with cross-attention: which may share a forward, their batch, and its one forward.

`UNetDenoiser` is the only place where such rows become a batch and the network's output becomes x0 predictions; the engine's
runner and the reference runner both call it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from modules.diffusion.accelerators import Accelerate, UNetForward, eager
from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.forward import ForwardContext, Residuals, context_for
from modules.diffusion.joined import JoinedConditionings
from modules.diffusion.networks import NoiseProcess
from modules.diffusion.rows import Answer, Control, ControlNetwork, Row
from modules.diffusion.transfers import numbers
from modules.diffusion.unet import UNet
from modules.prompts.limits import MAX_NETWORKS

MAX_ADAPTERS = MAX_NETWORKS
"""Different adapters of one forward."""

MAX_JOINED_TOKENS = 77 * 12
"""Contexts join up to this common length; beyond it a joint forward would cost more than separate ones."""

MAX_FORWARD_TOKENS = 77 * 512
"""Context tokens of all rows of a forward together, from the second prompt on: what bounds its time where contexts are long."""


@dataclass(frozen=True)
class CrossAttentionKey:
    """Rows share a forward by the lengths of their contexts, and the number of their adapters."""

    tokens: int
    adapters: tuple[Adapter, ...] = ()

    @staticmethod
    def can_join(keys: Sequence[CrossAttentionKey]) -> bool:
        adapters = {adapter for key in keys for adapter in key.adapters}
        return len(adapters) <= MAX_ADAPTERS and lengths_join([key.tokens for key in keys])


@dataclass(frozen=True, eq=False)
class UNetBatch:
    """Some rows and what the network gets of them: x (B, C, h, w), `context` (B, T, D), `channels` (B, C2, h, w) and `vector`
    (B, V) where it takes any.  Equal conditionings in equal order give the same tensors, see `JoinedConditionings`."""

    rows: Sequence[Row]
    x: Tensor
    context: Tensor
    channels: Tensor | None
    vector: Tensor | None


@dataclass(frozen=True, eq=False)
class UNetDenoiser:
    """A U-Net, what evaluates it, and the number format that it computes in; the latents that it works on have
    `latent_channels`."""

    unet: UNet
    dtype: torch.dtype
    latent_channels: int = 4
    accelerate: Accelerate = eager

    @cached_property
    def forward(self) -> UNetForward:
        return self.accelerate(self.unet)

    @property
    def further_channels(self) -> int:
        """5 of inpainting models, 4 of editing models, 3 of models that enlarge a picture."""
        return self.unet.config.in_channels - self.latent_channels

    def has(self, place: str) -> bool:
        return place in self._places

    @cached_property
    def _places(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.unet.named_modules())

    def example(self, height: int, width: int) -> Conditioning:
        config, device = self.unet.config, next(self.unet.parameters()).device
        return Conditioning(
            torch.zeros(77, config.context_dim, device=device),
            torch.zeros(self.further_channels, height, width, device=device) if self.further_channels else None,
            torch.zeros(config.vector_inputs, device=device) if config.vector_inputs else None,
        )

    @staticmethod
    def join_key(row: Row) -> CrossAttentionKey:
        used = tuple([adapter for adapter, strength in row.adapters if strength != 0.0])
        return CrossAttentionKey(row.conditioning.tokens, used)

    def collate(self, rows: Sequence[Row]) -> UNetBatch:
        joined = self._joined([row.conditioning for row in rows])
        return UNetBatch(rows, torch.stack([row.x for row in rows]), joined.context, joined.channels, joined.vector)

    @cached_property
    def _joined(self) -> JoinedConditionings:
        return JoinedConditionings(self._join)

    def _join(self, parts: Sequence[Conditioning]) -> Conditioning:
        """The conditionings of a forward's rows as one, each of its tensors with a dimension for the rows in front."""
        channels = [each.channels for each in parts if each.channels is not None]
        vectors = [each.vector for each in parts if each.vector is not None]
        return Conditioning(
            joined_contexts(parts).to(self.dtype),
            torch.stack(channels).to(self.dtype) if channels else None,
            torch.stack(vectors) if vectors else None,
        )

    def denoise(self, batch: UNetBatch, noise: NoiseProcess) -> list[Answer]:
        rows, x = batch.rows, batch.x
        levels = [row.sigma for row in rows]
        told = [noise.model_timestep(row.sigma) if row.timestep is None else row.timestep for row in rows]
        sigmas, timesteps = numbers([levels, told], x.device, torch.float32)
        scaled = noise.scale_input(x, sigmas).to(self.dtype)
        residuals = control_residuals(rows, scaled, timesteps, batch.context)
        asked = [row.adapters for row in rows], [row.taps for row in rows], residuals
        ctx = context_for(*asked, x.device, [row.skip_edits for row in rows])
        x_in = scaled if batch.channels is None else torch.cat([scaled, batch.channels], dim=1)
        output = self.forward(x_in, timesteps, batch.context, ctx, batch.vector)
        predictions = noise.denoised(output.float(), x, sigmas)
        return [Answer(x0, seen) for x0, seen in zip(predictions, _observed(rows, ctx), strict=True)]


def joined_tokens(lengths: Sequence[int]) -> int:
    """The common length to which contexts of these lengths are repeated."""
    return math.lcm(*lengths)


def lengths_join(lengths: Sequence[int]) -> bool:
    """Whether contexts of these lengths may share a forward.  A few of equal length always may."""
    joined = joined_tokens(lengths)
    return (len(set(lengths)) == 1 or joined <= MAX_JOINED_TOKENS) and joined * len(lengths) <= MAX_FORWARD_TOKENS


def joined_contexts(parts: Sequence[Conditioning]) -> Tensor:
    """The contexts (B, T, D) of a forward over `parts`.

    A shorter context is *repeated* to the common length: softmax over m copies of the keys gives the same weighted mean, so
    this is exact for cross-attention, while padding with zeros would not be.
    """
    length = joined_tokens([part.tokens for part in parts])
    return torch.stack([part.context.repeat(length // part.tokens, 1) for part in parts])


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
        index = numbers([number for number, _ in controlled], x.device)
        strengths = numbers([control.strength for _, control in controlled], x.device, x.dtype)
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
