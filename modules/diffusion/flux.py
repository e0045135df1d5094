"""Flux.1's denoising network, with the state-dict names of Black Forest Labs' files (their `model.py` and `modules/layers.py`).

Double blocks hold text and image tokens by themselves and let them attend to each other; single blocks run over both as one
sequence, attention and feed-forward side by side.  Positions are rotations of queries and keys (RoPE, Su et al. 2021,
arXiv:2104.09864) by row and column.  Text stands at position 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion import joint
from modules.diffusion.attention import Attend, sdpa
from modules.diffusion.forward import ForwardContext, Linear, name_layers
from modules.diffusion.transfers import sent

THETA = 10_000.0
"""The base of the rotations' frequencies."""


@dataclass(frozen=True)
class FluxConfig:
    """The shape of the network; the defaults are Flux.1 dev.

    `in_channels` are latent channels: 16, with those of concat conditioning behind them 96 of Fill and 32 of Canny and Depth.
    `axes` are the numbers of a head that each of the three coordinates rotates, `mlp` is the feed-forward's width in widths.
    `guided` is whether it takes a guidance scale (distilled guidance).
    """

    in_channels: int = 16
    out_channels: int = 16
    width: int = 3072
    heads: int = 24
    doubles: int = 19
    singles: int = 38
    context_width: int = 4096
    pooled_width: int = 768
    mlp: int = 4
    axes: tuple[int, int, int] = (16, 56, 56)
    guided: bool = True


