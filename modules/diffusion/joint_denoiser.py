"""The rows of a transformer with joint attention (SD 3, Flux): which may share a forward, their batch, and its one forward.

Contexts of different lengths are padded and the padding is masked: copies, as for cross-attention, would be further keys beside
those of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.forward import context_for
from modules.diffusion.joined import JoinedConditionings
from modules.diffusion.joint import PATCH, JointTransformer
from modules.diffusion.networks import NoiseProcess
from modules.diffusion.rows import Answer, Row
from modules.diffusion.transfers import numbers
from modules.prompts.limits import MAX_NETWORKS

MAX_PADDING = 256
"""Tokens by which a context of a forward is padded at most: they cost as much as tokens of the image."""

MAX_FORWARD_TOKENS = 77 * 512
"""Context tokens of all rows of a forward together, from the second prompt on."""


@dataclass(frozen=True)
class JointKey:
    """Rows share a forward by the lengths of their contexts, and the number of their adapters."""

    tokens: int
    adapters: tuple[Adapter, ...] = ()

    @staticmethod
    def can_join(keys: Sequence[JointKey]) -> bool:
        lengths = [key.tokens for key in keys]
        adapters = {adapter for key in keys for adapter in key.adapters}
        fit = max(lengths) - min(lengths) <= MAX_PADDING and max(lengths) * len(lengths) <= MAX_FORWARD_TOKENS
        return len(adapters) <= MAX_NETWORKS and (fit or len(keys) == 1)


@dataclass(frozen=True, eq=False)
class JointBatch:
    """Some rows and what the network gets of them: x (B, C, h, w), `context` (B, T, D) of which `seen` (B, T) is text, or all
    of it, `vector` (B, V), and `channels` (B, C2, h, w) where it takes any."""

    rows: Sequence[Row]
    x: Tensor
    context: Tensor
    seen: Tensor | None
    vector: Tensor
    channels: Tensor | None


@dataclass(frozen=True, eq=False)
class JointDenoiser:
    """A transformer and the number format that it computes in; the latents that it works on have `latent_channels`."""

    network: JointTransformer
    dtype: torch.dtype
    device: torch.device
    latent_channels: int = 16

    @property
    def further_channels(self) -> int:
        """80 of Flux Fill."""
        return self.network.in_channels - self.latent_channels

    def has(self, place: str) -> bool:
        return place in self._places

    @cached_property
    def _places(self) -> frozenset[str]:
        network: Any = self.network
        return frozenset(name for name, _ in network.named_modules()) if isinstance(network, nn.Module) else frozenset()

    def example(self, height: int, width: int) -> Conditioning:
        further = torch.zeros(self.further_channels, height, width, device=self.device) if self.further_channels else None
        vector = torch.zeros(self.network.vector_width, device=self.device)
        return Conditioning(torch.zeros(77, self.network.context_width, device=self.device), further, vector)

    @staticmethod
    def join_key(row: Row) -> JointKey:
        used = tuple([adapter for adapter, strength in row.adapters if strength != 0.0])
        return JointKey(row.conditioning.tokens, used)

    def collate(self, rows: Sequence[Row]) -> JointBatch:
        parts = [row.conditioning for row in rows]
        joined, x = self._joined(parts), torch.stack([row.x for row in rows])
        lengths = [part.tokens for part in parts]
        seen = None
        if len(set(lengths)) > 1:
            seen = torch.arange(max(lengths), device=x.device) < numbers(lengths, x.device)[:, None]
        assert joined.vector is not None, "these networks take one"
        return JointBatch(rows, x, joined.context, seen, joined.vector, joined.channels)

    @cached_property
    def _joined(self) -> JoinedConditionings:
        return JoinedConditionings(self._join)

    def _join(self, parts: Sequence[Conditioning]) -> Conditioning:
        """The conditionings of a forward's rows as one, each of its tensors with a dimension for the rows in front."""
        longest = max(part.tokens for part in parts)
        channels = [each.channels for each in parts if each.channels is not None]
        vectors = [each.vector for each in parts if each.vector is not None]
        return Conditioning(
            torch.stack([F.pad(part.context, (0, 0, 0, longest - part.tokens)) for part in parts]).to(self.dtype),
            torch.stack(channels).to(self.dtype) if channels else None,
            torch.stack(vectors),
        )

    def denoise(self, batch: JointBatch, noise: NoiseProcess) -> list[Answer]:
        rows, x = batch.rows, batch.x
        levels = [row.sigma for row in rows]
        asked = [noise.model_timestep(row.sigma) if row.timestep is None else row.timestep for row in rows]
        sigmas, timesteps = numbers([levels, asked], x.device, torch.float32)
        scaled = noise.scale_input(x, sigmas).to(self.dtype)
        ctx = context_for([row.adapters for row in rows], [row.taps for row in rows], None, x.device)
        x_in = scaled if batch.channels is None else torch.cat([scaled, batch.channels], dim=1)
        height, width = x.shape[-2:]
        x_in = F.pad(x_in, (0, width % PATCH, 0, height % PATCH), mode="replicate")
        output = self.network(x_in, timesteps, batch.context, batch.vector, batch.seen, ctx)[..., :height, :width]
        return [Answer(x0) for x0 in noise.denoised(output.float(), x, sigmas)]
