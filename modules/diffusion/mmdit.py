"""SD 3's and SD 3.5's denoising network, MMDiT (Esser et al. 2024, arXiv:2403.03206), with the state-dict names of Stability
AI's files (sd3.5, `mmditx.py`).

Every block has weights for text and for image tokens, and one attention over both.  SD 3.5 normalises queries and keys; SD 3.5
medium's first blocks have a second attention of the image to itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion import joint
from modules.diffusion.attention import Attend, sdpa
from modules.diffusion.forward import Conv2d, ForwardContext, Linear, Sequential, name_layers


@dataclass(frozen=True)
class MMDiTConfig:
    """The shape of the network; the defaults are SD 3 medium.

    `positions` are the rows and columns of the table of positions, in tokens, of which the middle is taken.  `normalised` is
    whether queries and keys are; the first `dual` blocks have a second attention.
    """

    in_channels: int = 16
    out_channels: int = 16
    width: int = 1536
    heads: int = 24
    depth: int = 24
    context_width: int = 4096
    pooled_width: int = 2048
    hidden: int = 6144
    positions: int = 192
    normalised: bool = False
    dual: int = 0


class MMDiT(joint.JointTransformer):
    """See the module."""

    def __init__(self, config: MMDiTConfig, attend: Attend = sdpa) -> None:
        super().__init__(config)
        self.config = config
        width = config.width
        self.x_embedder = _PatchEmbedder(config.in_channels, width)
        self.pos_embed = nn.Parameter(torch.empty(1, config.positions**2, width))
        self.t_embedder = _Embedder(joint.FREQUENCIES, width)
        self.y_embedder = _Embedder(config.pooled_width, width)
        self.context_embedder = Linear(config.context_width, width)
        self.joint_blocks = nn.ModuleList(
            JointBlock(config, attend, dual=number < config.dual, last=number == config.depth - 1)
            for number in range(config.depth)
        )
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
        image = self.x_embedder(x, ctx) + self._positions(height // joint.PATCH, width // joint.PATCH).to(x.dtype)
        time = self.t_embedder(joint.features(timesteps, x), ctx) + self.y_embedder(vector.to(x.dtype), ctx)
        text = self.context_embedder(context, ctx)
        mask = joint.joint_mask(seen, image.shape[1])
        for block in self.joint_blocks:
            image, text = block(image, text, time, mask, ctx)
        return _of_patches(self.final_layer(image, time, ctx), height, width)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The middle of the table of positions, (1, `rows` * `columns`, D); stretched where the picture is larger than it."""
        most = math.isqrt(self.pos_embed.shape[1])
        table = self.pos_embed.view(1, most, most, -1)
        if max(rows, columns) > most:
            wide = F.interpolate(table.movedim(-1, 1).float(), size=(max(rows, most), max(columns, most)), mode="bilinear")
            table = wide.movedim(1, -1).to(table.dtype)
        top, left = (table.shape[1] - rows) // 2, (table.shape[2] - columns) // 2
        return table[:, top : top + rows, left : left + columns].flatten(1, 2)


