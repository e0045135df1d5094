"""The sizes of the networks in a file, derived from the shapes of its tensors, and the tensors that such networks have.

Nothing is looked up in a configuration file: a real SD 1.x file, one with 9 input channels and our narrow starter go through
the same lines.  No torch: the web process checks with it what it lists, so that a file is listed as usable only if it can be
painted with; `shapes.py` makes the networks' configurations of it.

Numbered parts (layers, blocks) are counted by the highest number there is, so a part that is missing in between is missed and
never taken for the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import NamedTuple

from modules.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
Tensors = Iterator[tuple[str, tuple[int, ...]]]

MAX_WIDTH = 32_768
"""Channels of any layer; the widest of SD 1.x has 10240, of Flux 21504."""
MAX_NUMBER = 200
"""Of numbered parts; the largest text encoders have 32 layers."""
NORM_GROUPS = 32


class UNetSizes(NamedTuple):
    """As in `diffusion.unet.UNetConfig`, without what shapes do not tell: the number of heads."""

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    res_blocks: int
    transformer_depth: tuple[int, ...]
    middle_depth: int
    context_dim: int
    vector_width: int
    output_depth: tuple[int, ...] = ()
    middle_res_blocks: int = 2
    classes: int = 0
    cross_only: tuple[bool, ...] = ()
    self_only: bool = False
    scale_shift: bool = False
    resampling_blocks: bool = False

    @property
    def depths_up(self) -> tuple[int, ...]:
        return self.output_depth or _mirrored(self.transformer_depth, self.res_blocks)


class VAESizes(NamedTuple):
    """As in `diffusion.vae.VAEConfig`."""

    channels: tuple[int, ...]
    res_blocks: int
    latent_channels: int
    image_channels: int
    codebook: int = 0
    attention: tuple[bool, ...] = ()
    middle_attention: bool = True
    quantised: bool = True


class TextSizes(NamedTuple):
    """As in `diffusion.text.TextConfig`."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int
    projection: int


# ---- from shapes to sizes


