"""The denoising U-Net of latent diffusion (Rombach et al. 2022, section 3.3), with ldm's state-dict names.

`UNetConfig` says the shape; `modules.checkpoints.families` derives it from a file.  The network takes a *vector* of
timesteps, one per row, so rows of different requests at different steps share one forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.attention import Attend, sdpa
from modules.diffusion.forward import Conv2d, ForwardContext, GroupNorm, Join, Linear, Sequential, Stack, name_layers
from modules.diffusion.kernels import PLAIN, Kernels
from modules.diffusion.layers import (
    BasicTransformerBlock,
    Downsample,
    KeysValues,
    ResBlock,
    SelfAttentionBlock,
    SpatialTransformer,
    Upsample,
    timestep_embedding,
)


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net; the defaults are Stable Diffusion 1.x.

    `channels` and `transformer_depth` have one entry per resolution level, finest first; depth 0 means no attention there.
    `output_depth` has one entry per block on the way up, coarsest first, where they differ from their levels on the way down;
    `middle_res_blocks` is 2, or less where distillation took the rest away (SSD-1B and Segmind Vega, Gupta et al. 2024,
    arXiv:2401.02677; KOALA, Lee et al. 2023, arXiv:2312.04005).
    `in_channels` is 4, or 9 for inpainting models (noisy latent, mask, masked image), or 8 for editing models.
    Attention has `heads` heads everywhere or, where `head_width` is not 0, as many as are that wide.  `vector_width` is that of
    the vector that joins the time embedding (SDXL), 0 for none; in its place `classes` learned embeddings may be chosen from
    (the noise levels of SD x4 upscaler).  `cross_only` has one entry per resolution level, True where the first attention of a
    block is to the context as well, and none to the positions themselves; () for nowhere.
    The first networks of latent diffusion have further forms: `self_only`, attention to the positions alone, without a context
    (`SelfAttentionBlock`, any depth but 0 is one of them); `scale_shift`, where the time embedding scales and shifts norms; and
    `resampling_blocks`, residual blocks in the place of plain steps between levels.
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    res_blocks: int = 2
    transformer_depth: tuple[int, ...] = (1, 1, 1, 0)
    middle_depth: int = 1
    context_dim: int = 768
    heads: int = 8
    head_width: int = 0
    vector_width: int = 0
    output_depth: tuple[int, ...] = ()
    middle_res_blocks: int = 2
    classes: int = 0
    cross_only: tuple[bool, ...] = ()
    self_only: bool = False
    scale_shift: bool = False
    resampling_blocks: bool = False

    @property
    def vector_inputs(self) -> int:
        """Numbers of the vector that the network is given: one where it is the number of a class."""
        return self.vector_width or min(1, self.classes)

    @property
    def depths_up(self) -> tuple[int, ...]:
        """Transformer depth of each block on the way up, coarsest first."""
        return self.output_depth or mirrored(self.transformer_depth, self.res_blocks)

    def heads_at(self, channels: int) -> int:
        """Attention heads of a layer with this many channels."""
        return max(1, channels // self.head_width) if self.head_width else self.heads

    @property
    def downsampling(self) -> int:
        """By how much the coarsest level is smaller than the latent."""
        return int(2 ** (len(self.channels) - 1))


def mirrored(transformer_depth: Sequence[int], res_blocks: int) -> tuple[int, ...]:
    """The depths of the blocks on the way up, coarsest first, where each level has the depth of the way down."""
    return tuple(depth for depth in reversed(transformer_depth) for _ in range(res_blocks + 1))


class UNet(nn.Module):
    """eps or v prediction from a noisy latent, its timesteps and a text context.

    `source` is what its weights are known by, for what is kept of them on disk: empty where nothing else has the same ones.
    `title` is their file's name, for the log.
    """

    source = ""
    title = ""

    def __init__(self, config: UNetConfig, attend: Attend = sdpa, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.config = config
        width = config.channels[0]
        time_width = width * 4
        last = len(config.channels) - 1

        cross_only = config.cross_only or (False,) * (last + 1)

        def transformer(channels: int, depth: int, cross_only: bool = False) -> list[nn.Module]:
            if not depth:
                return []
            heads = config.heads_at(channels)
            if config.self_only:
                return [SelfAttentionBlock(channels, heads, attend, kernels)]
            return [SpatialTransformer(channels, config.context_dim, heads, depth, attend, kernels, cross_only)]

        def residual(channels: int, out: int) -> ResBlock:
            return ResBlock(channels, time_width, out, kernels, config.scale_shift)

        def resampling(channels: int, way: str) -> nn.Module:
            if config.resampling_blocks:
                return ResBlock(channels, time_width, channels, kernels, config.scale_shift, way)
            return Downsample(channels) if way == "down" else Upsample(channels)

        self.time_embed = Sequential(Linear(width, time_width), nn.SiLU(), Linear(time_width, time_width))
        if config.vector_width:
            embed = Sequential(Linear(config.vector_width, time_width), nn.SiLU(), Linear(time_width, time_width))
            self.label_emb: nn.Module = Sequential(embed)
        elif config.classes:
            self.label_emb = nn.Embedding(config.classes, time_width)

        blocks: list[nn.Module] = [nn.ModuleList([Conv2d(config.in_channels, width, 3, padding=1)])]
        skips = [width]
        channels = width
        for level, (out, depth) in enumerate(zip(config.channels, config.transformer_depth, strict=True)):
            for _ in range(config.res_blocks):
                block = [residual(channels, out), *transformer(out, depth, cross_only[level])]
                blocks.append(nn.ModuleList(block))
                channels = out
                skips.append(channels)
            if level != last:
                blocks.append(nn.ModuleList([resampling(channels, "down")]))
                skips.append(channels)
        self.input_blocks = nn.ModuleList(blocks)

        middle: list[nn.Module] = [residual(channels, channels) for _ in range(config.middle_res_blocks)]
        self.middle_block = nn.ModuleList([*middle[:1], *transformer(channels, config.middle_depth), *middle[1:]])

        blocks = []
        depths = iter(config.depths_up)
        for level in reversed(range(last + 1)):
            out = config.channels[level]
            for index in range(config.res_blocks + 1):
                block = [residual(channels + skips.pop(), out), *transformer(out, next(depths), cross_only[level])]
                channels = out
                if level and index == config.res_blocks:
                    block.append(resampling(channels, "up"))
                blocks.append(nn.ModuleList(block))
        self.output_blocks = nn.ModuleList(blocks)

        self.out = Sequential(GroupNorm(32, width), nn.SiLU(), Conv2d(width, config.out_channels, 3, padding=1))
        self.kernels = kernels
        res_blocks = [module for module in self.modules() if isinstance(module, ResBlock)]
        self.embeddings = Stack([cast(Linear, block.emb_layers[1]) for block in res_blocks])
        transformers = [module for module in self.modules() if isinstance(module, BasicTransformerBlock)]
        self._to_context = [attention for block in transformers for attention in block.to_context]
        self.of_context = Stack([layer for each in self._to_context for layer in (each.to_k, each.to_v)])
        name_layers(self)

    def join(self) -> None:
        """Let projections of one input be one matrix product each: fewer and larger ones (`Stack`)."""
        self.embeddings.join()
        for module in self.modules():
            if isinstance(module, BasicTransformerBlock):
                module.join()
        self.of_context.join()  # last: a block's own lie together in it, as they do where blocks are moved apart

    def keys_values(self, context: Tensor, ctx: ForwardContext | None = None) -> KeysValues:
        """What all attentions to the context (B, T, context_dim) make of it; hypernetworks in `ctx` are left alone."""
        made = iter(self.of_context(context, ctx))
        return KeysValues({attention.place: (next(made), next(made)) for attention in self._to_context})

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | KeysValues,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise (or v) in `x`.

        Args:
            x: (B, in_channels, H, W), already scaled to the network's input variance.
            timesteps: (B,) in [0, 999]; fractions allowed.
            context: (B, T, context_dim), the encoded prompt, or its keys and values, where these are known; networks that
                attend to none leave it alone.
            ctx: what rows ask of the layers; taps of layers that this network does not have stay without an answer.
            vector: (B, vector_inputs), for networks that take one.

        Returns:
            (B, out_channels, H, W).
        """
        time = timestep_embedding(timesteps, self.config.channels[0]).to(x.dtype)
        time = self.time_embed(time, ctx)
        if vector is not None:
            classes = self.config.classes and not self.config.vector_width
            time = time + (self.label_emb(vector[:, 0].long()) if classes else self.label_emb(vector.to(x.dtype), ctx))
        # In one product for all blocks, unless each block's weights come only when it runs
        embedded = iter(self.embeddings(F.silu(time), ctx) if self.embeddings.joined else ())
        if isinstance(context, Tensor) and self.of_context.joined and (ctx is None or not ctx.hypernetworks):
            context = self.keys_values(context, ctx)

        # Down: keep every block's output for the way up
        skips = []
        h = x
        for block in self.input_blocks:
            h = _run(block, h, time, embedded, context, ctx)
            skips.append(h)

        # Middle
        h = _run(self.middle_block, h, time, embedded, context, ctx)
        if ctx is not None and ctx.residuals is not None:
            *residuals, middle = ctx.residuals
            h = h + middle
            skips = [skip + residual for skip, residual in zip(skips, residuals, strict=True)]

        # Up: each block sees the matching output of the way down
        for number, block in enumerate(self.output_blocks):
            skip = skips.pop()
            if ctx is not None and ctx.skip_edits:
                h, skip = ctx.joined(h, skip, Join(number, self.config.channels[0]))
            h = torch.cat([h, skip], dim=1)
            del skip  # else it lives beside its copy while the block runs
            size = (skips[-1].shape[-2], skips[-1].shape[-1]) if skips else (h.shape[-2], h.shape[-1])
            h = _run(block, h, time, embedded, context, ctx, size)
        h = cast(GroupNorm, self.out[0]).by(self.kernels, h, ctx, silu=True)
        return self.out[2](h, ctx)  # type: ignore[no-any-return]


def _run(
    block: nn.Module,
    h: Tensor,
    time: Tensor,
    embedded: Iterator[Tensor],
    context: Tensor | KeysValues,
    ctx: ForwardContext | None,
    size: tuple[int, int] = (0, 0),
) -> Tensor:
    """Each layer of a block gets what it needs; `embedded` is known already of residual blocks to come."""
    assert isinstance(block, nn.ModuleList)
    for layer in block:
        if isinstance(layer, ResBlock):
            h = layer(h, time, ctx, next(embedded, None), size)
        elif isinstance(layer, SpatialTransformer):
            h = layer(h, context, ctx)
        elif isinstance(layer, Upsample):
            h = layer(h, size, ctx)
        else:
            h = layer(h, ctx)
    return h