class Flux(joint.JointTransformer):
    """The features of the guidance scale follow the pooled text in its vector."""

    def __init__(self, config: FluxConfig, attend: Attend = sdpa) -> None:
        super().__init__(config, config.guided)
        self.config = config
        width = config.width
        self.img_in = Linear(config.in_channels * joint.PATCH**2, width)
        self.time_in = _Embedder(joint.FREQUENCIES, width)
        self.vector_in = _Embedder(config.pooled_width, width)
        self.guidance_in = _Embedder(joint.FREQUENCIES, width) if config.guided else None
        self.txt_in = Linear(config.context_width, width)
        self.double_blocks = nn.ModuleList(DoubleBlock(config, attend) for _ in range(config.doubles))
        self.single_blocks = nn.ModuleList(SingleBlock(config, attend) for _ in range(config.singles))
        self.final_layer = _FinalLayer(width, config.out_channels * joint.PATCH**2)
        name_layers(self)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        vector: Tensor,
        seen: Tensor | None = None,
        ctx: ForwardContext | None = None,
    ) -> Tensor:
        """As `joint.JointTransformer`."""
        height, width = x.shape[-2:]
        pooled, guidance = vector.to(x.dtype).split_with_sizes(
            [self.config.pooled_width, self.vector_width - self.config.pooled_width], dim=1
        )
        time: Tensor = self.time_in(joint.features(timesteps, x), ctx) + self.vector_in(pooled, ctx)
        if self.guidance_in is not None:
            time = time + self.guidance_in(guidance, ctx)
        image, text = self.img_in(joint.patches(x), ctx), self.txt_in(context, ctx)
        rotation = rotations(text.shape[1], height // joint.PATCH, width // joint.PATCH, self.config.axes, x.device)
        mask = joint.joint_mask(seen, image.shape[1])
        for block in self.double_blocks:
            image, text = block(image, text, time, rotation, mask, ctx)
        tokens = torch.cat([text, image], dim=1)
        for block in self.single_blocks:
            tokens = block(tokens, time, rotation, mask, ctx)
        velocity: Tensor = self.final_layer(tokens[:, text.shape[1] :], time, ctx)
        return joint.of_patches(velocity, height, width)


@lru_cache(maxsize=16)
def rotations(text: int, rows: int, columns: int, axes: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (`text` + `rows` * `columns`, sum(`axes`) / 2) in fp32, of the angles of each token's pairs.

    In double precision on the host, as not every device has it; once for each size.
    """
    row = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64).repeat(rows)
    angles = []
    for axis, positions in zip(axes, (torch.zeros_like(row), row, column), strict=True):
        frequencies = THETA ** (-torch.arange(0, axis, 2, dtype=torch.float64) / axis)
        angles.append(F.pad(positions, (text, 0))[:, None] * frequencies)
    together = torch.cat(angles, dim=1)
    return sent(together.cos().float(), device), sent(together.sin().float(), device)


def rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Heads (B, N, H, d) with each pair of neighbours turned by its angle."""
    cosines, sines = (each[None, :, None] for each in rotation)
    one, other = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([one * cosines - other * sines, one * sines + other * cosines], dim=-1).flatten(-2).to(x.dtype)


class DoubleBlock(nn.Module):
    """Image and text tokens with weights of their own, and one attention over both."""

    def __init__(self, config: FluxConfig, attend: Attend) -> None:
        super().__init__()
        self.heads, self.attend = config.heads, attend
        self.img_mod, self.txt_mod = _Modulation(config.width, 6), _Modulation(config.width, 6)
        self.img_attn, self.txt_attn = _Attention(config), _Attention(config)
        self.img_mlp = joint.tanh_mlp(config.width, config.width * config.mlp)
        self.txt_mlp = joint.tanh_mlp(config.width, config.width * config.mlp)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        time: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        ctx: ForwardContext | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, N, D) and (B, T, D), changed."""
        of_image, of_text = self.img_mod(time, ctx), self.txt_mod(time, ctx)
        mixed_text, mixed_image = self._attended((text, of_text), (image, of_image), rotation, mask, ctx)
        image = image + of_image[2][:, None] * self.img_attn.proj(mixed_image, ctx)
        text = text + of_text[2][:, None] * self.txt_attn.proj(mixed_text, ctx)
        del mixed_text, mixed_image  # memory for the feed-forwards
        image = image + of_image[5][:, None] * self.img_mlp(joint.modulated(image, *of_image[3:5]), ctx)
        text = text + of_text[5][:, None] * self.txt_mlp(joint.modulated(text, *of_text[3:5]), ctx)
        return joint.bounded(image), joint.bounded(text)

    def _attended(
        self,
        text: tuple[Tensor, tuple[Tensor, ...]],
        image: tuple[Tensor, tuple[Tensor, ...]],
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        ctx: ForwardContext | None,
    ) -> tuple[Tensor, ...]:
        """What attention makes of text and image, each with its modulation."""
        parts = [
            attention.projected(joint.modulated(tokens, *modulation[:2]), ctx)
            for attention, (tokens, modulation) in ((self.txt_attn, text), (self.img_attn, image))
        ]
        q, k, v = (torch.cat(both, dim=1) for both in zip(*parts, strict=True))
        del parts
        mixed = joint.attended(self.attend, rotated(q, rotation), rotated(k, rotation), v, mask)
        return mixed.split_with_sizes([text[0].shape[1], image[0].shape[1]], dim=1)


class SingleBlock(nn.Module):
    """Attention and feed-forward of all tokens, side by side between two linear layers."""

    def __init__(self, config: FluxConfig, attend: Attend) -> None:
        super().__init__()
        self.heads, self.attend = config.heads, attend
        self.widths = [3 * config.width, config.mlp * config.width]
        self.linear1 = Linear(config.width, sum(self.widths))
        self.linear2 = Linear(config.width + self.widths[1], config.width)
        self.norm = _HeadNorms(config.width // config.heads)
        self.modulation = _Modulation(config.width, 3)

    def forward(
        self,
        tokens: Tensor,
        time: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        ctx: ForwardContext | None = None,
    ) -> Tensor:
        """(B, T + N, D), changed."""
        shift, scale, gate = self.modulation(time, ctx)
        projected, hidden = self.linear1(joint.modulated(tokens, shift, scale), ctx).split_with_sizes(self.widths, dim=-1)
        mixed = self._attended(projected, rotation, mask)
        out = self.linear2(torch.cat([mixed, F.gelu(hidden, approximate="tanh")], dim=-1), ctx)
        return joint.bounded(tokens + gate[:, None] * out)

    def _attended(self, projected: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        q, k, v = self.norm(projected, self.heads)
        return joint.attended(self.attend, rotated(q, rotation), rotated(k, rotation), v, mask)


class _Embedder(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = Linear(width, out), Linear(out, out)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x, ctx)), ctx)  # type: ignore[no-any-return]


class _Modulation(nn.Module):
    """`parts` vectors (B, D) of the time embedding: shift, scale and gate of attention, then of the feed-forward."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.lin = Linear(width, parts * width)

    def forward(self, time: Tensor, ctx: ForwardContext | None = None) -> tuple[Tensor, ...]:
        return self.lin(F.silu(time), ctx).chunk(self.parts, dim=-1)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """The projections of one kind of tokens in a joint attention."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Linear(config.width, 3 * config.width)
        self.norm = _HeadNorms(config.width // config.heads)
        self.proj = Linear(config.width, config.width)

    def projected(self, x: Tensor, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self.norm(self.qkv(x, ctx), self.heads)  # type: ignore[no-any-return]


class _HeadNorms(nn.Module):
    """Queries, keys and values by head, queries and keys normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm = _Scale(width), _Scale(width)

    def forward(self, projected: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = projected.reshape(*projected.shape[:-1], 3, heads, -1).unbind(2)
        return self.query_norm(q), self.key_norm(k), v


class _Scale(nn.Module):
    """As `joint.RMSNorm`, whose weight files call scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return joint.rms_normalised(x, self.scale)


class _FinalLayer(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = Linear(width, out)
        self.adaLN_modulation = joint.silu_linear(width, 2 * width)

    def forward(self, x: Tensor, time: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        shift, scale = self.adaLN_modulation(time, ctx).chunk(2, dim=-1)
        return self.linear(joint.modulated(x, shift, scale), ctx)  # type: ignore[no-any-return]