def unet_sizes(shapes: Shapes) -> UNetSizes:
    """Of a U-Net whose tensors have these ldm names and shapes.

    Raises:
        CheckpointError: the tensors are no U-Net of the form that we build.
    """
    counts = part_counts(shapes)
    resolutions: list[list[tuple[int, int]]] = [[]]  # per resolution: (channels, transformer depth) of each residual block
    cross_only = [False]
    steps = _resampling_blocks(shapes, counts)
    for index in range(1, counts.get("input_blocks", 0)):
        block = f"input_blocks.{index}"
        if index in steps or f"{block}.0.op.weight" in shapes or f"{block}.0.op.bias" in shapes:
            resolutions.append([])
            cross_only.append(False)
        else:
            width = size_at(shapes, f"{block}.0.out_layers.3.weight", 0)
            resolutions[-1].append((width, _depth(shapes, counts, block)))
            # Where the text is as wide as the level, shapes do not tell: the only such one that is published attends to itself
            seen = shapes.get(f"{block}.1.transformer_blocks.0.attn1.to_k.weight", ())
            cross_only[-1] |= len(seen) == 2 and seen[1] != width
    if any(len(set(level)) != 1 or len(level) != len(resolutions[0]) for level in resolutions):
        raise CheckpointError(f"has a U-Net of an unknown form (blocks per level: {resolutions}); use a model in SD 1.x layout")

    context = next((shape for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")), ())
    self_only = not context and any(name.endswith(".qkv.weight") for name in shapes)
    if len(context) != 2 and not self_only:
        raise CheckpointError("has a U-Net without attention to a text, so it cannot follow a prompt; use another file")
    channels = tuple(level[0][0] for level in resolutions)
    first = size_at(shapes, "input_blocks.0.0.weight", 0)
    _check_groups("U-Net", (first, *channels))
    if channels[0] != first:
        raise CheckpointError(
            "has a U-Net of an unknown form (its first level is wider than its input); use a model in SD 1.x layout"
        )
    depth = tuple(level[0][1] for level in resolutions)
    as_down = _mirrored(depth, len(resolutions[0]))
    # A block without its transformer, where its level has one on the way down, is a file that lacks something
    depths_up = tuple(_depth(shapes, counts, f"output_blocks.{index}") or mirror for index, mirror in enumerate(as_down))
    return UNetSizes(
        in_channels=size_at(shapes, "input_blocks.0.0.weight", 1),
        out_channels=size_at(shapes, "out.2.weight", 0),
        channels=channels,
        res_blocks=len(resolutions[0]),
        transformer_depth=depth,
        middle_depth=_depth(shapes, counts, "middle_block"),
        context_dim=1 if self_only else context[1],
        vector_width=size_at(shapes, "label_emb.0.0.weight", 1) if "label_emb.0.0.weight" in shapes else 0,
        output_depth=() if depths_up == as_down else depths_up,
        middle_res_blocks=min(2, counts.get("middle_block", 0)),
        classes=size_at(shapes, "label_emb.weight", 0) if "label_emb.weight" in shapes else 0,
        cross_only=tuple(cross_only) if any(cross_only) else (),
        self_only=self_only,
        scale_shift=shapes.get("input_blocks.1.0.emb_layers.1.weight", (0,))[:1] == (2 * channels[0],),
        resampling_blocks=bool(steps),
    )


def _depth(shapes: Shapes, counts: Mapping[str, int], block: str) -> int:
    """Transformer blocks of a block; 1 where it attends to its own positions alone (ldm's `AttentionBlock`)."""
    return counts.get(f"{block}.1.transformer_blocks", 0) or int(f"{block}.1.qkv.weight" in shapes)


def _resampling_blocks(shapes: Shapes, counts: Mapping[str, int]) -> range:
    """The input blocks that are residual blocks in the place of a step to the next level; none in most networks.

    On the way up each of these has a residual block behind its others; on the way down they look like any other.
    """
    up = sum(
        any(f"output_blocks.{index}.{place}.in_layers.0.weight" in shapes for place in (1, 2))
        for index in range(counts.get("output_blocks", 0))
    )
    number = counts.get("input_blocks", 0)
    every = number // (up + 1)
    return range(every, number, every) if up and every else range(0)


def _mirrored(transformer_depth: tuple[int, ...], res_blocks: int) -> tuple[int, ...]:
    """The depths of the blocks on the way up, coarsest first, where each level has the depth of the way down."""
    return tuple(depth for depth in reversed(transformer_depth) for _ in range(res_blocks + 1))


def vae_sizes(shapes: Shapes) -> VAESizes:
    """Of an autoencoder; encoder and decoder mirror each other.

    Raises:
        CheckpointError: the tensors are no autoencoder of the form that we build.
    """
    counts = part_counts(shapes)
    number = counts.get("encoder.down", 0)
    if not number:
        raise CheckpointError("has an autoencoder without an encoder; use a full checkpoint")
    resolutions = [size_at(shapes, f"encoder.down.{level}.block.0.conv1.weight", 0) for level in range(number)]
    _check_groups("autoencoder", resolutions)
    attention = tuple(bool(counts.get(f"encoder.down.{level}.attn", 0)) for level in range(number))
    latent_channels = size_at(shapes, "decoder.conv_in.weight", 1)
    return VAESizes(
        channels=tuple(resolutions),
        res_blocks=counts.get("encoder.down.0.block", 0),
        latent_channels=latent_channels,
        image_channels=size_at(shapes, "encoder.conv_in.weight", 1),
        codebook=size_at(shapes, "quantize.embedding.weight", 0) if "quantize.embedding.weight" in shapes else 0,
        attention=attention if any(attention) else (),
        middle_attention=any(f"{half}.mid.attn_1.{each}.weight" in shapes for half in _HALVES for each in _ATTENTION),
        # Of SD 3 and Flux; elsewhere their absence is a torn file
        quantised=latent_channels != 16 or not {"quant_conv.weight", "post_quant_conv.weight"}.isdisjoint(shapes),
    )


_HALVES, _ATTENTION = ("encoder", "decoder"), ("norm", "q", "k", "v", "proj_out")


def text_sizes(shapes: Shapes) -> TextSizes:
    """Of a CLIP text encoder under transformers' names.  CLIP's heads are 64 wide; a narrower model has one.

    Raises:
        CheckpointError: the tensors are no CLIP text encoder.
    """
    vocabulary, width = (size_at(shapes, "embeddings.token_embedding.weight", axis) for axis in (0, 1))
    return TextSizes(
        vocabulary=vocabulary,
        width=width,
        layers=part_counts(shapes).get("encoder.layers", 0),
        heads=max(1, width // 64),
        hidden=size_at(shapes, "encoder.layers.0.mlp.fc1.weight", 0),
        positions=size_at(shapes, "embeddings.position_embedding.weight", 0),
        projection=size_at(shapes, "text_projection.weight", 0) if "text_projection.weight" in shapes else 0,
    )


def part_counts(names: Iterable[str]) -> dict[str, int]:
    """How many numbered children each part has, by the highest number; numbers beyond `MAX_NUMBER` are not a network's.

    >>> part_counts(["layers.0.bias", "layers.3.bias", "out.2.bias"])
    {'layers': 4, 'out': 3}
    """
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        for place, part in enumerate(parts):
            if part.isdecimal() and part.isascii() and len(part) <= 3 and int(part) < MAX_NUMBER:
                parent = ".".join(parts[:place])
                counts[parent] = max(counts.get(parent, 0), int(part) + 1)
    return counts


def size_at(shapes: Shapes, name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"lacks the tensor {name!r}; the file is incomplete, download it again")
    if len(shape) <= axis or not 1 <= shape[axis] <= (2**20 if "embedding" in name else MAX_WIDTH):
        raise CheckpointError(f"has the tensor {name!r} in the impossible shape {shape}; use another file")
    return shape[axis]


def _check_groups(part: str, widths: tuple[int, ...] | list[int]) -> None:
    for width in widths:
        if width % NORM_GROUPS:
            raise CheckpointError(
                f"has a {part} {width} channels wide, which group normalisation cannot divide by 32; use another file"
            )


# ---- from sizes to tensors, in the order of the networks' state dicts


def unet_tensors(sizes: UNetSizes) -> Tensors:
    """Name and shape of every tensor of a U-Net of these sizes."""
    width, time = sizes.channels[0], sizes.channels[0] * 4
    last = len(sizes.channels) - 1
    yield from linear_tensors("time_embed.0", width, time)
    yield from linear_tensors("time_embed.2", time, time)
    if sizes.vector_width:
        yield from linear_tensors("label_emb.0.0", sizes.vector_width, time)
        yield from linear_tensors("label_emb.0.2", time, time)
    elif sizes.classes:
        yield "label_emb.weight", (sizes.classes, time)
    yield from _conv("input_blocks.0.0", sizes.in_channels, width)
    skips, channels, index = [width], width, 1
    cross_only = sizes.cross_only or (False,) * len(sizes.channels)
    for level, (out, depth) in enumerate(zip(sizes.channels, sizes.transformer_depth, strict=True)):
        for _ in range(sizes.res_blocks):
            yield from _unet_block(sizes, f"input_blocks.{index}", channels, out, depth, cross_only[level])
            channels, index = out, index + 1
            skips.append(channels)
        if level != last:
            yield from _step(sizes, f"input_blocks.{index}.0", "op", channels)
            index += 1
            skips.append(channels)
    if sizes.middle_res_blocks:
        yield from _unet_block(sizes, "middle_block", channels, channels, sizes.middle_depth)
    if sizes.middle_res_blocks > 1:
        yield from _res_block(sizes, f"middle_block.{2 if sizes.middle_depth else 1}", channels, channels)
    index = 0
    for level in reversed(range(last + 1)):
        out = sizes.channels[level]
        for number in range(sizes.res_blocks + 1):
            depth = sizes.depths_up[index]
            block = f"output_blocks.{index}"
            yield from _unet_block(sizes, block, channels + skips.pop(), out, depth, cross_only[level])
            channels, index = out, index + 1
            if level and number == sizes.res_blocks:
                yield from _step(sizes, f"{block}.{2 if depth else 1}", "conv", channels)
    yield from _norm("out.0", width)
    yield from _conv("out.2", width, sizes.out_channels)


def vae_tensors(sizes: VAESizes) -> Tensors:
    """Name and shape of every tensor of an autoencoder of these sizes."""
    widths, latent = sizes.channels, sizes.latent_channels
    top, moments = len(widths) - 1, latent if sizes.codebook else 2 * latent
    attention = sizes.attention or (False,) * len(widths)
    yield from _conv("encoder.conv_in", sizes.image_channels, widths[0])
    for level, width in enumerate(widths):
        before = widths[max(0, level - 1)]
        yield from _vae_level(f"encoder.down.{level}", before, width, sizes.res_blocks, attention[level])
        if level < top:
            yield from _conv(f"encoder.down.{level}.downsample.conv", width, width)
    yield from _vae_middle("encoder.mid", widths[-1], sizes.middle_attention)
    yield from _norm("encoder.norm_out", widths[-1])
    yield from _conv("encoder.conv_out", widths[-1], moments)
    yield from _conv("decoder.conv_in", latent, widths[-1])
    yield from _vae_middle("decoder.mid", widths[-1], sizes.middle_attention)
    for level, width in enumerate(widths):
        before = widths[min(top, level + 1)]
        yield from _vae_level(f"decoder.up.{level}", before, width, sizes.res_blocks + 1, attention[level])
        if level:
            yield from _conv(f"decoder.up.{level}.upsample.conv", width, width)
    yield from _norm("decoder.norm_out", widths[0])
    yield from _conv("decoder.conv_out", widths[0], sizes.image_channels)
    if sizes.codebook:
        yield "quantize.embedding.weight", (sizes.codebook, latent)
    if sizes.quantised:
        yield from _conv("quant_conv", moments, moments, 1)
        yield from _conv("post_quant_conv", latent, latent, 1)


def text_tensors(sizes: TextSizes) -> Tensors:
    """Name and shape of every tensor of a text encoder of these sizes."""
    width = sizes.width
    yield "embeddings.token_embedding.weight", (sizes.vocabulary, width)
    yield "embeddings.position_embedding.weight", (sizes.positions, width)
    for number in range(sizes.layers):
        layer = f"encoder.layers.{number}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear_tensors(f"{layer}.self_attn.{projection}", width, width)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from linear_tensors(f"{layer}.mlp.fc1", width, sizes.hidden)
        yield from linear_tensors(f"{layer}.mlp.fc2", sizes.hidden, width)
        yield from _norm(f"{layer}.layer_norm2", width)
    yield from _norm("final_layer_norm", width)
    if sizes.projection:
        yield "text_projection.weight", (sizes.projection, width)


def _unet_block(sizes: UNetSizes, block: str, channels: int, out: int, depth: int, cross_only: bool = False) -> Tensors:
    yield from _res_block(sizes, f"{block}.0", channels, out)
    if depth and sizes.self_only:
        yield from _norm(f"{block}.1.norm", out)
        yield from linear_tensors(f"{block}.1.qkv", out, 3 * out)
        yield from linear_tensors(f"{block}.1.proj_out", out, out)
    elif depth:
        yield from _transformer(f"{block}.1", out, depth, sizes.context_dim, cross_only)


def _step(sizes: UNetSizes, name: str, convolution: str, channels: int) -> Tensors:
    """From one level to the next: a residual block, or a convolution of this name."""
    if sizes.resampling_blocks:
        yield from _res_block(sizes, name, channels, channels)
    else:
        yield from _conv(f"{name}.{convolution}", channels, channels)


def _res_block(sizes: UNetSizes, name: str, channels: int, out: int) -> Tensors:
    yield from _norm(f"{name}.in_layers.0", channels)
    yield from _conv(f"{name}.in_layers.2", channels, out)
    yield from linear_tensors(f"{name}.emb_layers.1", sizes.channels[0] * 4, out * (2 if sizes.scale_shift else 1))
    yield from _norm(f"{name}.out_layers.0", out)
    yield from _conv(f"{name}.out_layers.3", out, out)
    if channels != out:
        yield from _conv(f"{name}.skip_connection", channels, out, 1)


def _transformer(name: str, width: int, depth: int, context: int, cross_only: bool) -> Tensors:
    yield from _norm(f"{name}.norm", width)
    yield from _conv(f"{name}.proj_in", width, width, 1)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        yield from _attention(f"{block}.attn1", width, context if cross_only else width)
        yield from linear_tensors(f"{block}.ff.net.0.proj", width, width * 8)
        yield from linear_tensors(f"{block}.ff.net.2", width * 4, width)
        yield from _attention(f"{block}.attn2", width, context)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _norm(f"{block}.{norm}", width)
    yield from _conv(f"{name}.proj_out", width, width, 1)


def _attention(name: str, width: int, context: int) -> Tensors:
    yield f"{name}.to_q.weight", (width, width)
    yield f"{name}.to_k.weight", (width, context)
    yield f"{name}.to_v.weight", (width, context)
    yield from linear_tensors(f"{name}.to_out.0", width, width)


def _vae_level(name: str, channels: int, out: int, blocks: int, attends: bool) -> Tensors:
    for number, width in enumerate([channels, *[out] * (blocks - 1)]):
        yield from _vae_block(f"{name}.block.{number}", width, out)
        if attends:
            yield from _vae_attention(f"{name}.attn.{number}", out)


def _vae_middle(name: str, width: int, attends: bool) -> Tensors:
    yield from _vae_block(f"{name}.block_1", width, width)
    if attends:
        yield from _vae_attention(f"{name}.attn_1", width)
    yield from _vae_block(f"{name}.block_2", width, width)


def _vae_attention(name: str, width: int) -> Tensors:
    yield from _norm(f"{name}.norm", width)
    for projection in ("q", "k", "v", "proj_out"):
        yield from _conv(f"{name}.{projection}", width, width, 1)


def _vae_block(name: str, channels: int, out: int) -> Tensors:
    yield from _norm(f"{name}.norm1", channels)
    yield from _conv(f"{name}.conv1", channels, out)
    yield from _norm(f"{name}.norm2", out)
    yield from _conv(f"{name}.conv2", out, out)
    if channels != out:
        yield from _conv(f"{name}.nin_shortcut", channels, out, 1)


def _conv(name: str, channels: int, out: int, kernel: int = 3) -> Tensors:
    yield f"{name}.weight", (out, channels, kernel, kernel)
    yield f"{name}.bias", (out,)


def linear_tensors(name: str, width: int, out: int) -> Tensors:
    yield f"{name}.weight", (out, width)
    yield f"{name}.bias", (out,)


def _norm(name: str, width: int) -> Tensors:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def same_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes hold the same numbers in the same order: equal but for ones at their ends.

    Linear layers and 1x1 convolutions hold the same numbers; autoencoders are found with either.
    """
    return prod(one) == prod(other) and _without_ones(one) == _without_ones(other)


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return sizes