def _of_patches(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens (B, h w / 4, 4 C), of which first all channels of one position, to (B, C, h, w)."""
    patch = joint.PATCH
    x = tokens.reshape(len(tokens), height // patch, width // patch, patch, patch, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, height, width)


class JointBlock(nn.Module):
    """Text and image tokens with weights of their own, and one attention over both.  The `last` one changes the image alone."""

    def __init__(self, config: MMDiTConfig, attend: Attend, dual: bool, last: bool) -> None:
        super().__init__()
        self.attend = attend
        self.context_block = _Stream(config, attend, last=last)
        self.x_block = _Stream(config, attend, dual=dual)

    def forward(
        self, image: Tensor, text: Tensor, time: Tensor, mask: Tensor | None, ctx: ForwardContext | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, N, D) and (B, T, D), changed."""
        of_text, of_image = self.context_block.modulation(time, ctx), self.x_block.modulation(time, ctx)
        mixed_text, mixed_image = self._attended((text, of_text), (image, of_image), mask, ctx)
        image = self.x_block.changed(image, mixed_image, of_image, ctx)
        if not self.context_block.last:
            text = self.context_block.changed(text, mixed_text, of_text, ctx)
        return joint.bounded(image), joint.bounded(text)

    def _attended(
        self,
        text: tuple[Tensor, tuple[Tensor, ...]],
        image: tuple[Tensor, tuple[Tensor, ...]],
        mask: Tensor | None,
        ctx: ForwardContext | None,
    ) -> tuple[Tensor, ...]:
        """What attention makes of text and image, each with its modulation."""
        parts = [
            stream.attn.projected(joint.modulated(tokens, *modulation[:2]), ctx)
            for stream, (tokens, modulation) in ((self.context_block, text), (self.x_block, image))
        ]
        q, k, v = (torch.cat(both, dim=1) for both in zip(*parts, strict=True))
        del parts
        return joint.attended(self.attend, q, k, v, mask).split_with_sizes([text[0].shape[1], image[0].shape[1]], dim=1)


class _Stream(nn.Module):
    """The layers of a block for one kind of tokens.  The `last` one of the text ends before its attention's output."""

    def __init__(self, config: MMDiTConfig, attend: Attend, dual: bool = False, last: bool = False) -> None:
        super().__init__()
        self.attend, self.last = attend, last
        self.parts = 2 if last else 9 if dual else 6
        self.attn = _Attention(config, output=not last)
        self.attn2 = _Attention(config) if dual else None
        self.mlp = None if last else _FeedForward(config.width, config.hidden)
        self.adaLN_modulation = joint.silu_linear(config.width, self.parts * config.width)

    def modulation(self, time: Tensor, ctx: ForwardContext | None = None) -> tuple[Tensor, ...]:
        """Shift, scale and gate (B, D) of the attention, the feed-forward and the second attention, as far as there are any."""
        modulation: Tensor = self.adaLN_modulation(time, ctx)
        return modulation.chunk(self.parts, dim=-1)

    def changed(self, x: Tensor, mixed: Tensor, modulation: tuple[Tensor, ...], ctx: ForwardContext | None = None) -> Tensor:
        """x (B, N, D) with what attention made of it, `mixed`, and the feed-forward."""
        assert self.attn.proj is not None
        assert self.mlp is not None
        before = x
        x = x + modulation[2][:, None] * self.attn.proj(mixed, ctx)
        if self.attn2 is not None:
            assert self.attn2.proj is not None
            shift, scale, gate = modulation[6:]
            own = joint.attended(self.attend, *self.attn2.projected(joint.modulated(before, shift, scale), ctx), None)
            x = x + gate[:, None] * self.attn2.proj(own, ctx)
        shift, scale, gate = modulation[3:6]
        return x + gate[:, None] * self.mlp(joint.modulated(x, shift, scale), ctx)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """The projections of one kind of tokens in an attention."""

    def __init__(self, config: MMDiTConfig, output: bool = True) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Linear(config.width, 3 * config.width)
        self.proj = Linear(config.width, config.width) if output else None
        head = config.width // config.heads
        self.ln_q = joint.RMSNorm(head) if config.normalised else None
        self.ln_k = joint.RMSNorm(head) if config.normalised else None

    def projected(self, x: Tensor, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x, ctx).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.ln_q is None or self.ln_k is None:
            return q, k, v
        return self.ln_q(q), self.ln_k(k), v


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(width, hidden), Linear(hidden, width)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x, ctx), approximate="tanh"), ctx)  # type: ignore[no-any-return]


class _PatchEmbedder(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = Conv2d(channels, width, joint.PATCH, stride=joint.PATCH)

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.proj(x, ctx).flatten(2).mT  # type: ignore[no-any-return]


class _Embedder(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.mlp = Sequential(Linear(width, out), nn.SiLU(), Linear(out, out))

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.mlp(x, ctx)  # type: ignore[no-any-return]


class _FinalLayer(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = Linear(width, out)
        self.adaLN_modulation = joint.silu_linear(width, 2 * width)

    def forward(self, x: Tensor, time: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        shift, scale = self.adaLN_modulation(time, ctx).chunk(2, dim=-1)
        return self.linear(joint.modulated(x, shift, scale), ctx)  # type: ignore[no-any-return]
